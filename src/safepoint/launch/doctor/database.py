"""The preflight checks that ask PostgreSQL: versions, room, and what would stand in the way of a launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain

from safepoint.backup.scratch import NamedServer
from safepoint.config import PlanFile, format_bytes, format_duration
from safepoint.errors import DatabaseError
from safepoint.hosts import command, open_host
from safepoint.launch.doctor.disk_room import room
from safepoint.launch.doctor.finding import Finding, Look, failure, guarded, ok, some, warning
from safepoint.launch.doctor.roles import makers, rights, roles
from safepoint.launch.wayback import twin_choice
from safepoint.postgres.binaries import for_server, parse_version
from safepoint.postgres.catalog import Survey, survey
from safepoint.postgres.connections import OWN_NAMES, PAST_POOLER, Connection, connect, is_pooled
from safepoint.postgres.scratch_databases import MAINTENANCE
from safepoint.postgres.target import Target, server_target, target
from safepoint.wayback.capture import capture_mode
from safepoint.wayback.capture.others import staying_with
from safepoint.wayback.capture.promises import foresee_gaps, shown
from safepoint.wayback.capture.standbys import after_failover, standbys
from safepoint.wayback.sessions import database_oid, not_ours_to_end

OLDEST = 14
_IDLE_SECONDS = 10.0

# Copying a database (TEMPLATE) and renaming it need that nobody else is connected: these cannot be ended.
WALSENDERS = """
    select count(*) from pg_stat_replication r join pg_stat_activity a using (pid)
    where a.datname = current_database()
"""
SUBSCRIPTIONS = """
    select subname from pg_subscription s join pg_database d on d.oid = s.subdbid
    where d.datname = current_database() and subenabled
"""
# Publications that will publish what Safepoint makes, too; its own are named after it.
ALL_TABLES = r"select pubname from pg_publication where puballtables and pubname !~ '^safepoint_' order by 1"
# Schemas of these names are taken for Safepoint's own.
NAMED_LIKE_OURS = r"""
    select nspname from pg_namespace n where (nspname = 'safepoint' or nspname like 'safepoint\_%')
      and coalesce(obj_description(n.oid, 'pg_namespace'), '') not like 'made by Safepoint for launch %' order by 1
"""
# A replay locks each partition of a table that it writes to, and its indexes, until it ends. The product is what the
# server promises; it may have room for more.
PARTITIONS = "select count(*) from pg_class where relispartition or relkind in ('p', 'I')"
PROMISED = """
    select current_setting('max_locks_per_transaction')::int8
        * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)
"""


def database(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """All that is asked over one connection."""
    login = target(plan.database)
    with connect(login, application_name="safepoint doctor", options=OWN_NAMES) as connection:
        facts = survey(connection)
        parts: dict[str, Callable[[], Iterator[Finding]]] = {
            "server": lambda: chain(server(facts), pooled(connection, login)),
            "scratch": lambda: scratch(plan, facts),
            "pg_dump": lambda: pg_dump(plan, facts),
            "clock": lambda: clock(connection, now),
            "rights": lambda: rights(connection, plan, facts),
            "roles": lambda: chain(roles(connection, plan, facts), makers(connection, plan, login)),
            "capacity": lambda: capacity(plan, facts),
            "locks": lambda: locks(connection, plan),
            "capture": lambda: captured(connection, plan),
            "disk": lambda: room(plan, facts),
            "contents": lambda: contents(connection, facts),
            "in-the-way": lambda: chain(in_the_way(connection, facts), replication(connection, facts)),
            "twin": lambda: twin(plan),
        }
        for name, look in parts.items():  # one that cannot look must not hide the others
            yield from guarded(name, look)
    with connect(login.on(plan.database.maintenance), application_name="safepoint doctor"):
        yield ok("maintenance", f"The maintenance database {plan.database.maintenance} can be connected to")


def server(facts: Survey) -> Iterator[Finding]:
    """The server's version."""
    major = facts.server_version_num // 10000
    if major < OLDEST:
        yield failure(
            "server", f"PostgreSQL {facts.server_version} is too old.", f"Upgrade to {OLDEST} or newer first."
        )
    else:
        size = format_bytes(facts.database_bytes)
        yield ok(
            "server", f"PostgreSQL {facts.server_version}, database {facts.database}: {size}, {facts.tables} tables"
        )


def pooled(connection: Connection, login: Target) -> Iterator[Finding]:
    """A connection pooler in the server's place."""
    if is_pooled(connection):
        row = connection.execute("select host(inet_server_addr()), inet_server_port()").fetchone()
        there = f" It says of itself: host = {row[0]}, port = {row[1]}." if row and row[0] else ""
        yield failure(
            "server",
            f"What answers at {login.address} is a connection pooler, not the server itself.",
            f"{PAST_POOLER[0].upper()}{PAST_POOLER[1:]}{there}",
        )


def scratch(plan: PlanFile, facts: Survey) -> Iterator[Finding]:
    """Where proofs and rehearsals make their copies."""
    major = facts.server_version_num // 10000
    if plan.scratch is not None:
        named = plan.scratch
        version = NamedServer(server_target(named, "scratch", MAINTENANCE), target(plan.database)).examine(major)
        yield ok(
            "scratch",
            f"Copies are made on {named.host}:{named.port} (PostgreSQL {version}), which is not tuned for them; its "
            f"disk cannot be seen from here, and two of {format_bytes(facts.database_bytes)} need room there",
        )
        return
    try:
        programs = for_server(facts.server_version_num, plan.database.tools)
    except DatabaseError as error:
        yield failure("scratch", f"No scratch server for the proofs: {error.message}", error.remedy)
        return
    if programs.major == major:
        yield ok("scratch", f"Proofs run on {programs}")
    else:
        yield warning(
            "scratch",
            f"Proofs will run on {programs}, the server is PostgreSQL {major}.",
            f"Install PostgreSQL {major} here, so that a snapshot is proven on what it will be restored to.",
        )


def pg_dump(plan: PlanFile, facts: Survey) -> Iterator[Finding]:
    """The dump's program on the host where it runs: not older than the server."""
    major = facts.server_version_num // 10000
    name = plan.database.tools_host
    if name == "here":
        found = for_server(facts.server_version_num, plan.database.tools)
        if plan.database.tools is not None and found.origin != "named":
            yield failure(
                "pg_dump",
                f"database.tools names {plan.database.tools}, where there are not all programs of a PostgreSQL.",
                f"Correct it, or leave it out: {found} would be used.",
            )
            return
        version, where = found.major, str(found)
    else:
        host = open_host(name, plan.host(name), plan.folder)
        program = str(plan.database.tools / "pg_dump") if plan.database.tools else "pg_dump"
        read = parse_version(host.run(command((program, "--version")), timeout=30).stdout)
        if read is None:
            yield failure("pg_dump", f"{program} on {name} does not say its version.", "Check database.tools.")
            return
        version, where = read[0], f"{read[1]} on {name}"
    if version < major:
        yield failure(
            "pg_dump",
            f"pg_dump {where} is older than the server ({facts.server_version}), which it refuses.",
            f"Install the client tools of PostgreSQL {major} on {name}, or set database.tools.",
        )
    else:
        yield ok("pg_dump", f"pg_dump: {where}")


def clock(connection: Connection, now: datetime) -> Iterator[Finding]:
    """The server's clock and this machine's agree (checked only against the clock, not against a given instant)."""
    del now
    row = connection.execute("select clock_timestamp()").fetchone()
    apart = abs((row[0] - datetime.now(UTC)).total_seconds()) if row else float("inf")
    if apart > 5:
        yield warning("clock", f"The server's clock is {apart:.0f} s away from this machine's.", "Set both by NTP.")
    else:
        yield ok("clock", f"This machine's clock and the server's are {apart:.2f} s apart")


def captured(connection: Connection, plan: PlanFile) -> Iterator[Finding]:
    """By which capture the way back will know what was written, and why by that one."""
    how = plan.wayback.capture
    mode, reason = capture_mode.foresee(connection, how)
    asked = "" if how == "auto" else " (the plan file says so)"
    if mode == "logical":
        yield ok("capture", f"Changes after the launch are captured by decoding the log{asked}")
    elif mode == "triggers":
        tell = f"Changes after the launch are captured by triggers{asked}: {reason}. That costs every write."
        remedy = "Where decoding is possible, it costs next to nothing: remove that cause."
        yield ok("capture", tell) if how == "triggers" else warning("capture", tell, remedy)
    else:
        yield warning(
            "capture",
            f"Changes after the launch are not captured{asked}: {reason}. A rollback lists rows, and carries none.",
            "Remove that cause, or allow triggers: wayback.capture = 'auto'.",
        )
    missing = () if mode == "none" else foresee_gaps(connection, mode)
    if missing:
        yield warning(
            "capture",
            f"Not all that is written after the launch will be captured. {shown(missing)}",
            "For what matters: SET LOGGED; a primary key; GRANT its owner TO Safepoint's login. Tables that are made "
            "later are captured where that login is a superuser.",
        )


def capacity(plan: PlanFile, facts: Survey) -> Iterator[Finding]:
    """wal_level, replication slots, connections."""
    if facts.wal_level == "logical":
        yield ok("wal_level", "wal_level is logical")
    else:
        yield warning(
            "wal_level",
            f"wal_level is {facts.wal_level}: quiet is only inferred, and changes after the launch are not decoded.",
            "ALTER SYSTEM SET wal_level = logical; and restart PostgreSQL before the launch day.",
        )
    slots, senders = facts.free_replication_slots, facts.free_wal_senders
    if min(slots, senders) >= 2:
        yield ok("slots", f"{slots} replication slots and {senders} WAL senders are free")
    else:
        tell = warning if facts.wal_level != "logical" else failure
        yield tell(
            "slots",
            f"{slots} replication slots and {senders} WAL senders are free; the launch needs 2 of each.",
            "Raise max_replication_slots and max_wal_senders (a restart), or drop slots that nobody reads.",
        )
    needed = plan.snapshot.jobs + 5
    if facts.free_connections < needed:
        yield failure(
            "connections",
            f"{facts.free_connections} of {facts.max_connections} connections are free; the launch needs {needed}.",
            "End idle sessions, lower snapshot.jobs, or raise max_connections.",
        )
    else:
        yield ok("connections", f"{facts.free_connections} of {facts.max_connections} connections are free")


def locks(connection: Connection, plan: PlanFile) -> Iterator[Finding]:
    """Whether a rollback can lock all partitions at once. A rehearsal does not tell: its server is not this one."""
    (needed,) = connection.execute(PARTITIONS).fetchone() or (0,)
    (promised,) = connection.execute(PROMISED).fetchone() or (0,)
    if (there := plan.wayback.server) is not None:
        with (
            suppress(DatabaseError),  # one that is away: the twin is a copy beside the live database then
            connect(server_target(there, "wayback.server", there.maintenance)) as other,
        ):
            (promised,) = other.execute(PROMISED).fetchone() or (0,)
    if needed > promised:
        yield warning(
            "locks",
            f"Partitioned tables have {needed} partitions and indexes, and the server promises {promised} locks: a "
            "rollback that carries rows of them all may not get as many, with the site closed.",
            "Raise max_locks_per_transaction (a restart) before the launch, until it times max_connections is more.",
        )
    else:
        yield ok("locks", f"The server promises {promised} locks, and partitioned tables need {needed}")


def contents(connection: Connection, facts: Survey) -> Iterator[Finding]:
    """What the way back treats specially."""
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        yield warning(
            "encoding",
            "The database's encoding is SQL_ASCII, which holds any bytes: text that is not UTF-8 cannot be captured; "
            "a rollback would carry nothing.",
            "Does every program write UTF-8 there (Django does)? If not, load a dump into a database of encoding UTF8.",
        )
    if facts.tables_without_key:
        yield warning(
            "keys",
            f"Tables without a primary key: {some(facts.tables_without_key)}.",
            "The quick way back is not affected; to carry later changes back, give each a primary key.",
        )
    else:
        yield ok("keys", f"All {facts.tables} tables have a primary key")
    if facts.unlogged_tables:
        yield warning(
            "unlogged",
            f"Unlogged tables: {some(facts.unlogged_tables)}: their changes are in no capture.",
            "ALTER TABLE ... SET LOGGED, if what they hold matters.",
        )
    else:
        yield ok("unlogged", "No unlogged tables")
    if facts.large_objects:
        yield warning(
            "large-objects",
            f"{facts.large_objects} large objects: they are in snapshots, but their changes are in no capture.",
            "The quick way back carries them; keep files outside the database in the long run.",
        )
    else:
        yield ok("large-objects", "No large objects")


def in_the_way(connection: Connection, facts: Survey) -> Iterator[Finding]:
    """What would hold up the fence, the copy or the rename."""
    if facts.prepared_transactions:
        first = facts.prepared_transactions[0]
        yield failure(
            "prepared",
            f"{len(facts.prepared_transactions)} prepared transactions hold locks; the first: {first}.",
            f"Ask whose it is, then COMMIT PREPARED '{first}'; or ROLLBACK PREPARED '{first}';",
        )
    else:
        yield ok("prepared", "No prepared transactions")
    alike = [str(row[0]) for row in connection.execute(NAMED_LIKE_OURS).fetchall()]
    if alike:
        yield failure(
            "schemas",
            f"Schemas are named like Safepoint's own, and are not: {some(alike)}. What they hold would be left out of "
            "the capture and the way back.",
            f'ALTER SCHEMA "{alike[0]}" RENAME TO another name; or, if it is left over from a launch, drop it.',
        )
    long = [one for one in facts.idle_in_transaction if (one.seconds or 0) >= _IDLE_SECONDS]
    for one in long[:5]:
        age = format_duration(one.seconds or 0)
        yield warning(
            "idle",
            f"Session {one.pid} ({one.user}, {one.application or 'no name'}) is idle in a transaction for {age}.",
            f"It holds up migrations: SELECT pg_terminate_backend({one.pid}); and correct what leaves it open.",
        )
    if not long:
        yield ok("idle", "No session is idle in a transaction")
    if staying := not_ours_to_end(connection, [database_oid(connection, facts.database) or 0]):
        yield failure(
            "sessions",
            f"Sessions of superusers are on this database, which {facts.login.user} may not end: {some(staying)}. The "
            "fence, the copy and the swap would fail, with the site closed.",
            "Give what connects there (monitoring, a job) an ordinary role, stop it for the window, or let Safepoint "
            "log in as a superuser.",
        )


def replication(connection: Connection, facts: Survey) -> Iterator[Finding]:
    """What reads this database, or writes into it, without being a session of the application's."""
    busy = int((connection.execute(WALSENDERS).fetchone() or (0,))[0])
    if busy:
        yield warning(
            "replication",
            f"{busy} logical replication connections read this database: it cannot be renamed meanwhile.",
            "Pause their readers for the window.",
        )
    enabled = [str(row[0]) for row in connection.execute(SUBSCRIPTIONS).fetchall()]
    if enabled:
        yield failure(
            "replication",
            f"Enabled subscriptions write into this database: {some(enabled)}.",
            f"ALTER SUBSCRIPTION {enabled[0]} DISABLE; for the window.",
        )
    if left := staying_with(connection, facts.database):
        yield warning(
            "replication",
            f"A rollback leaves with the migrated database {'; and '.join(left)}.",
            "After a rollback make them anew on the live database (CREATE SUBSCRIPTION ... WITH (copy_data = false), a "
            "new slot for each consumer), and drop these.",
        )
    if names := standbys(connection):
        yield warning(
            "standbys",
            f"Standbys stream from this server: {some(names)}. A rollback does not reach what is connected there: it "
            f"reads the migrated database, under its new name, until it connects anew. {after_failover(connection)}",
            "After a rollback end these sessions, or have their pooler do so (PgBouncer: RECONNECT).",
        )
    for (name,) in connection.execute(ALL_TABLES).fetchall():
        yield warning(
            "replication",
            f"The publication {name} is FOR ALL TABLES: it publishes what Safepoint makes here, too (the tables of a "
            "capture by triggers, and of a stash), and a subscriber that has none of that name stops.",
            "Disable its subscriptions until the launch is retired, or publish by schema (FOR TABLES IN SCHEMA).",
        )


def twin(plan: PlanFile) -> Iterator[Finding]:
    """How the twin will come to be, by what is measured now."""
    found = twin_choice.choose(plan)
    shown = twin_choice.shown(found)
    if found.kind == "none":
        yield failure("twin", shown, "Without a twin there is no quick way back: remove that cause.")
    elif found.kind == "template" and plan.wayback.server is not None:
        yield warning("twin", shown, "Remove what speaks against that server, or leave out [wayback.server].")
    elif found.kind == "template" and (
        found.wanted == "logical" or found.copy_seconds > plan.wayback.copy_allowance.total_seconds()
    ):
        remedy = "Remove what speaks against it, or set wayback.twin = 'template' and a longer copy_allowance."
        yield warning("twin", shown, remedy)
    else:
        yield ok("twin", shown)


LOOKS: dict[str, Look] = {"database": database}
