"""The swap: the twin takes the live database's name, and the migrated database is kept under another one.

Both renames, the comments and the opening of the twin are one transaction, so there is no state between; on two
servers they are one transaction on each. Which of the two databases has which name is told by their oids, so a swap
that already happened, or happened by half, is known as such.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from safepoint.errors import DatabaseError, Refused, ResourcesExhausted, ServerAway
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
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.twin import Database, TwinFacts, look_up


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


def swap(pair: Pair, facts: TwinFacts, kept_as: str | None = None) -> SwapFacts:
    """Let the twin become the live database. May be run again at any time.

    The sessions on both are ended, and kept out until it is done.

    Args:
        kept_as: the name under which the migrated database is kept; by default `names.kept_name`.

    Raises:
        Refused: the databases are not those of the facts, the name is taken, or something holds them open.
        DatabaseError: PostgreSQL refused; nothing was changed.
    """
    kept_as = kept_as or kept_name(facts.live, facts.launch_id)
    exchange = _Exchange(
        live=facts.live,
        out_oid=facts.live_oid,
        out_name=kept_as,
        out_role="the migrated database, swapped out",
        in_oid=facts.twin_oid,
        in_name=facts.twin,
        in_role="live since the rollback",
        launch_id=facts.launch_id,
        at=facts.at,
    )
    with _saying_half_way(pair, facts, kept_as, "`safepoint return`"):
        return _exchange(exchange, _Side(pair.live, pair.maintenance), _Side(pair.twin, pair.twin_maintenance))


def unswap(pair: Pair, facts: TwinFacts, kept_as: str | None = None) -> SwapFacts:
    """Return to the migrated database: it takes the live name again, and the twin is set aside. Raises as `swap`."""
    kept_as = kept_as or kept_name(facts.live, facts.launch_id)
    exchange = _Exchange(
        live=facts.live,
        out_oid=facts.twin_oid,
        out_name=facts.twin,
        out_role="set aside when the launch went on",
        in_oid=facts.live_oid,
        in_name=kept_as,
        in_role=None,
        launch_id=facts.launch_id,
        at=facts.at,
    )
    with _saying_half_way(pair, facts, kept_as, "`safepoint retry`"):
        return _exchange(exchange, _Side(pair.twin, pair.twin_maintenance), _Side(pair.live, pair.maintenance))


@contextmanager
def _saying_half_way(pair: Pair, facts: TwinFacts, kept_as: str, then: str) -> Iterator[None]:
    """Where the twin's server goes away between the renames on two servers: what a person can do without it.

    No database bears the live name here then, and no command that needs both servers can change that.

    Args:
        then: the command that opens the site on the new release again, once the name is back.

    Raises:
        ServerAway, ResourcesExhausted: that of the swap.
    """
    try:
        yield
    except (ServerAway, ResourcesExhausted) as error:
        if not pair.apart or not _is_kept(pair, facts, kept_as):
            raise
        rename = sql.SQL("ALTER DATABASE {} RENAME TO {};").format(sql.Identifier(kept_as), sql.Identifier(facts.live))
        raise type(error)(
            f"{error.message} No database of {pair.live.address} is called {facts.live} now: the migrated one is "
            f"{kept_as} there, and the twin is on {pair.server}.",
            subject=error.subject,
            expected=error.expected,
            found=error.found,
            remedy=f"Once {pair.server} answers, `safepoint retry` goes on. Where it is gone for good, so is the twin: "
            f"give on {pair.live.address}, in its database {pair.maintenance}, {rename.as_string()} "
            f"Then {then} opens the site on the new release again, with all that was written there.",
        ) from error


def _is_kept(pair: Pair, facts: TwinFacts, kept_as: str) -> bool:
    with suppress(DatabaseError), pair.at_live() as connection:
        return database_name(connection, facts.live_oid) == kept_as
    return False


@dataclass(frozen=True)
class _Side:
    """The server of one of the two databases, as it is worked on."""

    login: Target
    maintenance: str

    def connect(self) -> Connection:
        return at_maintenance(self.login, self.maintenance)

    def keeping_out(self, *oids: int) -> AbstractContextManager[None]:
        return keeping_out(self.login, self.maintenance, oids)


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


def _exchange(exchange: _Exchange, out: _Side, into: _Side) -> SwapFacts:
    """One transaction on one server. On two, the leaving one goes first, so that never two bear the live name."""
    with ExitStack() as stack, asking("Swapping the databases", exchange.live):
        at_out = stack.enter_context(out.connect())
        at_in = at_out if out.login.same_server(into.login) else stack.enter_context(into.connect())
        left, came = _happened(at_out, at_in, exchange)
        if left and came:
            return _facts(exchange, 0.0, already=True)
        leaving, coming = _checked(at_out, at_in, exchange, left=left, came=came)
        began = time.monotonic()
        if at_in is at_out:
            with out.keeping_out(leaving.oid, coming.oid), at_out.transaction():
                _leave(at_out, exchange, leaving)
                _come(at_in, exchange, coming)
        else:
            if not left:
                with out.keeping_out(leaving.oid), at_out.transaction():
                    _leave(at_out, exchange, leaving)
            if not came:
                with into.keeping_out(coming.oid), at_in.transaction():
                    _come(at_in, exchange, coming)
        return _facts(exchange, round(time.monotonic() - began, 3), already=False)


def _leave(connection: Connection, exchange: _Exchange, leaving: Database) -> None:
    _rename(connection, leaving.name, exchange.out_name)
    kept = sql.Identifier(exchange.out_name)
    if exchange.in_role is None:  # a twin that is set aside stays as it is
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(kept))
    _comment(connection, exchange.out_name, exchange.comment(leaving, exchange.out_role))


def _come(connection: Connection, exchange: _Exchange, coming: Database) -> None:
    _rename(connection, coming.name, exchange.live)
    connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(exchange.live)))
    _comment(connection, exchange.live, exchange.comment(coming, exchange.in_role))


def _comment(connection: Connection, name: str, comment: str | None) -> None:
    connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment)))


def _facts(exchange: _Exchange, seconds: float, *, already: bool) -> SwapFacts:
    return SwapFacts(exchange.live, exchange.in_oid, exchange.out_name, exchange.out_oid, seconds, already)


def _happened(at_out: Connection, at_in: Connection, exchange: _Exchange) -> tuple[bool, bool]:
    """Whether the one has left the live name, and whether the other has taken it. A kill may lie between the two only
    where they are on two servers."""
    leaving, coming = database_name(at_out, exchange.out_oid), database_name(at_in, exchange.in_oid)
    left, came = leaving == exchange.out_name, coming == exchange.live
    possible = (left or leaving == exchange.live) and (came or coming == exchange.in_name)
    if possible and (left >= came if at_in is not at_out else left == came):
        return left, came
    raise Refused(
        "The two databases of the swap are not where the launch left them.",
        subject=exchange.live,
        expected=f"oid {exchange.out_oid} named {exchange.live} and oid {exchange.in_oid} named {exchange.in_name}",
        found=f"{leaving or 'gone'} and {coming or 'gone'}",
        remedy="Someone renamed or dropped one of them: nothing was changed. Put the names back, then try again.",
    )


def _checked(
    at_out: Connection, at_in: Connection, exchange: _Exchange, *, left: bool, came: bool
) -> tuple[Database, Database]:
    """Both databases, when nothing stands in the way of renaming them."""
    leaving = look_up(at_out, exchange.out_name if left else exchange.live)
    coming = look_up(at_in, exchange.live if came else exchange.in_name)
    if leaving is None or coming is None:
        raise DatabaseError(f"{exchange.live} vanished just now.", subject=exchange.live)
    if exchange.in_role is not None and not came and not _is_twin(coming, exchange.launch_id):
        raise Refused(
            f"{coming.name} is not a finished twin of this launch.",
            subject=coming.name,
            expected=f"a comment 'made by Safepoint for launch {exchange.launch_id}: twin'",
            found=repr(coming.comment),
            # Of the safe point there is no snapshot: the final one is older. Restoring over what is live is refused
            # while a launch is under way.
            remedy="Nothing was changed. `safepoint return` opens the site on the new release again. The data as of "
            "the final snapshot can be had beside it: `safepoint backups`, then `safepoint restore ID --into NAME`.",
        )
    if not left:
        _refuse_taken(at_out, exchange.out_name, "the database that is swapped out")
    if not came and at_in is not at_out:
        _refuse_taken(at_in, exchange.live, "the database that is swapped in")
    held = [
        one
        for connection, oid in ((at_out, leaving.oid), (at_in, coming.oid))
        for one in (*prepared(connection, [oid]), *walsenders(connection, [oid]))
    ]
    if held:
        raise Refused(
            "Prepared transactions or replication consumers hold the databases open.",
            subject=exchange.live,
            found="; ".join(held[:5]),
            remedy="Decide the prepared transactions and pause the consumers, then try again.",
        )
    return leaving, coming


def _refuse_taken(connection: Connection, name: str, whom: str) -> None:
    if look_up(connection, name) is not None:
        raise Refused(
            f"There is already a database {name}.",
            subject=name,
            expected=f"this name to be free for {whom}",
            remedy=f"Rename {name}, then try again.",
        )


def _is_twin(found: Database, launch_id: str) -> bool:
    mark = found.mark
    return (
        mark is not None and mark.launch_id == launch_id and mark.role in ("twin", "set aside when the launch went on")
    )


def _rename(connection: Connection, old: str, new: str) -> None:
    connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))
