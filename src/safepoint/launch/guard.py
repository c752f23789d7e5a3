"""The guard at the database: of two laptops with two state folders, one conducts.

`launch.lock` keeps two conductors of one state folder apart; it knows nothing of another machine. What they have in
common is the database. So the conductor holds a session-level advisory lock on the maintenance database for as long
as it works: the server lets go of it by itself when the session ends, and the session's name says who holds it.
The fence ends sessions on the live database only, so it does not end this one.

The guard never stands in the way of the way back: where the database cannot be reached the conductor works on without
it, and takes it as soon as the database answers. A server that answers and does not let the conductor in is another
matter: such a conductor could close the site, and nothing more.
"""

from __future__ import annotations

import hashlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from safepoint.errors import DatabaseError, PlanFileError, Refused, ServerAway
from safepoint.launch import remains
from safepoint.launch.ledger import Entry
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback.names import PREFIX

_CLASS: Final = 0x53414645
_PATIENCE: Final = 2.0
_RETRY: Final = 0.25
_PING: Final = 20.0
_ANSWERS: Final = 3.0
"""Seconds within which the session says that it is there; a link that carries nothing more says it never."""
_NAME_BYTES: Final = 63

TAKE: Final = "SELECT pg_try_advisory_lock(%s, %s)"

# pg_locks shows the locks of all databases: also those of a conductor whose plan file names another maintenance
# database. Names of sessions may be read by everyone; addresses and times only by some.
HOLDERS: Final = """
SELECT l.pid, coalesce(a.application_name, ''), coalesce(host(a.client_addr), ''),
       coalesce(date_trunc('second', a.backend_start AT TIME ZONE 'UTC')::text, '')
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.classid = %s::int8::oid AND l.objid = %s::int8::oid AND l.objsubid = 2
  AND l.granted AND l.pid <> pg_backend_pid()
ORDER BY 4
"""

# The session idles for hours. The server must not end it for that (the setting is there from PostgreSQL 14 on), and
# must find out within a minute when its machine is gone, so that another one can take over.
SETTLE: Final = """
SELECT set_config(name, value, false)
FROM (VALUES ('idle_session_timeout', '0'), ('tcp_keepalives_idle', '30'), ('tcp_keepalives_interval', '10'),
             ('tcp_keepalives_count', '3')) AS wanted (name, value)
WHERE EXISTS (SELECT FROM pg_settings s WHERE s.name = wanted.name)
"""

OWN: Final = """
SELECT pid, application_name, coalesce(host(client_addr), ''),
       coalesce(date_trunc('second', backend_start AT TIME ZONE 'UTC')::text, '')
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""


@dataclass(frozen=True)
class Holder:
    """A session that holds the guard. `name` is its application_name; address and time may be unknown."""

    pid: int
    name: str
    address: str
    since: str

    def __str__(self) -> str:
        who = self.name.removeprefix(f"{PREFIX} conductor ") or "someone who has not said who it is"
        place = f" from {self.address}" if self.address else ""
        since = f", since {self.since} UTC" if self.since else ""
        return f"{who}{place}{since} (PostgreSQL process {self.pid})"


def session_name(launch_id: str, person: str) -> str:
    """The guard's application_name, in the 63 bytes that PostgreSQL keeps: `safepoint conductor ID USER@MACHINE`. Pure.

    Where that is too long the launch's id is shortened before the person is.
    """
    room = _NAME_BYTES - len(f"{PREFIX} conductor  ")
    who = person.encode("ascii", "replace").decode()[: room - 12]
    return f"{PREFIX} conductor {launch_id[: room - len(who)]} {who}"


def key_of(database: str) -> tuple[int, int]:
    """The advisory lock's two numbers. By name and not by oid: a rollback gives the name to another database. Pure."""
    return _CLASS, int.from_bytes(hashlib.sha256(database.encode()).digest()[:4], "big") & 0x7FFFFFFF


def refusal(database: str, other: Holder) -> Refused:
    """What the second conductor is told. Pure."""
    return Refused(
        f"Another conductor is at work on the database {database}: {other}.",
        subject=database,
        expected="one conductor at a time",
        found=other.name or f"PostgreSQL process {other.pid}",
        remedy="Watch it, or give it an order (hold, abort, rollback), where it runs. If that machine is gone, "
        "PostgreSQL notices within about a minute; try again then.",
    )


class Guard:
    """Held by a conductor for its whole life; taken again when PostgreSQL was restarted or the link broke.

    Args:
        target: gives the live database as the conductor logs in.
        maintenance: the database that the lock is on.
    """

    def __init__(self, target: Callable[[], Target], maintenance: str, launch_id: str, person: str) -> None:
        self._target, self._maintenance = target, maintenance
        self._launch_id, self._name = launch_id, session_name(launch_id, person)
        self._connection: Connection | None = None
        self._former: Holder | None = None
        self._refusal: Refused | None = None
        self._entries: Callable[[], Sequence[Entry]] | None = None
        self._taking = threading.Lock()
        self._away = False
        self._done = threading.Event()
        self._wake: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    @property
    def refusal(self) -> Refused | None:
        """Set once another conductor has the guard: this one must stop without another word."""
        return self._refusal

    @property
    def held(self) -> bool:
        """Whether this conductor holds the guard now; False while the database cannot be reached."""
        return self._connection is not None

    def take(self) -> None:
        """Take it, and watch over it from now on. A database that cannot be reached refuses nobody.

        Raises:
            Refused: another conductor holds it.
            PlanFileError: the variable with the password is not set.
            DatabaseError: the server answers, and refuses the conductor's login.
        """
        deadline = time.monotonic() + _PATIENCE  # a conductor that was killed an instant ago may be seen still
        while (other := self._try()) is not None:
            if time.monotonic() >= deadline:
                raise refusal(self._target().dbname, other)
            time.sleep(_RETRY)
        if self._connection is None:
            self._refuse_without_login()
        self._wake = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)
        self._thread.start()

    def _refuse_without_login(self) -> None:
        """No `retry` would help later: what a process has in its environment stays as it is."""
        try:
            connect(self._target().on(self._maintenance)).close()
        except ServerAway:
            return
        except (DatabaseError, PlanFileError) as error:
            raise type(error)(
                f"{error.message.rstrip('.')}. Nothing was done: things stand as `safepoint status` says.",
                subject=error.subject,
                remedy=error.remedy,
            ) from None

    def refuse_remains(self, entries: Callable[[], Sequence[Entry]]) -> None:
        """Refuse to conduct a launch of which another state folder has left traces on the server.

        A conductor that knows nothing of that one's twin would take the migrated database for the old one.

        Args:
            entries: this state folder's ledger of the launch, which explains its own; asked again whenever the guard
                had been lost for a time.

        Raises:
            Refused: there are such traces.
        """
        self._entries = entries
        if self._connection is not None:  # nothing of the launch will go on without the database
            remains.refuse_unexplained(self._connection, self._target().dbname, self._launch_id, entries())

    def confirm(self) -> bool:
        """Before each step: whether this conductor may go on. One whose machine slept has lost the guard without
        having seen it, and another may have conducted meanwhile. A database that cannot be reached refuses nobody:
        a session that says nothing is given up after three seconds, and a new one is tried for five, once an outage.
        """
        connection = self._connection
        if connection is not None and not _responds(connection):
            self._drop(connection)
        if self._connection is None and not self._away:
            self._take_again(unless_away=True)
        return self._refusal is None

    def release(self) -> None:
        """Let go of it. May be called whether it is held or not."""
        self._done.set()
        if self._wake is not None:
            os.write(self._wake[1], b"x")
        if self._thread is not None:
            self._thread.join(5)
        if self._wake is not None and not (self._thread and self._thread.is_alive()):
            for end in self._wake:
                os.close(end)
        self._wake = self._thread = None
        self._drop()

    # -- one try -------------------------------------------------------------------------------------------------

    def _try(self) -> Holder | None:
        """Take the lock; who has it where that is someone else. Without an answer of the server: not held, nobody."""
        try:
            connection = self._connect()
        except (psycopg.Error, PlanFileError):
            return None
        try:
            other = self._lock(connection)
            if other is None:
                self._former = Holder(*_row(connection, OWN))
                self._connection = connection
            else:
                connection.close()
        except psycopg.Error:
            connection.close()
            return None
        return other

    def _lock(self, connection: Connection) -> Holder | None:
        first, second = key_of(self._target().dbname)
        connection.execute(SETTLE)
        for _try in range(20):
            mine = _row(connection, TAKE, (first, second))[0]
            others = [Holder(*row) for row in connection.execute(HOLDERS, (first, second)).fetchall()]
            former = next((other for other in others if other == self._former), None)
            if former is not None:
                # Our own session from before the link broke: the server has not noticed yet that nobody is there.
                connection.execute("SELECT pg_terminate_backend(%s, 2000)", (former.pid,))
            elif others:
                return others[0]
            elif mine:
                return None
            time.sleep(0.05)
        return Holder(0, "", "", "")

    def _connect(self) -> Connection:
        # Not by `connections.connect`: a link that died without a word has to be found out on this side, too.
        return psycopg.connect(
            **self._target().on(self._maintenance).conninfo(),
            autocommit=True,
            application_name=self._name,
            connect_timeout=5,
            client_encoding="UTF8",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
            options="-c statement_timeout=10s -c client_min_messages=warning",
        )

    # -- watching over it ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._done.is_set():
            if self._connection is None:
                if self._done.wait(_RETRY):
                    return
                self._take_again()
                if self._refusal is not None:
                    return
            elif (connection := self._connection) is not None and self._silent_end(connection):
                self._drop(connection)

    def _take_again(self, *, unless_away: bool = False) -> None:
        """After it was lost; whoever had it meanwhile may have gone on with the launch.

        Args:
            unless_away: not where the thread that watches has tried it in vain while we came to it.
        """
        with self._taking:
            if self.held or self._refusal is not None or (unless_away and self._away):
                return
            if (other := self._try()) is not None:
                self._refusal = refusal(self._target().dbname, other)
            self._away = self._connection is None
            if self._connection is None or self._entries is None:
                return
            try:
                database, entries = self._target().dbname, list(self._entries())
                remains.refuse_unexplained(self._connection, database, self._launch_id, entries)
            except Refused as error:
                self._refusal = error
            except psycopg.Error:
                self._drop()

    def _silent_end(self, connection: Connection) -> bool:
        """Wait until the session has ended (True), or there is reason to look again (False). Asks next to nothing."""
        wake = self._wake[0] if self._wake else -1
        try:
            poll = select.poll()
            poll.register(connection.fileno(), select.POLLIN)
            poll.register(wake, select.POLLIN)
            if any(descriptor == wake for descriptor, _ in poll.poll(_PING * 1000)):
                return False
            connection.execute("SELECT 1")
        except (psycopg.Error, OSError, ValueError):
            return True
        return False

    def _drop(self, lost: Connection | None = None) -> None:
        """Let go of the session: of whichever there is, or of the one that is lost."""
        connection = self._connection if lost is None else lost
        if self._connection is connection:
            self._connection, self._away = None, False
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


def _responds(connection: Connection) -> bool:
    """Whether the session is there, and says so in time. Where its link is silent the server does not hear that it was
    given up either: nobody else gets the lock, and the session is ended when the lock is taken again.
    """
    silent = threading.Timer(_ANSWERS, _cut, [connection])
    silent.daemon = True
    silent.start()
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    finally:
        silent.cancel()
    return True


def _cut(connection: Connection) -> None:
    """End what waits for an answer, in whichever thread; closing the connection would wait for it."""
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as link:
        link.shutdown(socket.SHUT_RDWR)


def _row(connection: Connection, query: Any, values: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    return connection.execute(query, values).fetchone() or ()
