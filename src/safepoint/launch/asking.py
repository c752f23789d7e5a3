"""A release's own address, asked directly and by the name that people use."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit


def answers(upstream: str, path: str, public_url: str, *, timeout: float = 5.0) -> int | None:
    """The status that a release's own address answers with, or None when nothing answers there.

    The release is asked directly, not through the router, but by the name that people use: an application that
    checks the Host header would refuse its own address.
    """
    return _ask(upstream, path, public_url, timeout)[0]


def is_gone(upstream: str, path: str, public_url: str, *, timeout: float = 5.0) -> bool:
    """Whether nothing is at a release's own address any more.

    One that takes the question and says nothing is there: it hangs, and what it hangs on may end.
    """
    status, hangs = _ask(upstream, path, public_url, timeout)
    return status is None and not hangs


def _ask(upstream: str, path: str, public_url: str, timeout: float) -> tuple[int | None, bool]:
    """The status, and whether the question was taken and not answered in time."""
    public, address = urlsplit(public_url), urlsplit(f"//{upstream}")
    forwarded = {"Host": public.netloc, "X-Forwarded-Proto": public.scheme}
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=timeout)
    taken = False
    try:
        connection.connect()
        taken = True
        connection.request("GET", path, headers={"User-Agent": "safepoint", **forwarded})
        return connection.getresponse().status, False
    except TimeoutError:
        return None, taken
    except (OSError, http.client.HTTPException):
        return None, False
    finally:
        connection.close()
