"""Which twin a launch gets, by measured facts: kept level before the window, copied inside it, or none. Pure.

A copy is simple and exact, and costs time in the window that grows with the database. A level twin costs the window
next to nothing, and needs a server that decodes and a database of which everything travels in the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import psycopg

from safepoint.postgres.catalog import Survey, survey
from safepoint.postgres.connections import Connection
from safepoint.wayback.capture import identity

Wanted = Literal["auto", "logical", "template"]
Kind = Literal["logical", "template", "none"]

ASSUMED: Final = 80e6
"""Bytes a second that CREATE DATABASE ... TEMPLATE copies, where no launch has measured it on this server; low."""
READ: Final = 30e6
"""Bytes a second in which a row without a key is looked for; low."""
_SHOWN: Final = 3

_OWN: Final = """
n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\\_temp%'
AND c.relpersistence <> 't'
"""
# What a dump and the stream together do not bring over as it is.
IN_THE_WAY: Final = f"""
SELECT 'materialised view', n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND {_OWN}
UNION ALL
SELECT 'table in a tablespace of its own', n.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.reltablespace <> 0 AND c.relkind <> 'S' AND {_OWN}
UNION ALL
SELECT 'table without columns', n.nspname || '.' || c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND {_OWN}
  AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
UNION ALL
SELECT 'extension with rows of its own', e.extname FROM pg_extension e
WHERE EXISTS (SELECT FROM unnest(e.extconfig) o JOIN pg_class c ON c.oid = o WHERE c.relkind = 'r')
ORDER BY 1, 2
"""
SIZE: Final = """
SELECT coalesce(sum(pg_table_size(c.oid)), 0)::int8 FROM unnest(%s::text[], %s::text[]) t (schema, name)
JOIN pg_namespace n ON n.nspname = t.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
"""
KNOWN_SIZE: Final = SIZE.replace(
    "pg_table_size(c.oid)", "greatest(c.relpages, 0)::int8 * current_setting('block_size')::int8"
)


@dataclass(frozen=True)
class Facts:
    """What the choice rests on. Sizes in bytes; `disk_free` is None where the server's disk cannot be seen.

    `unnamed` are tables whose changed rows the log cannot be made to name. `keyless` are those of which it names rows
    by all their values, and `keyless_bytes` their size. `in_the_way` are pairs (what, name). `copy_speed` in bytes a
    second; `measured` says that a launch has seen it. `server` is the other server that the plan names for the twin,
    and `there` what speaks against it.
    """

    database_bytes: int
    wal_level: str
    free_slots: int
    free_senders: int
    replicates: bool
    creates_databases: bool
    unnamed: tuple[str, ...] = ()
    keyless: tuple[str, ...] = ()
    keyless_bytes: int = 0
    unlogged: tuple[str, ...] = ()
    large_objects: int = 0
    in_the_way: tuple[tuple[str, str], ...] = ()
    disk_free: int | None = None
    copy_speed: float = ASSUMED
    measured: bool = False
    server: str | None = None
    there: tuple[str, ...] = ()

    @property
    def copy_seconds(self) -> float:
        """How long the copy inside the window will take."""
        return self.database_bytes / self.copy_speed


@dataclass(frozen=True)
class Choice:
    """What was chosen and why, in one sentence; `against` is everything that speaks against a level twin."""

    kind: Kind
    reason: str
    wanted: Wanted
    against: tuple[str, ...]
    copy_seconds: float

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


def measure(
    connection: Connection,
    *,
    disk_free: int | None = None,
    copy_speed: float | None = None,
    found: Survey | None = None,
    server: str | None = None,
    there: tuple[str, ...] = (),
) -> Facts:
    """Look at the live database. Changes nothing. What is said of another server is asked of it (`elsewhere`)."""
    facts = found or survey(connection)
    tables = identity.survey(connection)
    _, uncovered = identity.decide(tables)
    keyless = [table for table in tables if table.keyless]
    login = facts.login
    return Facts(
        database_bytes=facts.database_bytes,
        wal_level=facts.wal_level,
        free_slots=facts.free_replication_slots,
        free_senders=facts.free_wal_senders,
        replicates=login.superuser or login.replication,
        creates_databases=login.superuser or (login.createdb and login.owns_database),
        unnamed=tuple(one.table for one in uncovered if one.table not in facts.unlogged_tables),
        keyless=tuple(table.name for table in keyless),
        keyless_bytes=_size(connection, keyless),
        unlogged=facts.unlogged_tables,
        large_objects=facts.large_objects,
        in_the_way=tuple((str(what), str(name)) for what, name in connection.execute(IN_THE_WAY).fetchall()),
        disk_free=disk_free,
        copy_speed=copy_speed or ASSUMED,
        measured=copy_speed is not None,
        server=server,
        there=there,
    )


def choose(facts: Facts, wanted: Wanted, allowance: float) -> Choice:
    """Choose.

    Args:
        allowance: seconds that the copy may add to the window before a level twin is worth its effort.
    """
    insists = wanted == "logical" or facts.server is not None
    against = tuple(_against(facts, None if insists else allowance))
    seconds = round(facts.copy_seconds, 2)

    def because(kind: Kind, reason: str) -> Choice:
        return Choice(kind, reason, wanted, against, seconds)

    if not facts.creates_databases:
        return because("none", "the conductor's login may not make a database like the live one")
    if facts.server is not None and not against:
        return because("logical", f"the plan names {facts.server} for it")
    if facts.disk_free is not None and facts.disk_free < facts.database_bytes:
        return because("none", "the server's disk has no room for another copy of the database")
    how = f"the copy takes some {seconds:.1f} s ({'as measured' if facts.measured else 'by a cautious guess'})"
    if wanted == "template":
        return because("template", f"the plan asks for a copy; {how}")
    if wanted == "auto" and seconds <= allowance and facts.server is None:
        return because("template", f"{how}, which the window may have ({allowance:g} s)")
    if against:
        return because("template", f"a twin cannot be kept level: {against[0]}; {how}")
    return because("logical", "the plan asks for it" if wanted == "logical" else f"{how}, more than {allowance:g} s")


def _against(facts: Facts, allowance: float | None) -> list[str]:
    found = list(facts.there)
    if facts.wal_level != "logical":
        found.append(f"wal_level is {facts.wal_level}, not logical")
    if not facts.replicates:
        found.append("the conductor's login has not the REPLICATION attribute")
    if facts.free_slots < 3:
        found.append(f"{facts.free_slots} replication slots are free, and 3 are needed (max_replication_slots)")
    if facts.free_senders < 2:
        found.append(f"{facts.free_senders} WAL senders are free, and 2 are needed (max_wal_senders)")
    if facts.unnamed:
        found.append(f"tables of which the log cannot name a row: {_some(facts.unnamed)}")
    reading = facts.keyless_bytes / READ
    if allowance is not None and reading > allowance:
        found.append(
            f"tables without a key are read whole for each change, some {reading:.1f} s: {_some(facts.keyless)}"
        )
    if facts.unlogged:
        found.append(f"unlogged tables are not in the log: {_some(facts.unlogged)}")
    if facts.large_objects:
        found.append(f"{facts.large_objects} large objects are not in the stream")
    for what in sorted({kind for kind, _ in facts.in_the_way}):
        names = tuple(name for kind, name in facts.in_the_way if kind == what)
        found.append(f"{what}: {_some(names)}")
    return found


def _size(connection: Connection, tables: Sequence[identity.Table]) -> int:
    """Of tables that somebody holds (VACUUM FULL, an idle transaction) what the last VACUUM knew: nobody waits."""
    names = [[one.schema for one in tables], [one.relation for one in tables]]
    try:
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '2s'")
            row = connection.execute(SIZE, names).fetchone()
    except psycopg.errors.LockNotAvailable:
        row = connection.execute(KNOWN_SIZE, names).fetchone()
    return int(row[0]) if row else 0


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
