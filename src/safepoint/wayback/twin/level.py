"""A twin that is kept level with the live database before the window, so that the window does not pay for its size.

Seeded from the snapshot of the instant that its feed begins at, then kept level by the replay, table by table as it is:
same schema, same rows. In the window only what came last is applied. What the stream does not carry is compared at the
safe point (definitions, grants) or set there (sequences); where that is not possible the twin is copied instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from safepoint.errors import DatabaseError, Interrupted, Refused
from safepoint.postgres.connections import Connection, cancellable, connect
from safepoint.postgres.pgoutput import format_lsn, parse_lsn
from safepoint.postgres.statistics import make_statistics
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never
from safepoint.wayback.capture.capture import CaptureFacts, Drained, drain
from safepoint.wayback.door import at_the_door, entering
from safepoint.wayback.fence.fence import FencePrior
from safepoint.wayback.mapping.catalogue import Catalogue, read_catalogue
from safepoint.wayback.mapping.expressions import of_new
from safepoint.wayback.mapping.mapping import SAME, ColumnRule, TableRule, WayBack
from safepoint.wayback.names import Mark, half_made_limit, own_words
from safepoint.wayback.replay import records
from safepoint.wayback.replay.manner import Manner, NotWhole
from safepoint.wayback.replay.replay import READ_ONLY, carry
from safepoint.wayback.sessions import asking
from safepoint.wayback.twin import feed
from safepoint.wayback.twin.comparison import verified
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.twin import (
    Database,
    TwinFacts,
    drop,
    furnish,
    is_half_made,
    live_database,
    look_up,
)

MANNER: Final = Manner(only_whole=True, same_schema=True, purpose="twin")
_TRIES: Final = 4
_LOOK_EVERY: Final = 15.0

# As it is on this server, so the locale is there; the strategy of an empty template does not matter.
LIKE: Final = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider::text,
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'),
       to_jsonb(d) ->> 'daticurules', t.spcname
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.oid = %s
"""
PATH: Final = "SELECT current_setting('search_path')"
SEQUENCES: Final = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname NOT IN ('safepoint', 'information_schema') ORDER BY 1, 2
"""
# All in one statement: there may be ten thousand, and the site is closed meanwhile.
SET: Final = """
SELECT setval(name::regclass, last, called) FROM unnest(%s::text[], %s::int8[], %s::bool[]) w(name, last, called)
"""


@dataclass(frozen=True)
class Levelled:
    """What one look brought: transactions that were taken off the server, and applied; LSNs in text."""

    up_to: str
    transactions: int
    applied: int
    seconds: float


def same_schema(catalogue: Catalogue) -> WayBack:
    """The mapping of a database to itself. Pure."""
    return WayBack(
        tuple(
            TableRule(
                table.name,
                table.name,
                SAME,
                tuple((name, name) for name in table.key),
                tuple(
                    ColumnRule(column.name, "generated", None, "computed by PostgreSQL")
                    if column.generated
                    else ColumnRule(column.name, "same", of_new(column.name), SAME, column.name)
                    for column in table.columns
                ),
            )
            for table in catalogue.tables.values()
        )
    )


def begin(pair: Pair) -> Target:
    """An empty database for the seed, like the live one; what is left of an earlier try is removed.

    Raises:
        Refused: another database has this name.
    """
    twin, launch_id = pair.twin.dbname, pair.launch_id
    with pair.both() as (at_live, at_twin), asking("Making the twin", twin):
        live = live_database(at_live, pair.live.dbname)
        found = look_up(at_twin, twin)
        if found is not None:
            ours = found.mark is not None and found.mark.launch_id == launch_id and found.mark.made
            if not ours and not is_half_made(found, launch_id):
                raise Refused(
                    f"There is a database {twin} that is not a twin of this launch.",
                    subject=twin,
                    found=f"the comment {found.comment!r}",
                    remedy="Look whose database it is; rename it, then `safepoint retry`.",
                )
            drop(at_twin, twin)
        row = at_live.execute(LIKE, (live.oid,)).fetchone()
        if row is None:
            raise DatabaseError(f"{pair.live.dbname} vanished just now.", subject=pair.live.dbname)
        at_twin.execute(_create(twin, live, half_made_limit(launch_id), *row))
    return pair.twin


def _create(
    twin: str,
    live: Database,
    limit: int,
    encoding: str,
    collate: str,
    ctype: str,
    provider: str,
    locale: str | None,
    rules: str | None,
    tablespace: str,
) -> sql.Composed:
    words = [
        sql.SQL("ENCODING = {}").format(sql.Literal(encoding)),
        sql.SQL("LC_COLLATE = {}").format(sql.Literal(collate)),
        sql.SQL("LC_CTYPE = {}").format(sql.Literal(ctype)),
        sql.SQL("TABLESPACE = {}").format(sql.Identifier(tablespace)),
        sql.SQL("CONNECTION LIMIT = {}").format(sql.Literal(limit)),
    ]
    if provider in ("i", "b") and locale is not None:
        kind, word = ("icu", "ICU_LOCALE") if provider == "i" else ("builtin", "BUILTIN_LOCALE")
        words.append(sql.SQL(f"LOCALE_PROVIDER = {kind} {word} = {{}}").format(sql.Literal(locale)))
    else:  # otherwise it is that of template0
        words.append(sql.SQL("LOCALE_PROVIDER = libc").format())
    if rules is not None:
        words.append(sql.SQL("ICU_RULES = {}").format(sql.Literal(rules)))
    return sql.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {} {}").format(
        sql.Identifier(twin), sql.Identifier(live.owner), sql.SQL(" ").join(words)
    )


def seeded(pair: Pair, at: str) -> None:
    """The seed is restored: mark it, and let nobody else in.

    A restored database has no statistics, and autovacuum would go over all of it: in the window perhaps, beside the
    migration. So both are done now.
    """
    twin = pair.twin.dbname
    with connect(pair.twin, application_name="safepoint twin") as connection, asking("Seeding the twin", twin):
        make_statistics(connection, "vacuum (analyze)")
    with pair.both() as (at_live, at_twin), asking("Seeding the twin", twin), at_twin.transaction():
        live = live_database(at_live, pair.live.dbname)
        mark = Mark(pair.launch_id, "twin, kept level", at, own_words(live.comment))
        name = sql.Identifier(twin)
        at_twin.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(str(mark))))
        at_twin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))


def seeded_at(pair: Pair) -> str | None:
    """The instant of a standing seed; None where there is none, or it is finished."""
    mark = _mark(pair)
    return mark.at if mark is not None and mark.role == "twin, kept level" else None


def is_finished(pair: Pair, at: str) -> bool:
    """Whether it stands finished for this safe point already."""
    mark = _mark(pair)
    return mark is not None and (mark.role, mark.at) == ("twin", at)


def _mark(pair: Pair) -> Mark | None:
    """The mark of this launch's twin."""
    with pair.at_twin() as connection, asking("Looking at the twin", pair.twin.dbname):
        found = look_up(connection, pair.twin.dbname)
    mark = None if found is None else found.mark
    return mark if mark is not None and mark.launch_id == pair.launch_id else None


@contextmanager
def open_to_us(pair: Pair) -> Iterator[None]:
    """Let sessions connect to a twin that is being kept level while the body reads it."""
    name = sql.Identifier(pair.twin.dbname)
    with pair.at_twin() as connection, asking("Reading the twin", pair.twin.dbname):
        with at_the_door(connection, pair.twin.dbname):
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
        try:
            yield
        finally:
            with at_the_door(connection, pair.twin.dbname):
                connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))


class Keeper:
    """Keeps one twin level, over connections of its own. A context manager.

    A statement ends with `cancelled`, also while it waits for somebody's lock of a live table, which may be held for
    hours; no longer than `patience` (seconds) does it wait for one.

    Raises (in `level`):
        LockNotAvailable: somebody holds a lock on a table, there or here.
        CaptureLost: the feed is not whole any more.
        NotWhole, Refused: what came cannot be applied as it is (DDL, a table that the twin does not have).
        DatabaseError: PostgreSQL refused or is away; the next look may succeed with a new keeper.
    """

    def __init__(self, pair: Pair, facts: CaptureFacts, spool: Path, *, patience: float = 5.0) -> None:
        self._facts, self._spool, self._patience = facts, spool, patience
        self._target, self._twin, self._maintenance = pair.live, pair.twin, pair.twin_maintenance
        self._looked = -_LOOK_EVERY

    def __enter__(self) -> Keeper:
        self._entered = entering(self._twin, self._maintenance)
        self._connection = self._entered.__enter__()
        try:
            self._source = self._reading(READ_ONLY)
            # The twin gets its settings at the end, `search_path` with them; until then names of types, as the live
            # database's catalogue has them, would lead to nothing here.
            self._connection.execute(
                "SELECT set_config('search_path', %s, false)", self._source.execute(PATH).fetchone()
            )
            self._mapping = same_schema(read_catalogue(self._connection))
        except BaseException as error:
            self._entered.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._source.close()
        self._entered.__exit__(*error)

    def _reading(self, options: str = "", *, autocommit: bool = True) -> Connection:
        """Of the live database, where anybody may hold any lock."""
        return connect(
            self._target,
            application_name="safepoint twin",
            autocommit=autocommit,
            lock_timeout=self._patience,
            options=options,
        )

    def level(self, *, up_to: str | None = None, cancelled: Cancelled = never) -> Levelled:
        """Apply everything that is committed now, or everything before an LSN.

        A large value that an UPDATE left alone is looked up in the live row; where that row is gone by now, a later
        transaction removed or moved it: with that one in the same batch nothing has to be looked up.
        """
        began = time.monotonic()
        if up_to is None:
            self._forget_log()
        for attempt in range(_TRIES):
            drained = drain(self._target, self._facts, self._spool, up_to=up_to, cancelled=cancelled)
            if not drained.complete:
                raise Interrupted("The twin was not brought level.", subject=self._twin.dbname)
            self._refuse_changed(drained, last=up_to is not None)
            try:
                applied = self._apply(self._source, None, cancelled)
            except NotWhole:
                if attempt + 1 == _TRIES or up_to is not None:
                    raise
                time.sleep(0.2 * attempt)
            else:
                seconds = round(time.monotonic() - began, 3)
                return Levelled(drained.up_to, drained.transactions, applied, seconds)
        raise AssertionError("unreachable")

    def _refuse_changed(self, drained: Drained, *, last: bool) -> None:
        """What the stream says nothing of. All tables are looked at now and then, and at the safe point."""
        found = {*drained.changed_tables, *drained.unseen}
        if last or time.monotonic() - self._looked > _LOOK_EVERY:
            found.update(feed.changed(self._source, self._facts.launch_id))
            self._looked = time.monotonic()
        if found:
            raise NotWhole(
                f"Somebody changed the schema meanwhile: {', '.join(sorted(found)[:5])}.", subject=min(found)
            )

    def _forget_log(self) -> None:
        """Each read decodes from the last record of running transactions on, which comes every 15 s by itself."""
        if self._source.info.server_version >= 160000:
            with suppress(psycopg.errors.InsufficientPrivilege):
                self._source.execute("SELECT pg_log_standby_snapshot()")

    def level_at(self, instant: feed.Instant, *, cancelled: Cancelled = never) -> None:
        """Apply exactly what committed before an instant, as that instant's snapshot has it."""
        drain(self._target, self._facts, self._spool, up_to=instant.lsn, cancelled=cancelled)
        with self._reading(autocommit=False) as source:
            source.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            source.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(instant.snapshot)))
            self._apply(source, format_lsn(parse_lsn(instant.lsn) - 1), cancelled)

    def _apply(self, source: Connection, up_to: str | None, cancelled: Cancelled) -> int:
        with cancellable(self._connection, cancelled), cancellable(source, cancelled):
            outcome = carry(
                self._connection,
                source,
                self._spool,
                self._mapping,
                MANNER,
                launch_id=self._facts.launch_id,
                up_to=up_to,
                cancelled=cancelled,
            )
        return outcome.now

    def set_sequences(self) -> int:
        """Give every sequence exactly the live one's state; nobody draws from one now. Gives how many there are."""
        live = _sequence_states(self._source)
        names = [sql.Identifier(*one).as_string(None) for one in live]
        states = list(live.values())
        self._connection.execute(SET, [names, [last for last, _ in states], [called for _, called in states]])
        return len(live)


def _sequence_states(connection: Connection) -> Mapping[tuple[str, str], tuple[int, bool]]:
    names = connection.execute(SEQUENCES).fetchall()
    found: dict[tuple[str, str], tuple[int, bool]] = {}
    for start in range(0, len(names), 200):
        queries = [
            sql.SQL("SELECT {}::text, {}::text, last_value, is_called FROM {}").format(
                sql.Literal(schema), sql.Literal(name), sql.Identifier(schema, name)
            )
            for schema, name in names[start : start + 200]
        ]
        for schema, name, last, called in connection.execute(sql.SQL(" UNION ALL ").join(queries)).fetchall():
            found[schema, name] = (last, called)
    return found


def finish(pair: Pair, *, at: str, prior: FencePrior | None, began: float) -> TwinFacts:
    """A level twin becomes this safe point's: Safepoint's own leaves it, it gets its settings, and is closed.

    Its records and its new mark change in one transaction, so that no row is ever applied twice. May be run again.
    """
    twin, launch_id = pair.twin.dbname, pair.launch_id
    with pair.both() as (at_live, at_twin), asking("Finishing the twin", twin):
        live, made = live_database(at_live, pair.live.dbname), look_up(at_twin, twin)
        if made is None or made.mark is None:
            raise DatabaseError(f"The twin {twin} vanished.", subject=twin)
        notes: tuple[str, ...] = ()
        if made.mark.role != "twin":
            notes = furnish(at_live, live, at_twin, twin, prior).notes
            mark = Mark(launch_id, "twin", at, own_words(live.comment))
            name, limit = sql.Identifier(twin), sql.Literal(live.connection_limit)
            with connect(pair.twin, application_name="safepoint twin") as inside, inside.transaction():
                records.forget(inside, launch_id, MANNER.purpose)
                feed.forget_publication(inside, launch_id)
                inside.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, limit))
                inside.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(str(mark))))
        at_twin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(twin)))
    sizes = verified(pair.live, made.name, finished=True)
    return TwinFacts.of(launch_id, live, made, at, sizes, began=began, notes=notes, kind="logical", server=pair.server)
