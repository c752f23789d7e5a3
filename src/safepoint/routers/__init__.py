"""What lets traffic through, holds it, or splits it. Start with `open_router`."""

from __future__ import annotations

from collections.abc import Callable

from safepoint.config import AnyRouter, CaddyRouter
from safepoint.hosts import Host
from safepoint.routers.caddy import Caddy
from safepoint.routers.command import Commands
from safepoint.routers.router import Router, RouterState

__all__ = ["Router", "RouterState", "open_router"]


def open_router(settings: AnyRouter, hosts: Callable[[str], Host], *, old: str = "") -> Router:
    """The router of a plan file. Nothing is connected before the first order.

    Args:
        hosts: gives the host of a name in the plan file.
        old: the upstream of the old release; a router of commands tells `open_old` from `open_new` by it.
    """
    if isinstance(settings, CaddyRouter):
        return Caddy(settings)
    return Commands(settings, hosts(settings.host), old)
