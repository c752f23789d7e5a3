"""Who is in the way: the sessions whose locks or transactions a statement of ours waited for in vain.

Each with what a person has to know to decide whether it may be ended: process, role, program, for how long, at what.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from safepoint.config.durations import format_duration
from safepoint.postgres.connections import Connection

_SHOWN: Final = 5
_QUERY: Final = 80

# The statement of another may hold a secret (a role's password): then it is not repeated.
_WHO: Final = f"""a.pid, coalesce(a.usename, '?') AS role, coalesce(a.datname, '?') AS database,
       coalesce(a.application_name, '') AS program, coalesce(a.state, a.backend_type, '?') AS state,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start))::float8 AS age,
       CASE WHEN a.query ~* 'password' THEN '' ELSE left(regexp_replace(a.query, '\\s+', ' ', 'g'), {_QUERY}) END"""

# What waited is over when somebody asks, and PostgreSQL does not say for whom it waited. Who has locked tables of this
# database is soon told: in the window, and on a twin, hardly anybody else is there.
_LOCKING: Final = f"""
SELECT {_WHO}, string_agg(DISTINCT quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' ' || l.mode, ', ')
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.granted AND l.locktype = 'relation' AND l.pid <> pg_backend_pid() AND c.relkind IN ('r', 'p', 'm', 'S')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY age DESC NULLS LAST
"""

_WRITING: Final = f"""
SELECT {_WHO}, '' FROM pg_stat_activity a
WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid() ORDER BY age DESC NULLS LAST
"""

# What is prepared for a two-phase commit belongs to no session any more, and keeps its locks: they have no process, and
# the virtual id of the one that prepared it, or one of their own after a restart.
_PREPARED: Final = """
SELECT 0, p.owner, p.database, '', 'prepared', extract(epoch FROM clock_timestamp() - p.prepared)::float8, '',
       coalesce(string_agg(DISTINCT quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' ' || l.mode, ', '),
                ''), p.gid
FROM pg_prepared_xacts p
LEFT JOIN pg_locks x ON x.locktype = 'transactionid' AND x.transactionid = p.transaction AND x.granted AND x.pid IS NULL
LEFT JOIN pg_locks l ON l.pid IS NULL AND l.virtualtransaction = x.virtualtransaction AND l.locktype = 'relation'
LEFT JOIN pg_class c ON c.oid = l.relation AND p.database = current_database() AND c.relkind IN ('r', 'p', 'm', 'S')
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
GROUP BY p.gid, p.owner, p.database, p.prepared ORDER BY p.prepared
"""


@dataclass(frozen=True)
class Holder:
    """A session that holds what another waits for; `age` is that of its transaction, in seconds. `gid`: no session, but
    a transaction that was prepared by this name."""

    pid: int
    role: str
    database: str
    program: str
    state: str
    age: float | None
    query: str | None
    locks: str
    gid: str | None = None

    @property
    def ending(self) -> str:
        """The SQL that ends it."""
        if self.gid is None:
            return f"SELECT pg_terminate_backend({self.pid})"
        name = self.gid.replace("'", "''")
        return f"COMMIT PREPARED '{name}' or ROLLBACK PREPARED '{name}', in {self.database}"

    def __str__(self) -> str:
        program = f" ({self.program})" if self.program else ""
        since = "" if self.age is None else f" for {format_duration(max(0.0, self.age))}"
        locks = f", has {self.locks}" if self.locks else ""
        query = f": {self.query}" if self.query else ""
        if self.gid is not None:
            return f"the prepared transaction {self.gid} of {self.role} in {self.database}{since}{locks}"
        return f"pid {self.pid} of {self.role}{program} in {self.database}, {self.state}{since}{locks}{query}"


def locking(connection: Connection) -> list[Holder]:
    """Who has locks on tables of this database, the oldest first; empty where that cannot be read."""
    prepared = [one for one in _read(connection, _PREPARED) if one.locks]
    return _oldest_first([*_read(connection, _LOCKING), *prepared])


def writing(connection: Connection) -> list[Holder]:
    """Whose transactions have written and are open, in the whole cluster, the oldest first."""
    return _oldest_first([*_read(connection, _WRITING), *_read(connection, _PREPARED)])


def _oldest_first(holders: Sequence[Holder]) -> list[Holder]:
    return sorted(holders, key=lambda one: -(one.age or 0.0))


def shown(holders: Sequence[Holder]) -> str:
    """Some of them in one line. Pure."""
    more = f"; and {len(holders) - _SHOWN} more" if len(holders) > _SHOWN else ""
    return "; ".join(map(str, holders[:_SHOWN])) + more


def _read(connection: Connection, query: str) -> list[Holder]:
    rows: list[tuple[Any, ...]] = []
    with suppress(psycopg.Error):  # it adds to an error, and must not take its place
        rows = connection.execute(query.encode()).fetchall()
    return [Holder(*row) for row in rows]
