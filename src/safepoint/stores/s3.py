"""How long a dead link to S3 is waited for: of one that stalls we want to know soon, to try again or to tell it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final

STALLED_SECONDS = 30.0
"""For so long nothing is taken of what was sent, before the connection is given up."""
_ANSWER_SECONDS: Final = 60
"""For so long no answer comes once all was sent; a store may have to put many parts together first."""
_CONNECT_SECONDS: Final = 10


def patient(config: Mapping[str, Any]) -> dict[str, Any]:
    """botocore's settings for a connection, with our limits where the plan file has none of its own.

    Its own trying again is left out: with ours as well, each silence would be waited for several times.
    """
    limits = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _ANSWER_SECONDS,
        "retries": {"total_max_attempts": 1},
    }
    return {**limits, **_sockets(), **config}


def _sockets() -> dict[str, Any]:
    """The words for sockets of our own; none where the library is too old to take them, or not here (told later)."""
    words = {"connector_args": {"socket_factory": _watched_socket}}
    try:
        from aiobotocore.config import AioConfig

        AioConfig(**words)
    except Exception:  # ImportError, or botocore's own kind, which is not imported for this
        return {}
    return words


def sending_at_once(fs: Any) -> Any:
    """The same file system, which sends without asking first whether it may (`Expect: 100-continue`).

    That answer its HTTP client would wait for without any limit.
    """
    fs.connect()
    fs.s3.meta.events.register_last("before-call.s3", _without_expect)
    return fs


def _without_expect(params: dict[str, Any], **_more: Any) -> None:
    params["headers"].pop("Expect", None)


def _watched_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket whose connection the system ends where nothing that was sent is taken any more.

    `read_timeout` counts from when all is sent: of a part that gets stuck half-way it knows nothing (tcp(7),
    TCP_USER_TIMEOUT; Linux only).
    """
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED_SECONDS * 1000))
    return made
