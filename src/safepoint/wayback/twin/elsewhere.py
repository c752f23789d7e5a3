"""Whether another server can take the twin: asked before anything is made there. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import psycopg

from safepoint.errors import SafepointError
from safepoint.postgres.connections import Connection
from safepoint.wayback.twin.pair import Pair

# Who owns something in this database, may do something in it, or has a setting of its own for it. The initial
# superuser (oid 10) is in no list of dependencies: what it owns is looked for.
ROLES: Final = """
SELECT r.rolname FROM pg_roles r
WHERE r.oid IN (
    SELECT s.refobjid FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass
      AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION SELECT datdba FROM pg_database WHERE datname = current_database()
    UNION SELECT a.grantee FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = current_database()
    UNION SELECT setrole FROM pg_db_role_setting
          WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
            AND n.nspname NOT LIKE 'pg\\_temp\\_%')
  AND r.rolname NOT LIKE 'pg\\_%' AND r.rolname NOT LIKE 'safepoint\\_%'
ORDER BY 1
"""
LOGIN: Final = "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user"
THERE: Final = "SELECT rolname, rolcanlogin FROM pg_roles"
# A superuser is a member of every role, and whoever owns the database that is asked of the last one.
MEMBERS: Final = """
SELECT m.rolname, g.rolname, m.rolsuper FROM pg_roles m JOIN pg_roles g ON g.oid <> m.oid
WHERE m.rolname = ANY(%s) AND pg_has_role(m.oid, g.oid, 'MEMBER') AND g.rolname <> 'pg_database_owner' ORDER BY 1, 2
"""
CLUSTER: Final = "SELECT system_identifier::text FROM pg_control_system()"
EXTENSIONS: Final = "SELECT extname FROM pg_extension ORDER BY 1"
AVAILABLE: Final = "SELECT name FROM pg_available_extensions"
TABLESPACE: Final = """
SELECT t.spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()
"""


def problems(live: Connection, pair: Pair, application_roles: Sequence[str] = ()) -> tuple[str, ...]:
    """What speaks against a twin there, each in half a sentence; empty where nothing does.

    Args:
        live: a connection to the live database.
        application_roles: those that must be able to log in there.
    """
    try:
        with pair.at_twin() as there:
            return tuple(_problems(live, there, pair, application_roles))
    except SafepointError as error:
        return (f"{pair.server or pair.twin.address} cannot be asked: {error.message}",)
    except psycopg.Error as error:
        return (f"{pair.twin.address} refused: {' '.join(str(error).split())}",)


def _problems(live: Connection, there: Connection, pair: Pair, logins: Sequence[str]) -> Iterator[str]:
    server = pair.twin.address
    if live.execute(CLUSTER).fetchone() == there.execute(CLUSTER).fetchone():
        yield f"{server} is the live database's own server: leave out [wayback.server]"
        return
    ours, theirs = (connection.info.server_version // 10000 for connection in (live, there))
    if ours != theirs:
        yield f"{server} is PostgreSQL {theirs}, the live server {ours}: a rollback is no upgrade"
    row = there.execute(LOGIN).fetchone()
    if row is None or not row[0]:
        # A restore sets owners, the replay session_replication_role, and roles get their settings in the database.
        yield f"the login {pair.twin.user} on {server} is no superuser"
    taken = there.execute("SELECT FROM pg_database WHERE datname = %s", [pair.live.dbname]).fetchone()
    if taken is not None:
        yield f"there is a database {pair.live.dbname} on {server}, whose name a rollback needs"
    yield from _of_roles(live, there, server, logins)
    available = {row[0] for row in there.execute(AVAILABLE).fetchall()}
    lacking = [str(name) for (name,) in live.execute(EXTENSIONS).fetchall() if name not in available]
    if lacking:
        yield f"{server} lacks the extension {', '.join(lacking)}: install its package there"
    space = live.execute(TABLESPACE).fetchone()
    if there.execute("SELECT FROM pg_tablespace WHERE spcname = %s", space).fetchone() is None:
        yield f"{server} has no tablespace {space[0] if space else '?'}, which the database is in"


def _of_roles(live: Connection, there: Connection, server: str, logins: Sequence[str]) -> Iterator[str]:
    roles = {str(name): bool(can_login) for name, can_login in there.execute(THERE).fetchall()}
    needed = [str(name) for (name,) in live.execute(ROLES).fetchall()]
    missing = [name for name in dict.fromkeys((*needed, *logins)) if name not in roles]
    if missing:
        yield f"{server} has no role {', '.join(missing)}: create it with the password that it has here"
    closed = [name for name in logins if name in roles and not roles[name]]
    if closed:
        yield f"the role {', '.join(closed)} may not log in on {server}"
    for member, group in _memberships(live, there, [name for name in logins if name in roles]):
        if group in roles and (group in needed or group.startswith("pg_")):
            yield f"{member} is no member of {group} on {server}, and is one here: GRANT {group} TO {member}"


def _memberships(live: Connection, there: Connection, logins: Sequence[str]) -> list[tuple[str, str]]:
    """Of which roles these are members on the live server, and are not on the other one."""
    known = {(member, group) for member, group, _ in there.execute(MEMBERS, [list(logins)]).fetchall()}
    found = live.execute(MEMBERS, [list(logins)]).fetchall()
    return [(member, group) for member, group, anything in found if not anything and (member, group) not in known]
