"""Sessions that stand in for the application's on a copy of its database, so that a fence has somebody to keep out.

Each role has one session that writes all the time and comes back whenever it is ended, as a pool of connections does,
and one that holds a write open. What they write is a lock on a row and a message in the log, which a read-only session
is refused: no value changes by it, no trigger runs, no sequence moves.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target

_EVERY: Final = 0.02
_PATIENCE: Final = 5.0
NAME: Final = "safepoint stand-in"

# The smallest table with rows that the role may write to.
_WRITABLE: Final = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND has_schema_privilege(%(role)s, n.oid, 'USAGE') AND has_table_privilege(%(role)s, c.oid, 'SELECT')
  AND has_table_privilege(%(role)s, c.oid, 'UPDATE')
ORDER BY pg_relation_size(c.oid) = 0, pg_relation_size(c.oid), 1, 2 LIMIT 1
"""


@dataclass(frozen=True)
class Stood:
    """What a role's sessions saw. `wrote` counts commits before the fence was closed; `held`: a write was open then.

    While it was closed: `refused` logins with the server's `refusal`, and `got_in` those that were let in; `read_only`
    writes that were refused, and `wrote_inside` those that were not. `fault` says why nothing could stand in.
    """

    role: str
    wrote: int = 0
    held: bool = False
    refused: int = 0
    refusal: str = ""
    got_in: int = 0
    read_only: int = 0
    wrote_inside: int = 0
    fault: str = ""


def admit(connection: Connection, role: str) -> str:
    """Give the role of a copy's own server a password that nobody else knows, and room to use it; gives the password.

    Only for a server that is thrown away.
    """
    password = secrets.token_urlsafe(24)
    hashed = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    words = sql.Identifier(role), sql.Literal(hashed)
    query = sql.SQL("ALTER ROLE {} PASSWORD {} VALID UNTIL 'infinity' CONNECTION LIMIT -1")
    connection.execute(query.format(*words))
    return password


class StandIns:
    """The sessions, from entering to leaving; they are there, and have written, once it is entered.

    Call `fenced` once the fence is closed, and `stood` for what they saw.
    """

    def __init__(self, copy: Target, roles: Sequence[str]) -> None:
        self._closed = threading.Event()
        self._left = threading.Event()
        with connect(copy, application_name=NAME) as connection:
            self._all = [
                _StandIn(copy.login(role, admit(connection, role)), _write(connection, role), self._closed, self._left)
                for role in roles
            ]

    def __enter__(self) -> StandIns:
        for one in self._all:
            one.start()
        for one in self._all:
            one.begun.wait(_PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        for one in self._all:
            one.end()

    def fenced(self) -> None:
        """From now on nobody may get in. Waits until each has tried to."""
        self._closed.set()
        deadline = time.monotonic() + _PATIENCE
        while any(one.untried for one in self._all) and time.monotonic() < deadline:
            time.sleep(_EVERY / 2)

    def stood(self) -> tuple[Stood, ...]:
        """What each role's sessions saw."""
        return tuple(one.stood() for one in self._all)

    def kept_out(self) -> dict[str, str]:
        """The roles that cannot log in and write, with the server's words; asked once each, whenever it is called."""
        return {one.role: said for one in self._all if not one.fault and (said := one.tried()) is not None}


def _write(connection: Connection, role: str) -> sql.Composed | None:
    """A lock on a row that no other one holds, and a message in the log, for decoding passes over mere locks. To the
    server that is a write. None: the role may not write anything."""
    row = connection.execute(_WRITABLE, {"role": role}).fetchone()
    if row is None:
        return None
    return sql.SQL(
        "SELECT pg_logical_emit_message(true, 'safepoint', 'stand-in') "
        "FROM (SELECT 1 FROM {} LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) locked"
    ).format(sql.Identifier(*row))


class _StandIn:
    def __init__(
        self, login: Target, write: sql.Composed | None, closed: threading.Event, left: threading.Event
    ) -> None:
        self.begun = threading.Event()
        self._login, self._write, self._closed, self._left = login, write, closed, left
        self._wrote = self._refused = self._got_in = self._read_only = self._wrote_inside = 0
        self._refusal = self._fault = ""
        self._holder: psycopg.Connection | None = None
        self._held = False
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    @property
    def role(self) -> str:
        return self._login.user

    @property
    def fault(self) -> str:
        return self._fault

    def tried(self) -> str | None:
        """Log in and write once, and take it back; what the server said against it."""
        try:
            with self._connected(autocommit=False) as connection:
                connection.execute("SELECT 1" if self._write is None else self._write)
                connection.rollback()
        except psycopg.Error as error:
            return _said(error)
        return None

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._thread.join(_PATIENCE)
        if self._holder is not None:
            self._holder.close()

    @property
    def untried(self) -> bool:
        """Whether it does not know yet what the fence does to it."""
        return not self.fault and not (self._refused or self._read_only or self._wrote_inside or self._got_in)

    def stood(self) -> Stood:
        return Stood(
            self.role,
            self._wrote,
            self._held,
            self._refused,
            self._refusal,
            self._got_in,
            self._read_only,
            self._wrote_inside,
            self._fault,
        )

    def _run(self) -> None:
        try:
            self._hold()
            while not self._left.is_set():
                self._session()
                self._left.wait(_EVERY)
        except psycopg.Error as error:  # before the fence nothing may fail: then nobody stands in
            self._fault = _said(error)
        finally:
            self.begun.set()

    def _hold(self) -> None:
        """A transaction that has written, and is not ended: the hardest to be rid of."""
        self._holder = self._connected(autocommit=False)
        if self._write is not None:
            self._holder.execute(self._write)
            self._held = True

    def _session(self) -> None:
        """A session until it is ended. What it is refused counts only once the fence is closed."""
        try:
            connection = self._connected(autocommit=True)
        except psycopg.OperationalError as error:
            if not self.begun.is_set():
                raise
            self._refused += 1
            self._refusal = _said(error)
            return
        self._got_in += self._closed.is_set()
        with connection:
            try:
                while not self._left.is_set():
                    self._once(connection)
                    self._left.wait(_EVERY)
            except psycopg.OperationalError:
                return  # it was ended

    def _once(self, connection: psycopg.Connection) -> None:
        inside = self._closed.is_set()
        try:
            connection.execute("SELECT 1" if self._write is None else self._write)
        except psycopg.errors.ReadOnlySqlTransaction:
            self._read_only += 1
            return
        if inside:
            self._wrote_inside += self._write is not None
        else:
            self._wrote += self._write is not None
        self.begun.set()

    def _connected(self, *, autocommit: bool) -> psycopg.Connection:
        """As an application would: with nothing of Safepoint's own settings."""
        return psycopg.connect(
            **self._login.conninfo(),
            autocommit=autocommit,
            application_name=NAME,
            connect_timeout=5,
        )


def _said(error: psycopg.Error) -> str:
    return " ".join(str(error.diag.message_primary or error).split()).rpartition("FATAL: ")[2].strip()
