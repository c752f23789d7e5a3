"""What a router is: the thing in front of the application that lets traffic through, holds it off, or splits it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

Mode = Literal["open", "closed", "split"]


@dataclass(frozen=True)
class RouterState:
    """What the router does now, read back from the router itself.

    `upstream` is the release that is let in to (None where closed, or where the router cannot tell);
    `percent` is the share of clients that a split lets in (None otherwise).
    """

    mode: Mode
    upstream: str | None = None
    percent: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The state as it stands in the ledger."""
        return asdict(self)


class Router(Protocol):
    """The switch for traffic.

    Promises: every order is idempotent and is in force for new requests when the method returns; a request that was
    let in before is still answered by the release that took it (so after `close` some may go on, and only the
    database knows when writes have ended). A router that cannot carry an order out raises `RouterError`
    and goes on as before.
    """

    url: str
    tells_split: bool
    """Whether `state` knows of a split; else it says what one client saw, which is either side of it."""

    forgets: bool
    """Whether a restart brings back what the router's own configuration says, whatever it was told since."""

    def close(self, reason: str) -> None:
        """Answer every request with 503 and Retry-After; browsers see a maintenance page with `reason`."""
        ...

    def open(self, upstream: str) -> None:
        """Let everyone in to the release at `upstream`."""
        ...

    def split(self, upstream: str, percent: int) -> None:
        """Let `percent` % of clients (1 to 99) in to the release at `upstream`; the others stay closed off.

        A client is known by a cookie and stays on its side. Raising `percent` keeps in who is in.
        """
        ...

    def state(self) -> RouterState:
        """Ask the router what it does now."""
        ...

    def check(self) -> RouterState:
        """Prove that the router can be reached and would take orders, without changing anything."""
        ...
