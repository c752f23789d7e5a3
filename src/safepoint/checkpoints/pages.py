"""Pages of the application, asked as a visitor would: through the router, or straight at one release."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx

from safepoint.checkpoints.checkpoint import Checkpoint

_TITLE = "Health page"
_MOST_BYTES: Final = 16 << 20
_SECONDS: Final = 20.0
_STOOD_STILL: Final = 3
"""Times as long as a page may take to connect, to begin and to end."""


class _Whole(httpx.SyncByteStream):
    """An answer that has to come to its end: within a time and a size, for httpx's own limit is on each piece of it."""

    def __init__(self, answer: httpx.Response, request: httpx.Request, began: float) -> None:
        self._stream, self._request = answer.stream, request
        seconds = request.extensions.get("timeout", {}).get("read") or _SECONDS
        self._seconds, self._until = seconds, began + seconds

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for piece in self._stream:  # type: ignore[union-attr]  # a transport that waits for nobody gives this kind
            size += len(piece)
            if size > _MOST_BYTES or time.monotonic() > self._until:
                come = f"{size:,} bytes came in {self._seconds + time.monotonic() - self._until:.1f} s"
                raise httpx.ReadTimeout(f"the page does not come to its end: {come}", request=self._request)
            yield piece

    def close(self) -> None:
        """Let go of the connection."""
        self._stream.close()  # type: ignore[union-attr]  # as above


class Upstream(httpx.BaseTransport):
    """Carries requests for the public address to one release's own address, as the router would.

    The request keeps its `Host`, so ALLOWED_HOSTS, cookies, redirects and the CSRF check see what they see in
    daily life. Requests to any other address are refused: a check must not wander off to another site.
    """

    def __init__(self, public: httpx.URL, upstream: httpx.URL) -> None:
        self._public, self._upstream = public, upstream
        # Reading the authorities' certificates takes longer than a page does.
        self._inner = httpx.HTTPTransport(verify=upstream.scheme == "https")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Its answer has to be whole within the time that its first byte has."""
        began = time.monotonic()
        if request.url.host != self._public.host:
            raise httpx.UnsupportedProtocol(f"the application sent the visitor to {request.url.host}", request=request)
        headers = request.headers.copy()
        if self._public != self._upstream:
            headers["X-Forwarded-Proto"] = self._public.scheme
        there = self._upstream
        # A request of its own: redirects and cookies are reckoned from the one that the visitor made.
        answer = self._inner.handle_request(
            httpx.Request(
                request.method,
                request.url.copy_with(scheme=there.scheme, host=there.host, port=there.port),
                headers=headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )
        answer.stream = _Whole(answer, request, began)
        return answer

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


def visitor(
    base_url: str, *, public_url: str | None = None, cookies: Mapping[str, str] | None = None, timeout: float = 20
) -> httpx.Client:
    """A client without memory of its own that follows redirects within the site.

    Args:
        base_url: where requests go: a release's own address, or the router's.
        public_url: the address that people use, where it is another one; None: `base_url` itself.
        cookies: to begin with, such as the one that lets a canary's client in.
    """
    public = httpx.URL(public_url or base_url)
    return httpx.Client(
        base_url=public,
        transport=Upstream(public, httpx.URL(base_url)),
        cookies=dict(cookies or {}),
        follow_redirects=True,
        timeout=timeout,
        headers={"User-Agent": "safepoint"},
    )


def health(
    base_url: str,
    path: str = "/",
    *,
    public_url: str | None = None,
    timeout: float = 10,
) -> Checkpoint:
    """Fetch one page. Any answer from 200 to 399, redirects followed, passes.

    Where far more time passed than a page has, this process stood still (its machine was paused): it is asked again,
    for a launch would be taken back for that.
    """
    began = time.monotonic()
    status, said = _fetched(base_url, path, public_url, timeout)
    if status is None and time.monotonic() - began > _STOOD_STILL * timeout:
        began = time.monotonic()
        status, said = _fetched(base_url, path, public_url, timeout)
    return judge_health(f"{base_url.rstrip('/')}{path}", status, said, time.monotonic() - began)


def _fetched(base_url: str, path: str, public_url: str | None, timeout: float) -> tuple[int | None, str]:
    """The page's status; or None, and why there is none."""
    try:
        with visitor(base_url, public_url=public_url, timeout=timeout) as client:
            return client.get(path).status_code, ""
    except httpx.HTTPError as error:
        return None, f"{type(error).__name__}: {error}"


def judge_health(url: str, status: int | None, said: str, seconds: float) -> Checkpoint:
    """Judge an answer. Pure."""
    common: dict[str, Any] = {"value": status, "limit": 399, "unit": "HTTP status", "seconds": seconds}
    if status is None:
        return Checkpoint(
            "health",
            _TITLE,
            "fail",
            detail=f"{url} did not answer: {said}",
            remedy="Is the release running, and does it listen at this address?",
            **common,
        )
    detail = f"{url} answered {status} in {seconds * 1000:.0f} ms"
    if 200 <= status < 400:
        return Checkpoint("health", _TITLE, "pass", detail=detail, **common)
    return Checkpoint("health", _TITLE, "fail", detail=detail, remedy=status_remedy(status), **common)


def status_remedy(status: int) -> str:
    """What to do about a status that is not a success. Pure."""
    if status == 400:
        return "Is the address in ALLOWED_HOSTS? Give the public address to the check, or allow this one."
    if status == 403:
        return "Refused: for a form that is mostly CSRF_TRUSTED_ORIGINS, or a proxy that does not pass the host on."
    if status == 404:
        return "There is no such page in this release: correct the path in the plan file."
    if status == 503:
        return "Read the application's error log (what it needs may be away); or a maintenance page answered before it."
    if status >= 500:
        return "Read the application's error log: the page itself fails."
    return "Open the page by hand."
