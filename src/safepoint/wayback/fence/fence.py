"""The fence: what keeps everyone but the conductor from writing to the database during the window.

Three holds, each undone exactly from what was recorded before: the database's default becomes read-only, the
application's roles lose LOGIN, the sessions that are there are ended. The first two are one transaction, so there is
nothing between them; a kill before or after it is answered by running `close` again. None of them is trusted to be
enough (a superuser can set the default back): `fence.quiet` proves that nobody wrote.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, LiteralString

from psycopg import sql

from safepoint.errors import DatabaseError, Refused
from safepoint.postgres.connections import Connection
from safepoint.postgres.target import Target
from safepoint.wayback.names import PREFIX
from safepoint.wayback.sessions import (
    POLL_SECONDS,
    Session,
    asking,
    at_maintenance,
    database_name,
    database_oid,
    end_sessions,
    prepared,
    sessions,
    walsenders,
)

_CLEAN_POLLS: Final = 3
_RETURNING_SECONDS: Final = 1.0
# A role's own setting beats the database's (PostgreSQL applies role-in-database, role, database, in this order of
# strength), so a role with `default_transaction_read_only = off` would write on. Safepoint's own logins are left out.
READ_ONLY_SETTINGS = """
SELECT r.rolname, s.setdatabase <> 0, split_part(c, '=', 2)
FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase IN (0, %s) AND lower(split_part(c, '=', 1)) = 'default_transaction_read_only'
  AND (s.setdatabase <> 0 OR s.setrole <> 0) AND coalesce(r.rolname, '') NOT LIKE %s
ORDER BY 1, 2
"""

# An enabled subscription writes without any client session, and its worker comes back when it is ended.
SUBSCRIPTIONS = "SELECT subname FROM pg_subscription WHERE subdbid = %s AND subenabled ORDER BY 1"


@dataclass(frozen=True)
class RoleSetting:
    """A role whose own read-only setting beats the database's; `in_database` is its prior value there, if any."""

    role: str
    in_database: str | None


@dataclass(frozen=True)
class FencePrior:
    """How things stood before the fence: recorded before anything is changed, and enough to undo it exactly.

    `logins` are the application's roles that could log in and will not be able to. `shared_roles` are those that
    the conductor uses itself, so that they cannot be closed.
    """

    database: str
    database_oid: int
    read_only: str | None
    role_settings: tuple[RoleSetting, ...]
    logins: tuple[str, ...]
    shared_roles: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FencePrior:
        """Back from the ledger."""
        settings = tuple(RoleSetting(**setting) for setting in data["role_settings"])
        logins, shared = tuple(data["logins"]), tuple(data["shared_roles"])
        return cls(data["database"], data["database_oid"], data["read_only"], settings, logins, shared)


@dataclass(frozen=True)
class FenceFacts:
    """What closing did. `returning` are sessions that came back after the holds, and are read-only by default."""

    database: str
    closed_logins: tuple[str, ...]
    ended_sessions: int
    returning: tuple[Session, ...]
    held_at: str
    seconds: float
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


@dataclass(frozen=True)
class FenceState:
    """Whether the holds stand now."""

    read_only: bool
    open_logins: tuple[str, ...]
    writable_roles: tuple[str, ...]
    sessions: tuple[Session, ...]

    @property
    def holds(self) -> bool:
        """Do the holds stand? (Sessions that come back under them are seen in `sessions`.)"""
        return self.read_only and not self.open_logins and not self.writable_roles

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return {**asdict(self), "holds": self.holds}


def survey_fence(target: Target, roles: Sequence[str], *, maintenance: str = "postgres") -> FencePrior:
    """See how things stand before the fence. Changes nothing; record the answer before calling `close`.

    Raises:
        DatabaseError: the database or one of the application's roles does not exist.
    """
    with at_maintenance(target, maintenance) as connection, asking("Surveying the fence", target.dbname):
        oid = oid_of(connection, target.dbname)
        rows = connection.execute(
            "SELECT rolname, rolcanlogin, rolname = current_user FROM pg_roles WHERE rolname = ANY(%s)", (list(roles),)
        ).fetchall()
        missing = sorted(set(roles) - {row[0] for row in rows})
        if missing:
            raise DatabaseError(
                f"The server has no role {', '.join(missing)}.",
                subject="database.application_roles",
                expected="the roles that the application connects as",
                remedy="Correct database.application_roles in the plan file.",
            )
        read_only, settings = _read_only_settings(connection, oid)
        return FencePrior(
            database=target.dbname,
            database_oid=oid,
            read_only=read_only,
            role_settings=settings,
            logins=tuple(sorted(name for name, can_login, own in rows if can_login and not own)),
            shared_roles=tuple(sorted(name for name, _, own in rows if own)),
        )


def close(target: Target, prior: FencePrior, *, maintenance: str = "postgres", timeout: float = 30.0) -> FenceFacts:
    """Put all holds in place and end the sessions of others. May be run again at any time.

    Args:
        timeout: seconds within which the sessions that began before the holds must have ended.

    Raises:
        Refused: a prepared transaction, a subscription or a replication consumer is in the way; nothing was changed.
        DatabaseError: a right is missing, or sessions do not end; `reopen` undoes what was done.
    """
    began = time.monotonic()
    with at_maintenance(target, maintenance) as connection, asking("Closing the fence", prior.database):
        name = _present_name(connection, prior)
        _refuse_obstacles(connection, prior)
        with connection.transaction():
            _set(connection, sql.SQL("ALTER DATABASE {}").format(sql.Identifier(name)), "on")
            for setting in prior.role_settings:
                if _role_exists(connection, setting.role):
                    _set(connection, _role_in_database(setting.role, name), "on")
            for role in prior.logins:
                connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
        held_at = str(_value(connection, "SELECT clock_timestamp()::text"))
        ended, returning = _end_all(connection, prior, held_at, timeout)
        # Someone may have prepared a transaction just before the holds came.
        _refuse_obstacles(connection, prior)
    return FenceFacts(
        database=name,
        closed_logins=prior.logins,
        ended_sessions=ended,
        returning=returning,
        held_at=held_at,
        seconds=round(time.monotonic() - began, 3),
        notes=_notes(prior, returning),
    )


def reopen(target: Target, prior: FencePrior, *, maintenance: str = "postgres") -> None:
    """Undo all holds, exactly, whether all of them, some or none stand. May be run again at any time.

    The database is found by its oid, so this also works after a swap. A role that was dropped since is passed over.
    """
    with (
        at_maintenance(target, maintenance) as connection,
        asking("Reopening the fence", prior.database, "Run `safepoint abort` again once PostgreSQL answers."),
        connection.transaction(),
    ):
        name = database_name(connection, prior.database_oid)
        if name is not None:
            _set(connection, sql.SQL("ALTER DATABASE {}").format(sql.Identifier(name)), prior.read_only)
        for setting in prior.role_settings:
            if name is not None and _role_exists(connection, setting.role):
                _set(connection, _role_in_database(setting.role, name), setting.in_database)
        for role in prior.logins:
            if _role_exists(connection, role):
                connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))


def standing(target: Target, prior: FencePrior, *, maintenance: str = "postgres") -> FenceState:
    """See whether the holds stand. Changes nothing."""
    with at_maintenance(target, maintenance) as connection, asking("Looking at the fence", prior.database):
        read_only, _ = _read_only_settings(connection, prior.database_oid)
        open_logins = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s) AND rolcanlogin ORDER BY 1", (list(prior.logins),)
        ).fetchall()
        return FenceState(
            read_only=_is_on(read_only),
            open_logins=tuple(str(row[0]) for row in open_logins),
            writable_roles=_writable_roles(connection, prior.database_oid),
            sessions=sessions(connection, [prior.database_oid]),
        )


def _end_all(
    connection: Connection, prior: FencePrior, held_at: str, timeout: float
) -> tuple[int, tuple[Session, ...]]:
    """End sessions until none is left over several polls; gives how many were seen, and those that keep returning.

    A session that began after the holds has read them: it is read-only by default. It is ended too, but if it keeps
    coming back (a role that is not the application's, or that the conductor uses itself) it is only reported.
    """
    oids = [prior.database_oid]
    seen: set[int] = set()
    clean, began = 0, time.monotonic()
    old_gone_at: float | None = None
    returning: tuple[Session, ...] = ()
    while True:
        now = time.monotonic()
        present = sessions(connection, oids)
        older = sessions(connection, oids, older_than=held_at)
        seen.update(session.pid for session in present)
        returning = present if present and not older else returning
        clean = 0 if present else clean + 1
        if clean >= _CLEAN_POLLS:
            return len(seen), ()
        if older:
            old_gone_at = None
            if now - began > timeout:
                raise _resisting(prior, older, timeout)
        else:
            old_gone_at = old_gone_at or now
            if now - old_gone_at > _RETURNING_SECONDS:
                return len(seen), returning
        end_sessions(connection, oids)
        time.sleep(POLL_SECONDS)


def _resisting(prior: FencePrior, older: Sequence[Session], timeout: float) -> DatabaseError:
    return DatabaseError(
        f"{len(older)} session(s) on {prior.database} do not end.",
        subject=prior.database,
        expected=f"no session from before the stop within {timeout:g} s",
        found="; ".join(str(session) for session in older[:5]),
        remedy="Stop these clients where they run (or end the processes on the server), then `safepoint retry`.",
    )


def _refuse_obstacles(connection: Connection, prior: FencePrior) -> None:
    oids = [prior.database_oid]
    if waiting := prepared(connection, oids):
        raise Refused(
            f"{len(waiting)} prepared transaction(s) on {prior.database} could still commit after the stop.",
            subject=prior.database,
            expected="no prepared transaction",
            found="; ".join(waiting[:5]),
            remedy="Decide each with COMMIT PREPARED '...' or ROLLBACK PREPARED '...', then `safepoint retry`.",
        )
    if consumers := walsenders(connection, oids):
        raise Refused(
            f"{len(consumers)} logical replication consumer(s) read {prior.database}.",
            subject=prior.database,
            expected="no replication connection on this database during the window",
            found="; ".join(consumers[:5]),
            remedy="Pause them (they go on from their slot afterwards), then `safepoint retry`.",
        )
    rows = connection.execute(SUBSCRIPTIONS, (prior.database_oid,)).fetchall()
    if rows:
        names = ", ".join(str(row[0]) for row in rows)
        raise Refused(
            f"A subscription writes into {prior.database}.",
            subject=prior.database,
            expected="no enabled subscription during the window",
            found=names,
            remedy="ALTER SUBSCRIPTION ... DISABLE, then `safepoint retry`; enable it again after the launch.",
        )


def _notes(prior: FencePrior, returning: Sequence[Session]) -> tuple[str, ...]:
    notes = []
    if prior.shared_roles:
        notes.append(
            f"The application's role {', '.join(prior.shared_roles)} is the conductor's own and keeps its LOGIN: its "
            "new sessions are read-only by default, which a client can set back. Quiet is proven, not assumed."
        )
    if returning:
        roles = ", ".join(sorted({session.role for session in returning}))
        notes.append(f"Sessions of {roles} keep coming back; they are read-only by default.")
    return tuple(notes)


def _read_only_settings(connection: Connection, oid: int) -> tuple[str | None, tuple[RoleSetting, ...]]:
    """The database's own setting, and the roles that have one (their value in this database, if it is there)."""
    read_only: str | None = None
    roles: dict[str, str | None] = {}
    for role, in_database, value in connection.execute(READ_ONLY_SETTINGS, (oid, f"{PREFIX}\\_migrate\\_%")).fetchall():
        if role is None:
            read_only = value
        elif in_database:
            roles[role] = value
        else:
            roles.setdefault(role, None)
    return read_only, tuple(RoleSetting(role, value) for role, value in sorted(roles.items()))


def _writable_roles(connection: Connection, oid: int) -> tuple[str, ...]:
    """Roles whose own setting lets them write by default in this database."""
    effective: dict[str, str] = {}
    for role, in_database, value in connection.execute(READ_ONLY_SETTINGS, (oid, f"{PREFIX}\\_migrate\\_%")).fetchall():
        if role is not None and (in_database or role not in effective):
            effective[role] = value
    return tuple(sorted(role for role, value in effective.items() if not _is_on(value)))


def _is_on(value: str | None) -> bool:
    # PostgreSQL takes any unambiguous prefix of these words for true.
    word = (value or "").lower()
    return word in {"1", "on"} or (word != "" and ("true".startswith(word) or "yes".startswith(word)))


def _set(connection: Connection, altered: sql.Composed, value: str | None) -> None:
    change = (
        sql.SQL(" RESET default_transaction_read_only")
        if value is None
        else sql.SQL(" SET default_transaction_read_only = {}").format(sql.Literal(value))
    )
    connection.execute(altered + change)


def _role_in_database(role: str, database: str) -> sql.Composed:
    return sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), sql.Identifier(database))


def _role_exists(connection: Connection, role: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None


def _present_name(connection: Connection, prior: FencePrior) -> str:
    name = database_name(connection, prior.database_oid)
    if name is None:
        raise DatabaseError(
            f"The database {prior.database} (oid {prior.database_oid}) is gone.",
            subject=prior.database,
            remedy="Check database.name in the plan file; was the database dropped or restored meanwhile?",
        )
    return name


def oid_of(connection: Connection, name: str) -> int:
    """The oid of a database, which has to be there."""
    oid = database_oid(connection, name)
    if oid is None:
        raise DatabaseError(
            f"There is no database {name}.", subject=name, remedy="Check database.name in the plan file."
        )
    return oid


def _value(connection: Connection, query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
