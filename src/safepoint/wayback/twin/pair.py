"""The live database and its twin: beside each other on one server, or the twin on another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from safepoint.postgres.connections import Connection
from safepoint.postgres.target import Target
from safepoint.wayback.sessions import at_maintenance


@dataclass(frozen=True)
class Pair:
    """Where both are, each by a login of its own, with the database beside each that the conductor works from.

    `twin` bears the twin's own name until a rollback: then it takes the name of `live`, on whichever server it is.
    """

    live: Target
    twin: Target
    launch_id: str
    maintenance: str = "postgres"
    twin_maintenance: str = "postgres"

    @classmethod
    def beside(cls, live: Target, twin: str, launch_id: str, maintenance: str = "postgres") -> Pair:
        """A twin of this name on the live database's own server."""
        return cls(live, live.on(twin), launch_id, maintenance, maintenance)

    @property
    def apart(self) -> bool:
        """Whether the twin is on another server."""
        return not self.live.same_server(self.twin)

    @property
    def server(self) -> str | None:
        """The twin's server for people (`host:port`), where it is another one."""
        return self.twin.address if self.apart else None

    @property
    def swapped_in(self) -> Target:
        """The twin once a rollback has swapped it in."""
        return self.twin.on(self.live.dbname)

    def at_live(self) -> Connection:
        """A connection beside the live database."""
        return at_maintenance(self.live, self.maintenance)

    def at_twin(self) -> Connection:
        """A connection beside the twin."""
        return at_maintenance(self.twin, self.twin_maintenance)

    @contextmanager
    def both(self) -> Iterator[tuple[Connection, Connection]]:
        """Connections beside the live database and beside the twin; the same one where they are on one server."""
        with ExitStack() as stack:
            live = stack.enter_context(self.at_live())
            yield live, stack.enter_context(self.at_twin()) if self.apart else live
