"""A release's own address, asked directly and by the name that people use."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit


def answers(upstream: str, path: str, public_url: str, *, timeout: float = 5.0) -> int | None:
    """The status that a release's own address answers with, or None when nothing answers there.

    The release is asked directly, not through the router, but by the name that people use: an application that
    checks the Host header would refuse its own address.
    """
    public, address = urlsplit(public_url), urlsplit(f"//{upstream}")
    forwarded = {"Host": public.netloc, "X-Forwarded-Proto": public.scheme}
    connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=timeout)
    try:
        connection.request("GET", path, headers={"User-Agent": "safepoint", **forwarded})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
