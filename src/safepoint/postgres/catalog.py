"""What a server and a database are like: the facts that `doctor`, the plan and the checkpoints decide on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from safepoint.postgres.connections import Connection

# Objects that belong to an extension, or to PostgreSQL itself, are not the application's.
_OWN_TABLES = """
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_toast%'
      and n.nspname not like 'pg\\_temp%'
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                      and d.deptype = 'e')
"""

# An update or delete cannot be replicated without something that identifies the row. What an earlier rollback put away
# lies beside the application's tables, and nobody but us writes to it.
_WITHOUT_KEY = f"""
    select format('%s.%s', n.nspname, c.relname) {_OWN_TABLES} and c.relkind in ('r', 'p') and not c.relispartition
      and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
      and coalesce(obj_description(n.oid, 'pg_namespace'), '') not like 'made by Safepoint for launch %'
    order by 1
"""

# Nothing of an unlogged table stands in the write-ahead log, so no capture sees it.
_UNLOGGED = f"""
    select format('%s.%s', n.nspname, c.relname) {_OWN_TABLES} and c.relpersistence = 'u' and c.relkind = 'r' order by 1
"""

_TABLES = f"select count(*) {_OWN_TABLES} and c.relkind = 'r'"

# Without pg_read_all_stats the kind of other roles' sessions is NULL, like all but datid, pid, usesysid and
# application_name (https://www.postgresql.org/docs/current/monitoring-stats.html); so `= 'client backend'` alone passes
# over them. The server's own processes have no role or no database, and who replicates is listed for everyone. A
# parallel worker cannot be told from its leader then, with which it ends.
BACKEND_KIND: Final = """coalesce(backend_type, case
        when usesysid is null or datid is null then 'server process'
        when pid in (select replicating.pid from pg_stat_replication replicating) then 'walsender'
        else 'client backend' end)"""

# Without pg_read_all_stats, xact_start of other users' sessions is NULL: the age is unknown then.
_IDLE_IN_TRANSACTION = """
    select pid, coalesce(usename, ''), coalesce(application_name, ''),
           extract(epoch from clock_timestamp() - xact_start)::float8
    from pg_stat_activity
    where datname = current_database() and state like 'idle in transaction%' and pid <> pg_backend_pid()
    order by 4 desc nulls last
"""

_SESSIONS = f"""
    select pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, '')
    from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and {BACKEND_KIND} = 'client backend'
    order by pid
"""

_CONNECTIONS = f"""
    select coalesce(state, 'unknown'), count(*)
    from pg_stat_activity where {BACKEND_KIND} = 'client backend' group by 1 order by 1
"""

_LOGIN = """
    select rolsuper, rolreplication, rolcreatedb, rolcreaterole, rolbypassrls,
           pg_has_role(current_user, 'pg_read_all_data', 'usage'),
           pg_has_role(current_user, 'pg_signal_backend', 'usage'),
           pg_has_role(current_user, 'pg_read_all_stats', 'usage'),
           (select datdba = r.oid or pg_has_role(current_user, datdba, 'usage')
            from pg_database where datname = current_database())
    from pg_roles r where rolname = current_user
"""

_SETTINGS = (
    "server_version_num",
    "server_version",
    "wal_level",
    "max_connections",
    "superuser_reserved_connections",
    "max_replication_slots",
    "max_wal_senders",
)


@dataclass(frozen=True)
class Login:
    """What the login that Safepoint uses may do. `owns_database`: by itself or as a member of the owner."""

    user: str
    superuser: bool
    replication: bool
    createdb: bool
    createrole: bool
    bypass_row_security: bool
    reads_all_data: bool
    signals_backends: bool
    sees_sessions: bool
    owns_database: bool


@dataclass(frozen=True)
class Session:
    """Another session on the database; `seconds` is the age of its transaction where it has one."""

    pid: int
    user: str
    application: str
    state: str
    seconds: float | None = None


@dataclass(frozen=True)
class Survey:
    """The facts about one server and one database at one moment. Sizes in bytes; names as `schema.table`."""

    server_version_num: int
    server_version: str
    database: str
    database_bytes: int
    data_directory: str | None
    wal_level: str
    max_connections: int
    reserved_connections: int
    connections: dict[str, int]
    max_replication_slots: int
    used_replication_slots: int
    max_wal_senders: int
    used_wal_senders: int
    tables: int
    tables_without_key: tuple[str, ...]
    unlogged_tables: tuple[str, ...]
    large_objects: int
    prepared_transactions: tuple[str, ...]
    idle_in_transaction: tuple[Session, ...]
    sessions: tuple[Session, ...]
    login: Login

    @property
    def used_connections(self) -> int:
        """Client connections on the whole server, whatever they do."""
        return sum(self.connections.values())

    @property
    def free_connections(self) -> int:
        """How many more ordinary connections the server takes."""
        return max(0, self.max_connections - self.reserved_connections - self.used_connections)

    @property
    def free_replication_slots(self) -> int:
        """How many more replication slots can be made."""
        return max(0, self.max_replication_slots - self.used_replication_slots)

    @property
    def free_wal_senders(self) -> int:
        """How many more replication connections can be opened."""
        return max(0, self.max_wal_senders - self.used_wal_senders)


def survey(connection: Connection) -> Survey:
    """Look at the server and at the connection's database. It only reads, and needs no special right."""
    settings = {name: _value(connection, sql.SQL("show {}").format(sql.Identifier(name))) for name in _SETTINGS}
    return Survey(
        server_version_num=int(settings["server_version_num"]),
        server_version=str(settings["server_version"]).split()[0],
        database=_value(connection, "select current_database()"),
        database_bytes=_value(connection, "select pg_database_size(current_database())"),
        data_directory=_value(
            connection, "select setting from pg_settings where name = 'data_directory'", missing=None
        ),
        wal_level=settings["wal_level"],
        max_connections=int(settings["max_connections"]),
        reserved_connections=int(settings["superuser_reserved_connections"]),
        connections=dict(connection.execute(_CONNECTIONS)),
        max_replication_slots=int(settings["max_replication_slots"]),
        used_replication_slots=_value(connection, "select count(*) from pg_replication_slots"),
        max_wal_senders=int(settings["max_wal_senders"]),
        used_wal_senders=_value(connection, "select count(*) from pg_stat_replication"),
        tables=_value(connection, _TABLES),
        tables_without_key=_column(connection, _WITHOUT_KEY),
        unlogged_tables=_column(connection, _UNLOGGED),
        large_objects=_value(connection, "select count(*) from pg_largeobject_metadata"),
        prepared_transactions=_column(
            connection, "select gid from pg_prepared_xacts where database = current_database() order by prepared"
        ),
        idle_in_transaction=tuple(
            Session(pid, user, application, "idle in transaction", seconds)
            for pid, user, application, seconds in connection.execute(_IDLE_IN_TRANSACTION)
        ),
        sessions=tuple(Session(*row) for row in connection.execute(_SESSIONS)),
        login=_login(connection),
    )


def _login(connection: Connection) -> Login:
    row = connection.execute(_LOGIN).fetchone()
    assert row is not None, "every session has a current_user"  # noqa: S101 (PostgreSQL's own promise)
    return Login(connection.info.user, *row)


def _value(connection: Connection, query: Any, missing: Any = 0) -> Any:
    row = connection.execute(query).fetchone()
    return missing if row is None else row[0]


def _column(connection: Connection, query: str) -> tuple[str, ...]:
    return tuple(row[0] for row in connection.execute(query))
