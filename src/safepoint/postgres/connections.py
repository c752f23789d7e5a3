"""Connections to PostgreSQL with the settings that Safepoint relies on."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final, cast

import psycopg
from psycopg import sql
from psycopg.pq import Format

from safepoint.errors import DatabaseError, Interrupted, SafepointError, ServerAway
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled

# What libpq says around the cause; who and where stands in our own message already.
_PREFIX = re.compile(r'^connection failed: (connection to server at "[^"]*"(?: \([^)]*\))?, port \d+ failed: )?')
_HINT = " Is the server running on that host and accepting TCP/IP connections?"
_NOT_NOW = (
    "starting up",
    "shutting down",
    "recovery mode",
    "not yet accepting",
    "too many clients",
    "too many connections for",
    "connection slots",
)
# Said on this side, of a server that answers: waiting for it would not help.
_NOT_SO = ("no password supplied", "SSL was required", "certificate", "authentication method")

_LATE: Final = 3.0
"""Seconds by which a connection may be given up later than it should, on a machine that has much to do."""

Connection = psycopg.Connection[tuple[Any, ...]]
_Login = tuple[str, int, str]  # host, port, user

# Values are read as text in places, and their text must not depend on who reads them (EXTRA_FLOAT_DIGITS 1 and
# more means the shortest exact form; see PostgreSQL's runtime-config-client page). A role's own timeouts
# must not cut a long dump or copy short.
_PINNED = (
    "-c datestyle=ISO,YMD -c timezone=UTC -c intervalstyle=iso_8601 -c extra_float_digits=1 -c bytea_output=hex "
    "-c lc_monetary=C -c array_nulls=on -c xmloption=content "
    # And so must what the catalogue says, what our own words mean, and how sessions wait for each other.
    "-c quote_all_identifiers=off -c standard_conforming_strings=on -c default_table_access_method=heap "
    "-c default_transaction_isolation=read\\ committed -c default_transaction_deferrable=off "
    "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0 "
    "-c client_min_messages=warning "
    # Or the server keeps our locks for two hours where the link or our machine went without a word (see _ALIVE). No
    # tcp_user_timeout there: it would also end a session whose answer we are slow to read.
    "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3 "
    # Only Safepoint's own sessions may write while writes are stopped (see wayback.fence).
    "-c default_transaction_read_only=off"
)
# PGDATESTYLE and PGTZ of our environment come after these (libpq sends them as words of their own).
_AS_PINNED = ("ISO, YMD", "UTC")
_PIN_AGAIN = "SELECT set_config('datestyle', 'ISO, YMD', false), set_config('timezone', 'UTC', false)"
# From this version on there is one more, which an older server would not even let us name when connecting.
_TRANSACTION_TIMEOUT = 170000
# Where it is known by now (host, port): one of a few milliseconds would end a session before it is told otherwise.
_WITH_TRANSACTION_TIMEOUT: set[tuple[str, int]] = set()

# A database may give each of its sessions a role (ALTER DATABASE ... SET role), for the application's sake: acting as
# it we could neither read nor make what we must. Where our own login has one, it acts by it: so it was meant.
_AS_ITSELF = """
SELECT set_config('role', 'none', false) WHERE NOT EXISTS (
    SELECT FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
    WHERE r.rolname = session_user AND 'role' IN (SELECT split_part(one, '=', 1) FROM unnest(s.setconfig) one))
"""

# The first version with event triggers for logins, and with the setting that keeps them from acting. One that writes
# down each login lets no session in that only reads, writes after the safe point, and makes every copy another one.
# Superusers, and who was granted it, may keep them off while they connect: whether, of whom that is known by now.
LOGIN_TRIGGERS: Final = 170000
_UNTRIGGERED: dict[_Login, bool] = {}
_MAY_SET = """
    select current_setting('event_triggers') = 'on' and has_parameter_privilege(session_user, 'event_triggers', 'set')
"""
_BY_A_TRIGGER = "PL/pgSQL"

# A firewall or a host that went without a word answers nothing: the system would wait for hours, in the middle of a
# window. So a silent peer is given up within a minute (https://www.postgresql.org/docs/current/libpq-connect.html).
_ALIVE: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

OWN_NAMES: Final = "-c search_path=pg_catalog"
"""An option for sessions that ask nothing but PostgreSQL's own catalogue: names and operators are PostgreSQL's then.

In `public` everybody may make functions and operators up to version 14, and in what was upgraded from there; one that
fits our words better than PostgreSQL's own (`||` of two names) would be run with our rights (CVE-2018-1058,
https://wiki.postgresql.org/wiki/A_Guide_to_CVE-2018-1058).
"""

_ROWS = 20

PAST_POOLER = (
    "name the server itself in [database], host and port. The application may go on using the pooler; by "
    "the variables of [application] its manage.py is led past it."
)
"""What to do where a pooler stands in the server's place: it drops settings, and locks that a session holds."""


def connect(
    target: Target,
    *,
    autocommit: bool = True,
    application_name: str = "safepoint",
    lock_timeout: float | None = None,
    options: str = "",
    replication: bool = False,
    patience: int = 10,
) -> Connection:
    """Open a connection.

    Args:
        lock_timeout: seconds to wait for a lock; None waits for ever.
        options: more `-c name=value` words.
        replication: it speaks the replication protocol besides; its statements go as they are written.
        patience: seconds to wait for each of the server's addresses.

    Raises:
        DatabaseError: with what the server said and what to check next.
    """
    words = f"lock_timeout={int((lock_timeout or 0) * 1000)} {target.options} {options}"
    began = time.monotonic()
    try:
        return _connected(target, autocommit, application_name, words, replication, patience)
    except ServerAway as error:
        if "timeout expired" not in error.message or not _stood_still(target.host, began, patience):
            raise
    return _connected(target, autocommit, application_name, words, replication, patience)


def _stood_still(host: str, began: float, patience: int) -> bool:
    """Whether this process, or its machine, was stopped while it waited for a connection: the server had no chance."""
    addresses = 1
    with suppress(OSError):
        addresses = len({one[4][0] for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    return time.monotonic() - began > patience * addresses + _LATE


def _connected(
    target: Target, autocommit: bool, application_name: str, options: str, replication: bool, patience: int
) -> Connection:
    words = f"{_PINNED} -c {options}"
    server, login = (target.host, target.port), (target.host, target.port, target.user)
    settled = "event_triggers" in words
    kept_out: psycopg.OperationalError | None = None
    while True:
        known, untriggered = server in _WITH_TRANSACTION_TIMEOUT, not settled and _UNTRIGGERED.get(login, False)
        also = (" -c transaction_timeout=0" if known else "") + (" -c event_triggers=off" if untriggered else "")
        try:
            connection = psycopg.connect(
                **target.conninfo(),
                **_ALIVE,
                autocommit=True,
                application_name=application_name,
                connect_timeout=patience,
                # What is read here is written there, by sessions whose defaults (of the database, of the role, of our
                # own environment) need not agree. A keyword goes before all of these, PGCLIENTENCODING too.
                client_encoding="UTF8",
                options=words + also,
                replication="database" if replication else None,
            )
            _settle(connection, server, login, untriggered=untriggered)
            connection.autocommit = autocommit
        except psycopg.OperationalError as error:
            said = str(error)
            if known and "transaction_timeout" in said:  # another server is there now, of an older version
                _WITH_TRANSACTION_TIMEOUT.discard(server)
                _UNTRIGGERED.pop(login, None)
            elif untriggered and "event_triggers" in said:
                _UNTRIGGERED[login] = False
            elif kept_out is None and not untriggered and not settled and _BY_A_TRIGGER in said:
                _UNTRIGGERED[login] = True
                kept_out = error
            else:
                raise connection_error(target, kept_out or error) from None
            if kept_out is not None and not _UNTRIGGERED.get(login):
                raise connection_error(target, kept_out) from None
        else:
            return connection


def _settle(connection: Connection, server: tuple[str, int], login: _Login, *, untriggered: bool) -> None:
    """What can be said only once we know where we are; the next session of this login says it when connecting."""
    version = connection.info.server_version
    if version >= _TRANSACTION_TIMEOUT and server not in _WITH_TRANSACTION_TIMEOUT:
        _WITH_TRANSACTION_TIMEOUT.add(server)
        connection.execute("set transaction_timeout = 0")
    if (
        connection.info.parameter_status("DateStyle"),
        connection.info.parameter_status("TimeZone"),
    ) != _AS_PINNED:
        connection.execute(_PIN_AGAIN)
    # Asked by itself: to plan the rest takes a new session longer than all else about it.
    if connection.execute("show role").fetchone() != ("none",):
        connection.execute(_AS_ITSELF)
    if untriggered:
        with suppress(psycopg.errors.InsufficientPrivilege):  # where a login has a role of its own to act by
            connection.execute("set event_triggers = on")  # those of what is done here act as ever
    elif version >= LOGIN_TRIGGERS and login not in _UNTRIGGERED:
        _UNTRIGGERED[login] = connection.execute(_MAY_SET.encode()).fetchone() == (True,)


def undisturbed(connection: Connection, target: Target) -> Target:
    """A login to a copy for sessions that do nothing but what they are for, where it may say so: a superuser's.

    An event trigger for logins (from 17 on) would write a row for each of our sessions into what is to be compared, or
    let only the application's roles in
    (https://www.postgresql.org/docs/current/event-trigger-database-login-example.html). And what the database's own
    settings load for each session may not be installed there.

    Args:
        connection: of the same login to the same server.
    """
    if connection.info.parameter_status("is_superuser") != "on":
        return target
    words = "-c session_preload_libraries= -c local_preload_libraries= -c role=none"
    return replace(target, options=" ".join(filter(None, (target.options, words, *_untriggered(connection)))))


def unhurried(connection: Connection, target: Target) -> Target:
    """A login for programs of PostgreSQL: no setting of the database or the role, made for pages, cuts their sessions
    or lets them act as somebody else, and no event trigger for logins hears of them.

    Args:
        connection: of the same login to the same server.
    """
    words = ["-c transaction_timeout=0"] if connection.info.server_version >= _TRANSACTION_TIMEOUT else []
    row = connection.execute("SELECT current_setting('role')").fetchone()
    if row == ("none",):
        words.append("-c role=none")
    return replace(target, options=" ".join(filter(None, (target.options, *words, *_untriggered(connection)))))


def _untriggered(connection: Connection) -> tuple[str, ...]:
    if connection.info.server_version < LOGIN_TRIGGERS:
        return ()
    return ("-c event_triggers=off",) if connection.execute(_MAY_SET.encode()).fetchone() == (True,) else ()


def ask_with(connection: Connection, query: sql.SQL | sql.Composed, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Ask with values, whose places are $1, $2, ...: of a query that has names or SQL of the application's in it.

    A percent sign is one there; with the usual places (%s) it would be the beginning of one.
    """
    return psycopg.RawCursor(connection).execute(query, values).fetchall()


@contextmanager
def streamed(
    cursor: psycopg.Cursor[tuple[Any, ...]], query: str | sql.Composed, values: Sequence[Any] = ()
) -> Iterator[Iterator[tuple[Any, ...]]]:
    """The rows of a query as they come: what is held of them does not grow with their number, and little with their
    size. The connection does nothing else until the context ends; leaving it early cancels the query.
    """
    # libpq gives rows by the piece from version 17 on, and one by one before.
    size = _ROWS if psycopg.pq.version() >= 170000 else 1
    words = query.encode() if isinstance(query, str) else query
    rows = cursor.stream(words, values or None, binary=cursor.format == Format.BINARY, size=size)
    with closing(cast(Generator[tuple[Any, ...]], rows)):
        yield rows


def is_pooled(connection: Connection) -> bool:
    """Whether a connection pooler answers, and not the server itself: it says another process's id than the server."""
    row = connection.execute("select pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid


def was_lost(error: psycopg.Error) -> bool:
    """Whether a connection was lost, and not a statement refused: by no code at all, or those of an ending server.

    https://www.postgresql.org/docs/current/errcodes-appendix.html: class 08, and 57P (shutdown, crash, starting up).
    """
    code = error.sqlstate
    return isinstance(error, psycopg.OperationalError) and (code is None or code.startswith(("08", "57P")))


def connection_error(target: Target, error: psycopg.Error) -> DatabaseError:
    """Turn libpq's message into one with the next action. One that answers, and refuses, is not away."""
    said = _PREFIX.sub("", " ".join(str(error).split())).removesuffix(_HINT)
    remedies = (
        ("password authentication failed", f"Check the password of role {target.user!r}; see database.password_env."),
        ("unsupported startup parameter", f"{target.address} is a connection pooler (PgBouncer): {PAST_POOLER}"),
        ("no password supplied", "Name the environment variable with the password: database.password_env."),
        ("does not exist", "Check database.name and database.user in the plan file."),
        ("Connection refused", f"Is PostgreSQL running on {target.host} port {target.port}?"),
        ("failed to resolve host", f"Is {target.host} the right name, and does this machine's resolver know it?"),
        (
            "timeout expired",
            "Nothing answers there: are host and port right, and does a firewall let us pass?",
        ),
        ("too many clients", "Connections are used up: end idle sessions or raise max_connections."),
        (
            "too many connections for",
            "They are used up: end idle sessions, or raise that CONNECTION LIMIT (ALTER ROLE, ALTER DATABASE).",
        ),
        ("No space left on device", "The server's disk is full: make room on it."),
        ("max_wal_senders", "Replication connections are used up: end one, or raise max_wal_senders (a restart)."),
        (
            "remaining connection slots",
            "Connections are used up: end idle sessions or raise max_connections.",
        ),
    )
    remedy = next((text for sign, text in remedies if sign in said), "Check [database] in the plan file.")
    not_now, not_so = (any(sign in said for sign in signs) for signs in (_NOT_NOW, _NOT_SO))
    refuses = ("FATAL:" in said and not not_now) or not_so
    kind = DatabaseError if refuses else ServerAway
    return kind(f"Cannot connect to {target}: {said.rstrip('.')}.", subject=str(target), remedy=remedy)


def cancel(connection: Connection) -> None:
    """Cancel what it does at the moment. One that is gone has nothing to cancel, and its own error says why."""
    with suppress(psycopg.Error):
        connection.cancel_safe(timeout=5)


@contextmanager
def cancellable(connection: Connection, cancelled: Cancelled) -> Iterator[None]:
    """Cancel whatever statement the connection runs as soon as `cancelled` becomes true; it may be waiting for a lock.

    Raises:
        Interrupted: this happened, whatever came of the statement.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            if cancelled():
                cancel(connection)

    watcher = threading.Thread(target=watch, name="cancellable", daemon=True)
    watcher.start()
    try:
        yield
    except (psycopg.Error, SafepointError) as error:
        if isinstance(error, Interrupted) or not cancelled():
            raise
        raise Interrupted("It was ended by an order.", subject=connection.info.dbname) from error
    finally:
        done.set()
        watcher.join()
