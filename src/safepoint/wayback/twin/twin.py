"""The twin: a copy of the database at the safe point, at the old schema, that the quick way back swaps in.

Made by CREATE DATABASE ... TEMPLATE inside the window. `STRATEGY file_copy` is used at every size: measured on
15, 17 and 18 it is faster than wal_log (420 MB: 0.2 s against 0.55 s), and it checkpoints by itself, so a crash
cannot set the copy's sequences back. TEMPLATE leaves out the database's settings and grants; they are copied here,
with the fence's read-only default replaced by what stood there before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from safepoint.errors import DatabaseError, Interrupted, Refused
from safepoint.postgres.connections import Connection, cancel, connect
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never
from safepoint.wayback.capture.publication import unpublish
from safepoint.wayback.fence.fence import FencePrior
from safepoint.wayback.names import PREFIX, Made, Mark, feed_name, half_made_limit, own_words, read_mark
from safepoint.wayback.sessions import asking, at_maintenance, keeping_out, prepared
from safepoint.wayback.settings import Setting, apply_setting, collation_version, database_settings
from safepoint.wayback.twin.comparison import verified
from safepoint.wayback.twin.grants import apply_grants, database_grants

Kind = Literal["template", "logical"]
"""How a twin came to be: copied at the safe point, or kept level with the live database until then."""

READ_ONLY: Final = "default_transaction_read_only"

_OWN_TRANSACTIONS: Final = 3
"""How many transaction ids making a twin uses at least: CREATE DATABASE, its settings and grants, its mark."""

DATABASE = """
SELECT d.oid::int8, d.datname, pg_get_userbyid(d.datdba), d.datconnlimit,
       shobj_description(d.oid, 'pg_database')
FROM pg_database d WHERE d.datname = %s
"""


@dataclass(frozen=True)
class Database:
    """A database as `pg_database` has it."""

    oid: int
    name: str
    owner: str
    connection_limit: int
    comment: str | None

    @property
    def mark(self) -> Mark | None:
        """Safepoint's mark in its comment."""
        return read_mark(self.comment)


@dataclass(frozen=True)
class TwinFacts:
    """What stands ready. The oids tell later which of the two databases is which, whatever they are called then.

    `server` is the twin's (`host:port`) where it is not the live database's own. `transactions` is how many transaction
    ids a copy used; 0 where that is not known.
    """

    launch_id: str
    live: str
    live_oid: int
    twin: str
    twin_oid: int
    at: str
    size_bytes: int
    tables: int
    sequences: int
    copy_seconds: float
    seconds: float
    notes: tuple[str, ...] = ()
    kind: Kind = "template"
    server: str | None = None
    transactions: int = 0

    @classmethod
    def of(
        cls,
        launch_id: str,
        live: Database,
        twin: Database,
        at: str,
        sizes: tuple[int, int, int],
        *,
        began: float,
        notes: Sequence[str],
        copied: float = 0.0,
        kind: Kind = "template",
        server: str | None = None,
        transactions: int = 0,
    ) -> TwinFacts:
        """By the databases themselves and what `verified` gave; `began` is of the monotonic clock."""
        tables, sequences, size = sizes
        return cls(
            launch_id=launch_id,
            live=live.name,
            live_oid=live.oid,
            twin=twin.name,
            twin_oid=twin.oid,
            at=at,
            size_bytes=size,
            tables=tables,
            sequences=sequences,
            copy_seconds=round(copied, 3),
            seconds=round(time.monotonic() - began, 3),
            notes=tuple(notes),
            kind=kind,
            server=server,
            transactions=transactions,
        )

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TwinFacts:
        """Back from the ledger."""
        return cls(**{**data, "notes": tuple(data["notes"])})


def look_up(connection: Connection, name: str) -> Database | None:
    """A database by its name; None when there is none."""
    row = connection.execute(DATABASE, (name,)).fetchone()
    return None if row is None else Database(*row)


def make_twin(
    target: Target,
    twin: str,
    launch_id: str,
    *,
    at: str,
    prior: FencePrior | None = None,
    maintenance: str = "postgres",
    cancelled: Cancelled = never,
) -> TwinFacts:
    """Copy the live database as it stands now. The fence should be closed, and nobody may have written since `at`.

    Run again after a kill it finds the finished twin of this safe point and gives its facts, or removes what was
    left half-made (known by a connection limit that CREATE DATABASE itself sets) and copies anew. A finished twin
    lets nobody connect until it is swapped in, so that it stays as it is.

    Args:
        twin: its name, see `names.twin_name`.
        at: the safe point's LSN; a twin of another safe point is out of date and is replaced.
        prior: how things stood before the fence, so that the twin does not inherit the fence.

    Raises:
        Refused: another database has this name, or a prepared transaction is in the way.
        Interrupted: `cancelled` became true; nothing is left.
        DatabaseError: no room on the disk, a right is missing, or the copy differs from its source.
    """
    began = time.monotonic()
    with at_maintenance(target, maintenance) as connection, asking("Making the twin", twin):
        live = live_database(connection, target.dbname)
        copied: float | None = None
        found = _clear_the_way(connection, twin, launch_id, at)
        while found is None and copied is None:
            _refuse_prepared(connection, live)
            copied = _copy(target, maintenance, connection, live, twin, launch_id, cancelled)
            if copied is None:
                found = _clear_the_way(connection, twin, launch_id, at)
        made = look_up(connection, twin)
        if made is None:
            raise DatabaseError(f"The twin {twin} vanished while it was made.", subject=twin)
        furnished = NOTHING if found else furnish(connection, live, connection, twin, prior)
        sizes = verified(target.on(live.name), made.name, finished=found is not None)
        if found is None:
            _without_feed(target.on(twin), launch_id)
            _finish(connection, live, made, Mark(launch_id, "twin", at, own_words(live.comment)))
    return TwinFacts.of(
        launch_id,
        live,
        made,
        at,
        sizes,
        began=began,
        notes=furnished.notes,
        copied=copied or 0.0,
        transactions=_OWN_TRANSACTIONS + furnished.given if copied and not found else 0,
    )


def drop_twin(target: Target, name: str, launch_id: str, *, maintenance: str = "postgres") -> bool:
    """Remove a standing twin of this launch; gives whether there was one. One that was swapped in is refused."""
    roles: set[Made] = {"twin", "twin, kept level", "set aside when the launch went on"}
    with at_maintenance(target, maintenance) as connection, asking("Removing a database", name):
        found = look_up(connection, name)
        if found is None:
            return False
        mark = found.mark
        ours = mark is not None and mark.made and mark.launch_id == launch_id and mark.role in roles
        if not ours and not is_half_made(found, launch_id):
            raise Refused(
                f"{name} is not a database that Safepoint may remove.",
                subject=name,
                expected=f"the comment 'made by Safepoint for launch {launch_id}: {' | '.join(sorted(roles))}'",
                found=repr(found.comment),
                remedy="If you do not need it any more, drop it yourself.",
            )
        drop(connection, name)
        return True


def _clear_the_way(connection: Connection, twin: str, launch_id: str, at: str) -> Database | None:
    """The finished twin of this safe point, if it is there; what is left of an earlier try is removed."""
    found = look_up(connection, twin)
    if found is None:
        return None
    mark = found.mark
    if mark is not None and mark.launch_id == launch_id and mark.role in ("twin", "twin, kept level"):
        if mark.at == at and mark.role == "twin":
            return found
    elif not is_half_made(found, launch_id):
        raise Refused(
            f"There is a database {twin} that is not a twin of this launch.",
            subject=twin,
            expected=f"no such database, or a twin that Safepoint made for launch {launch_id}",
            found=f"the comment {found.comment!r}",
            remedy="Look whose database it is; rename it, then `safepoint retry`.",
        )
    drop(connection, twin)
    return None


def _copy(
    target: Target,
    maintenance: str,
    connection: Connection,
    live: Database,
    twin: str,
    launch_id: str,
    cancelled: Cancelled,
) -> float | None:
    """CREATE DATABASE, with everyone kept out of the live one meanwhile; gives its seconds.

    None if the name was taken meanwhile: by a copy that a conductor had ordered before it was killed, and that its
    server session finished only now.
    """
    # Before PostgreSQL 15 file_copy was the only way and there was no word for it.
    strategy = sql.SQL(" STRATEGY file_copy" if connection.info.server_version >= 150000 else "")
    words = "CREATE DATABASE {} TEMPLATE {} OWNER {} ALLOW_CONNECTIONS false CONNECTION LIMIT {}{}{}"
    statement = sql.SQL(words).format(
        sql.Identifier(twin),
        sql.Identifier(live.name),
        sql.Identifier(live.owner),
        sql.Literal(half_made_limit(launch_id)),
        strategy,
        collation_version(connection, live.oid),
    )

    def stop_if_cancelled() -> None:
        if cancelled():
            cancel(connection)

    began = time.monotonic()
    try:
        if cancelled():
            raise psycopg.errors.QueryCanceled
        with keeping_out(target, maintenance, [live.oid], each_poll=stop_if_cancelled):
            connection.execute(statement)
    except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        return None
    except psycopg.errors.QueryCanceled:
        raise Interrupted(
            f"The copy {twin} was stopped.", subject=twin, remedy="Nothing is left of it; run the step again."
        ) from None
    return time.monotonic() - began


def _without_feed(twin: Target, launch_id: str) -> None:
    """A feed for a level twin that was given up stands on the live database still; its copy must not have it."""
    with connect(twin, application_name="safepoint twin") as connection:
        unpublish(connection, launch_id, feed_name(launch_id), "twin")


@dataclass(frozen=True)
class Furnished:
    """Notes on what is not the same, and how many settings and grants were given: each has a transaction id."""

    notes: tuple[str, ...]
    given: int


NOTHING: Final = Furnished((), 0)


def furnish(at_live: Connection, live: Database, at_twin: Connection, twin: str, prior: FencePrior | None) -> Furnished:
    """Give the twin the settings and grants that TEMPLATE and a dump leave out."""
    name = sql.Identifier(twin)
    settings, grants = database_settings(at_live, live.oid), database_grants(at_live, live.oid)
    with at_twin.transaction():
        at_twin.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))
        wanted = without_fence(settings, prior)
        lacking = [note for one in wanted if (note := _given(at_twin, live, twin, one)) is not None]
        given, notes = apply_grants(at_twin, twin, live.owner, grants)
        # Opened for the verification below; closed again with the mark.
        at_twin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    return Furnished((*lacking, *notes), len(wanted) - len(lacking) + given)


def _given(at_twin: Connection, live: Database, twin: str, setting: Setting) -> str | None:
    """Give it one setting; what says that this is not ours to do. The gate has asked about that: the window is no place
    to end for it."""
    try:
        with at_twin.transaction():
            apply_setting(at_twin, twin, setting)
    except psycopg.errors.InsufficientPrivilege:
        of = "" if setting.role is None else f" of {setting.role}"
        return f"{setting.name}{of} is not set in it: whoever set it for {live.name} has to do so after a rollback"
    return None


def without_fence(settings: tuple[Setting, ...], prior: FencePrior | None) -> list[Setting]:
    """The live database's settings as they were before the fence, and without those of Safepoint's logins. Pure."""
    kept = [one for one in settings if not (one.role or "").startswith(f"{PREFIX}_migrate_")]
    if prior is None:
        return kept
    fenced = {None, *(setting.role for setting in prior.role_settings)}
    kept = [one for one in kept if not (one.name == READ_ONLY and one.role in fenced)]
    before = [(None, prior.read_only), *((setting.role, setting.in_database) for setting in prior.role_settings)]
    return kept + [Setting(role, READ_ONLY, value) for role, value in before if value is not None]


def _finish(connection: Connection, live: Database, made: Database, mark: Mark) -> None:
    """Mark the twin as finished and close it, in one transaction."""
    name = sql.Identifier(made.name)
    with connection.transaction():
        limit = sql.Literal(live.connection_limit)
        connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, limit))
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(str(mark))))


def live_database(connection: Connection, name: str) -> Database:
    """The live database; one that is not there is a `DatabaseError`."""
    live = look_up(connection, name)
    if live is None:
        raise DatabaseError(f"There is no database {name}.", subject=name, remedy="Check database.name.")
    return live


def _refuse_prepared(connection: Connection, live: Database) -> None:
    if waiting := prepared(connection, [live.oid]):
        raise Refused(
            f"A prepared transaction on {live.name} is in the way of the copy.",
            subject=live.name,
            found="; ".join(waiting[:5]),
            remedy="Decide it with COMMIT PREPARED '...' or ROLLBACK PREPARED '...', then `safepoint retry`.",
        )


def is_half_made(found: Database, launch_id: str) -> bool:
    """Whether this launch began to make it and did not finish: it has no mark yet, and the limit that tells so."""
    return found.mark is None and found.connection_limit == half_made_limit(launch_id)


def drop(connection: Connection, name: str) -> None:
    """Drop a database, whoever is in it. That it is ours to drop is the caller's to know."""
    connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
