"""The swap: the twin takes the live database's name, and the migrated database is kept under another one.

Both renames, the comments and the opening of the twin are one transaction, so there is no state between. Which of
the two databases has which name is told by their oids, so a swap that already happened is known as such.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from safepoint.errors import DatabaseError, Refused
from safepoint.postgres.connections import Connection
from safepoint.postgres.target import Target
from safepoint.wayback.names import Mark, kept_name
from safepoint.wayback.sessions import (
    asking,
    at_maintenance,
    database_name,
    keeping_out,
    prepared,
    walsenders,
)
from safepoint.wayback.twin import Database, TwinFacts, look_up


@dataclass(frozen=True)
class SwapFacts:
    """Which database has the live name now, and under which name the other is kept.

    `seconds` is the time in which neither could be reached; 0 when it had happened before (`already`).
    """

    live: str
    live_oid: int
    kept_as: str
    kept_oid: int
    seconds: float
    already: bool

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


def swap(target: Target, facts: TwinFacts, kept_as: str | None = None, *, maintenance: str = "postgres") -> SwapFacts:
    """Let the twin become the live database. May be run again at any time.

    The sessions on both are ended, and kept out until it is done.

    Args:
        kept_as: the name under which the migrated database is kept; by default `names.kept_name`.

    Raises:
        Refused: the databases are not those of the facts, the name is taken, or something holds them open.
        DatabaseError: PostgreSQL refused; nothing was changed.
    """
    kept_as = kept_as or kept_name(facts.live, facts.launch_id)
    return _exchange(
        target,
        maintenance,
        _Exchange(
            live=facts.live,
            out_oid=facts.live_oid,
            out_name=kept_as,
            out_role="the migrated database, swapped out",
            in_oid=facts.twin_oid,
            in_name=facts.twin,
            in_role="live since the rollback",
            launch_id=facts.launch_id,
            at=facts.at,
        ),
    )


def unswap(target: Target, facts: TwinFacts, kept_as: str | None = None, *, maintenance: str = "postgres") -> SwapFacts:
    """Return to the migrated database: it takes the live name again, and the twin is set aside. Raises as `swap`."""
    kept_as = kept_as or kept_name(facts.live, facts.launch_id)
    return _exchange(
        target,
        maintenance,
        _Exchange(
            live=facts.live,
            out_oid=facts.twin_oid,
            out_name=facts.twin,
            out_role="set aside when the launch went on",
            in_oid=facts.live_oid,
            in_name=kept_as,
            in_role=None,
            launch_id=facts.launch_id,
            at=facts.at,
        ),
    )


@dataclass(frozen=True)
class _Exchange:
    """The database `out_oid` leaves the live name and becomes `out_name`; `in_oid` takes it, leaving `in_name`."""

    live: str
    out_oid: int
    out_name: str
    out_role: Any
    in_oid: int
    in_name: str
    in_role: Any
    launch_id: str
    at: str

    def comment(self, found: Database, role: Any) -> str | None:
        below = found.mark.below if found.mark else found.comment
        return below if role is None else str(Mark(self.launch_id, role, self.at, below))


def _exchange(target: Target, maintenance: str, exchange: _Exchange) -> SwapFacts:
    with at_maintenance(target, maintenance) as connection, asking("Swapping the databases", exchange.live):
        if _happened(connection, exchange):
            return _facts(exchange, 0.0, already=True)
        leaving, coming = _checked(connection, exchange)
        began = time.monotonic()
        with keeping_out(target, maintenance, [leaving.oid, coming.oid]), connection.transaction():
            _rename(connection, leaving.name, exchange.out_name)
            _rename(connection, coming.name, exchange.live)
            live, kept = sql.Identifier(exchange.live), sql.Identifier(exchange.out_name)
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(live))
            if exchange.in_role is None:  # a twin that is set aside stays as it is
                connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(kept))
            for name, comment in (
                (live, exchange.comment(coming, exchange.in_role)),
                (kept, exchange.comment(leaving, exchange.out_role)),
            ):
                connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(comment)))
        return _facts(exchange, round(time.monotonic() - began, 3), already=False)


def _facts(exchange: _Exchange, seconds: float, *, already: bool) -> SwapFacts:
    return SwapFacts(exchange.live, exchange.in_oid, exchange.out_name, exchange.out_oid, seconds, already)


def _happened(connection: Connection, exchange: _Exchange) -> bool:
    leaving, coming = (database_name(connection, oid) for oid in (exchange.out_oid, exchange.in_oid))
    if (leaving, coming) == (exchange.out_name, exchange.live):
        return True
    if (leaving, coming) == (exchange.live, exchange.in_name):
        return False
    raise Refused(
        "The two databases of the swap are not where the launch left them.",
        subject=exchange.live,
        expected=f"oid {exchange.out_oid} named {exchange.live} and oid {exchange.in_oid} named {exchange.in_name}",
        found=f"{leaving or 'gone'} and {coming or 'gone'}",
        remedy="Someone renamed or dropped one of them: nothing was changed. Put the names back, then try again.",
    )


def _checked(connection: Connection, exchange: _Exchange) -> tuple[Database, Database]:
    """Both databases, when nothing stands in the way of renaming them."""
    leaving, coming = look_up(connection, exchange.live), look_up(connection, exchange.in_name)
    if leaving is None or coming is None:
        raise DatabaseError(f"{exchange.live} vanished just now.", subject=exchange.live)
    if exchange.in_role is not None and not _is_twin(coming, exchange.launch_id):
        raise Refused(
            f"{coming.name} is not a finished twin of this launch.",
            subject=coming.name,
            expected=f"a comment 'made by Safepoint for launch {exchange.launch_id}: twin'",
            found=repr(coming.comment),
            remedy="Use the snapshot of the safe point instead: `safepoint restore`.",
        )
    if look_up(connection, exchange.out_name) is not None:
        raise Refused(
            f"There is already a database {exchange.out_name}.",
            subject=exchange.out_name,
            expected="this name to be free for the database that is swapped out",
            remedy=f"Rename {exchange.out_name}, then try again.",
        )
    oids = [leaving.oid, coming.oid]
    if held := (*prepared(connection, oids), *walsenders(connection, oids)):
        raise Refused(
            "Prepared transactions or replication consumers hold the databases open.",
            subject=exchange.live,
            found="; ".join(held[:5]),
            remedy="Decide the prepared transactions and pause the consumers, then try again.",
        )
    return leaving, coming


def _is_twin(found: Database, launch_id: str) -> bool:
    mark = found.mark
    return (
        mark is not None and mark.launch_id == launch_id and mark.role in ("twin", "set aside when the launch went on")
    )


def _rename(connection: Connection, old: str, new: str) -> None:
    connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))
