"""A login for the migration alone: the application's role cannot log in while the fence stands.

Its sessions act as the owner of the application's tables (`role` is set for them), so that what the migration makes
belongs to whom it always belonged, and they may write although the database's default is read-only.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Final

import psycopg
from psycopg import sql

from safepoint.errors import DatabaseError, Refused
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback.names import made_by, migration_role
from safepoint.wayback.sessions import asking, at_maintenance, database_oid
from safepoint.wayback.settings import database_settings, role_settings, set_in_database

_PURPOSE: Final = "login of the migration"
_HOURS: Final = 12  # after which the login ends by itself, should it be left behind
# A rehearsal's server has none of them set for the server as a whole, so what one of them would cut was not seen there.
_TIMEOUTS: Final = (
    "statement_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)


def migration_login(
    target: Target,
    launch_id: str,
    owner_role: str,
    *,
    maintenance: str = "postgres",
    lock_timeout: float = 5.0,
    password: str | None = None,
) -> Target:
    """Make (or renew) the login; gives a target with its password, which is stored nowhere.

    The owner's own settings (a search_path, perhaps) are copied, for they hold only where the owner itself logs in. But
    its and the server's timeouts, which are made for pages, do not cut a migration: only the one for locks does.

    Args:
        lock_timeout: seconds that a statement of the migration waits for a lock.
        password: None makes a new one.

    Raises:
        Refused: a role of this name is there that Safepoint did not make.
        DatabaseError: a right is missing, the owner does not exist, or the server does not let the login in.
    """
    role = migration_role(launch_id)
    password = password or secrets.token_urlsafe(24)
    with at_maintenance(target, maintenance) as connection, asking("Making the migration's login", role):
        # Hashed here, so that the password does not stand in the server's log either; and by SCRAM, whatever the server
        # keeps passwords as (`password_encryption`): pg_hba.conf may take nothing else, and its `md5` takes both.
        hashed = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        name = sql.Identifier(role)
        with connection.transaction():
            if not _is_ours(connection, role, launch_id):
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN INHERIT").format(name))
                comment = sql.Literal(made_by(launch_id, _PURPOSE))
                connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(name, comment))
            connection.execute(
                sql.SQL("ALTER ROLE {} LOGIN PASSWORD {} VALID UNTIL {}").format(
                    name, sql.Literal(hashed), sql.Literal(_end(connection))
                )
            )
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner_role), name))
            oid = database_oid(connection, target.dbname) or 0
            acts_as = _acts_as(connection, owner_role, oid)
            settings = {
                **role_settings(connection, owner_role, oid),
                "role": acts_as,
                "default_transaction_read_only": "off",
                **_endless(connection),
                "lock_timeout": f"{int(lock_timeout * 1000)}ms",
            }
            for setting, value in settings.items():
                # A superuser may have set what is not ours to set (its logging, say).
                with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    set_in_database(connection, role, target.dbname, setting, value)
    login = target.login(role, password)
    _verify(login, acts_as)
    return login


def drop_migration_login(target: Target, launch_id: str, owner_role: str, *, maintenance: str = "postgres") -> bool:
    """End the login's sessions and remove it; gives whether it was there. May be run again at any time.

    Should anything belong to the login itself (a migration that reset its role), it is given to the owner first.
    """
    role = migration_role(launch_id)
    name, owner = sql.Identifier(role), sql.Identifier(owner_role)
    if not close_migration_login(target, launch_id, maintenance=maintenance):
        return False
    with (
        connect(target, application_name="safepoint fence", lock_timeout=5) as connection,
        asking("Removing the migration's login", role),
        connection.transaction(),
    ):
        # Whoever is no superuser may do this only to a role that it is a member of; what it made, it may grant.
        superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        if superuser != (True,):
            connection.execute(sql.SQL("GRANT {} TO current_user").format(name))
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(name, owner))
        connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
        connection.execute(sql.SQL("DROP ROLE {}").format(name))
    return True


def close_migration_login(target: Target, launch_id: str, *, maintenance: str = "postgres") -> bool:
    """Keep the login out, and end its sessions; gives whether it was there. May be run again at any time.

    A migration that a killed conductor began may not have connected yet: it must not do so after a rollback has swapped
    the databases, for it would migrate the old one.
    """
    role = migration_role(launch_id)
    with at_maintenance(target, maintenance) as connection, asking("Closing the migration's login", role):
        if not _is_ours(connection, role, launch_id):
            return False
        connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
        connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", (role,))
        return True


def _acts_as(connection: Connection, role: str, database: int) -> str:
    """Whom the role's sessions there act as, by their settings: that one owns the application's tables."""
    everyones = {one.name: one.value for one in database_settings(connection, database) if one.role is None}
    acts_as = role_settings(connection, role, database).get("role", everyones.get("role", "none"))
    return role if acts_as == "none" else acts_as


def _endless(connection: Connection) -> dict[str, str]:
    """Those of the timeouts that this version has, switched off."""
    rows = connection.execute("SELECT name FROM pg_settings WHERE name = ANY(%s)", (list(_TIMEOUTS),)).fetchall()
    return {str(row[0]): "0" for row in rows}


def _is_ours(connection: Connection, role: str, launch_id: str) -> bool:
    """Is the role there, and made by this launch?"""
    row = connection.execute(
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", (role,)
    ).fetchone()
    if row is None:
        return False
    if row[0] != made_by(launch_id, _PURPOSE):
        raise Refused(
            f"There is a role {role} that Safepoint did not make for this launch.",
            subject=role,
            expected=f"no such role, or one with the comment '{made_by(launch_id, _PURPOSE)}'",
            found=f"the comment {row[0]!r}",
            remedy=f"Look whose role {role} is; rename or drop it yourself, then try again.",
        )
    return True


def _end(connection: Connection) -> str:
    """When the login ends, by the server's clock, by which it is judged: this machine's may be another one."""
    row = connection.execute("SELECT (now() + %s * interval '1 hour')::text", [_HOURS]).fetchone()
    return str(row[0]) if row else "infinity"


def _verify(login: Target, owner_role: str) -> None:
    """Log in once the way `manage.py` will, without the settings that Safepoint pins for itself."""
    try:
        with psycopg.connect(**login.conninfo(), connect_timeout=10, autocommit=True) as connection:
            row = connection.execute("SELECT current_user, current_setting('default_transaction_read_only')").fetchone()
    except psycopg.OperationalError as error:
        raise DatabaseError(
            f"The migration's login cannot log in to {login}.",
            subject=login.user,
            found=" ".join(str(error).split()),
            remedy="Does pg_hba.conf let only named roles in? Let roles that begin with safepoint_migrate_ in too.",
        ) from None
    if row != (owner_role, "off"):
        raise DatabaseError(
            "The migration's login does not act as the owner of the application's tables.",
            subject=login.user,
            expected=f"current_user {owner_role}, default_transaction_read_only off",
            found=str(row),
            remedy="Report this as a fault of Safepoint, with the server's version.",
        )
