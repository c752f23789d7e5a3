"""One HTTP exchange with a router: no proxy of the environment, no redirects followed, a limit on time."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from safepoint.errors import RouterAway, RouterError

_MOST_BYTES = 16 * 1024 * 1024
_PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds between the tries of a request whose connection was reset or refused."""


@dataclass(frozen=True)
class Answer:
    """A status, the headers (names in lower case) and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def exchange(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    remedy: str | None = None,
) -> Answer:
    """Send one request and read the whole answer, whatever its status.

    A connection that is reset or refused is tried again for about a second: Caddy replaces the listener of its admin
    API with each new configuration. All that is sent to a router may be sent twice.

    Raises:
        RouterAway: nobody answers within `timeout` seconds; `remedy` is told then.
        RouterError: it answers, but not in HTTP, or with a certificate that does not do.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RouterError(f"{url!r} is not an http or https URL.", subject=url, remedy=remedy)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def once() -> Answer:
        connection = kind(str(parts.hostname), parts.port, timeout=timeout)
        try:
            connection.request(method, target, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            data = response.read(_MOST_BYTES)
        finally:
            connection.close()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    try:
        for pause in _PAUSES:
            try:
                return once()
            except ConnectionError:
                time.sleep(pause)
        return once()
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = str(error) or type(error).__name__
        place = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        away = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
        kind_of_error = RouterAway if away else RouterError
        raise kind_of_error(
            f"The router does not answer properly at {place}: {said}.", subject=url, remedy=remedy
        ) from error
