"""Settings that belong to a database or to a role in it (`pg_db_role_setting`): read, and set exactly as they were.

TEMPLATE copies neither these nor the database's grants, so the twin gets them from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection

# Settings whose value is a list of quoted names: one string literal would become one name with commas in it. There
# is no catalogue of them; pg_dump keeps the same list (variable_is_guc_list_quote in its dumputils.c).
LISTS: Final = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)

OF_DATABASE = """
SELECT r.rolname, c
FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) WITH ORDINALITY u(c, place)
LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase = %s AND (s.setrole = 0 OR r.rolname IS NOT NULL)
ORDER BY 1 NULLS FIRST, place
"""

# The setting for a role in a database beats the one for the role everywhere: it comes last here.
OF_ROLE = """
SELECT c
FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c JOIN pg_roles r ON r.oid = s.setrole
WHERE r.rolname = %s AND s.setdatabase IN (0, %s)
ORDER BY s.setdatabase
"""
# What somebody else set for this database, or for the role, and ours may not: a parameter that is a superuser's (one
# that nobody defines is taken for such, but pg_settings does not show `role`), or a role that we do not administer.
NOT_OURS = """
SELECT r.rolname, m.name, m.mine, s.setdatabase = 0 OR r.oid IS NULL OR me.rolsuper
       OR NOT r.rolsuper AND me.rolcreaterole AND (
           current_setting('server_version_num')::int < 160000
           OR pg_has_role(me.oid, r.oid, 'member with admin option'))
FROM pg_roles me, pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c
CROSS JOIN LATERAL (SELECT split_part(c, '=', 1) AS name) n
LEFT JOIN pg_settings p ON lower(p.name) = lower(n.name)
CROSS JOIN LATERAL (SELECT n.name, me.rolsuper OR coalesce(p.context NOT LIKE 'superuser%%', n.name = 'role')
                           OR {granted} AS mine) m
LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE me.rolname = current_user AND (s.setrole = 0 OR r.rolname NOT LIKE 'safepoint\\_migrate\\_%%')
  AND (s.setdatabase = (SELECT oid FROM pg_database WHERE datname = %s) OR s.setdatabase = 0 AND r.rolname = ANY(%s))
ORDER BY 1 NULLS FIRST, 2
"""
_GRANTED_FROM: Final = 150000  # the version since which single parameters can be granted


@dataclass(frozen=True)
class Setting:
    """One setting of a database: for everyone (`role` None), or for one role in it."""

    role: str | None
    name: str
    value: str


def database_settings(connection: Connection, oid: int) -> tuple[Setting, ...]:
    """What ALTER DATABASE ... SET and ALTER ROLE ... IN DATABASE ... SET have set."""
    rows = connection.execute(OF_DATABASE, (oid,)).fetchall()
    return tuple(Setting(role, *_split(text)) for role, text in rows)


def role_settings(connection: Connection, role: str, oid: int) -> dict[str, str]:
    """What holds for sessions of a role in a database by the role's own settings."""
    return dict(_split(row[0]) for row in connection.execute(OF_ROLE, (role, oid)).fetchall())


@dataclass(frozen=True)
class NotOurs:
    """A setting that our role may not set, and what makes it so; `role` None: it is everyone's in the database."""

    role: str | None
    name: str
    grant: str

    def __str__(self) -> str:
        return self.name if self.role is None else f"{self.name} of {self.role}"


def not_ours(connection: Connection, database: str, owners: Sequence[str]) -> tuple[NotOurs, ...]:
    """The settings of a database, and of the roles that migrations act as, that our role may not set as they are.

    A twin would lack the first, and the migration's login the others.
    """
    granted = connection.info.server_version >= _GRANTED_FROM
    query = NOT_OURS.replace("{granted}", "has_parameter_privilege(n.name, 'set')" if granted else "false")
    user, found = connection.info.user, []
    for role, name, may_set, may_alter in connection.execute(query.encode(), (database, list(owners))).fetchall():
        if not may_set and granted:
            found.append(NotOurs(role, name, f"GRANT SET ON PARAMETER {name} TO {user}"))
        elif not may_set:
            found.append(NotOurs(role, name, f"ALTER ROLE {user} SUPERUSER"))
        elif not may_alter:
            found.append(NotOurs(role, name, f"GRANT {role} TO {user} WITH ADMIN OPTION"))
    return tuple(found)


def apply_setting(connection: Connection, database: str, setting: Setting) -> None:
    """Set one setting for a database (or for a role in it)."""
    if setting.role is not None:
        set_in_database(connection, setting.role, database, setting.name, setting.value)
        return
    altered = sql.SQL("ALTER DATABASE {}").format(sql.Identifier(database))
    connection.execute(altered + _assignment(setting.name, setting.value))


def set_in_database(connection: Connection, role: str, database: str, name: str, value: str) -> None:
    """ALTER ROLE ... IN DATABASE ... SET."""
    altered = sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), sql.Identifier(database))
    connection.execute(altered + _assignment(name, value))


def split_list(value: str) -> list[str]:
    """The names in a stored list such as `"$user", public, "a ""b"`. Pure."""
    names: list[str] = []
    at = 0
    while at < len(value):
        if value[at] in " ,\t\n":
            at += 1
        elif value[at] == '"':
            name, at = _quoted(value, at + 1)
            names.append(name)
        else:
            end = value.find(",", at)
            end = len(value) if end < 0 else end
            names.append(value[at:end].strip())
            at = end
    return names


def _quoted(value: str, at: int) -> tuple[str, int]:
    name = ""
    while True:
        end = value.find('"', at)
        if end < 0:
            return name + value[at:], len(value)
        name += value[at:end]
        if value[end + 1 : end + 2] != '"':
            return name, end + 1
        name += '"'
        at = end + 2


def collation_version(connection: Connection, oid: int) -> sql.Composable:
    """A database's own, for CREATE DATABASE ... TEMPLATE: where the system's libraries are newer (it was upgraded),
    PostgreSQL copies nothing that is not told it. The copy has the same indexes, and so the same version."""
    if connection.info.server_version < 150000:  # none was recorded
        return sql.SQL("")
    row = connection.execute("SELECT datcollversion FROM pg_database WHERE oid = %s", (oid,)).fetchone()
    version = None if row is None else row[0]
    return sql.SQL("") if version is None else sql.SQL(" COLLATION_VERSION {}").format(sql.Literal(version))


def _assignment(name: str, value: str) -> sql.Composed:
    words: Sequence[str] = (split_list(value) or [""]) if name.lower() in LISTS else [value]
    literals = sql.SQL(", ").join(sql.Literal(word) for word in words)
    return sql.SQL(" SET {} = {}").format(sql.Identifier(*name.split(".")), literals)


def _split(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
