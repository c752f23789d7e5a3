"""The preflight checks of who may do what: the conductor's login, the application's roles, and who else is here."""

from __future__ import annotations

from collections.abc import Iterator

from safepoint.config import PlanFile
from safepoint.launch.doctor.finding import Finding, failure, ok, some, warning
from safepoint.postgres.catalog import BACKEND_KIND, Survey
from safepoint.postgres.connections import LOGIN_TRIGGERS, Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback.settings import not_ours, split_list

# Who the application logs in as: what holds a role off, and where else it works.
# A migrated database that a rollback has kept is the same application's, and nobody works in it.
ROLES = """
    select r.rolname, r.rolsuper, pg_has_role(current_user, r.oid, 'member with admin option'),
           array(select datname from pg_database d where d.datdba = r.oid and d.datname <> current_database()
                     and coalesce(shobj_description(d.oid, 'pg_database'), '') not like 'kept by Safepoint for %%'
                 union
                 select distinct datname from pg_stat_activity a
                 where a.usesysid = r.oid and datname <> current_database() order by 1)
    from pg_roles r where r.rolname = any(%s)
"""
# Roles outside the plan that are writing here now: jobs and workers that are not the web application.
STRANGERS = f"""
    select distinct usename from pg_stat_activity
    where datname = current_database() and {BACKEND_KIND} = 'client backend' and pid <> pg_backend_pid()
      and usename <> all(%s) and usename <> current_user and usename is not null
    order by 1
"""
# Whoever may make objects where sessions look names up, and is trusted neither by us nor by the application.
MAKERS = """
    select n.nspname, array_agg(r.rolname::text order by r.rolname)
    from pg_namespace n join pg_database d on d.datname = current_database()
    join pg_roles r on has_schema_privilege(r.oid, n.oid, 'create')
    where n.nspname = any(%s) and r.rolcanlogin and not r.rolsuper and r.rolname <> all(%s)
      and not pg_has_role(r.oid, n.nspowner, 'member') and not pg_has_role(r.oid, d.datdba, 'member')
    group by 1 order by 1
"""
# pg_dump stops with an error at the first table that it may not read.
UNREADABLE = """
    select format('%s.%s', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'S', 'm') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and not (has_schema_privilege(n.oid, 'usage')
               and case c.relkind when 'S' then has_sequence_privilege(c.oid, 'select')
                                  else has_table_privilege(c.oid, 'select') end)
    order by 1
"""

# From PostgreSQL 17 on. A superuser keeps them off while he connects, and whoever was granted it (see `connect`).
AT_LOGIN = """
    select evtname::text from pg_event_trigger where evtevent = 'login' and evtenabled in ('O', 'A')
      and not has_parameter_privilege('event_triggers', 'set') order by 1
"""


def rights(connection: Connection, plan: PlanFile, facts: Survey) -> Iterator[Finding]:
    """What the conductor's login may do."""
    login = facts.login
    if login.superuser:
        yield ok("rights", f"{login.user} is a superuser")
    else:
        needed = {
            "make databases": (login.createdb, f"ALTER ROLE {login.user} CREATEDB"),
            "own the database, to rename it": (login.owns_database, f"GRANT its owner TO {login.user}"),
            "close roles off": (login.createrole, f"ALTER ROLE {login.user} CREATEROLE"),
            "end sessions": (login.signals_backends, f"GRANT pg_signal_backend TO {login.user}"),
            "see what other roles' sessions do": (login.sees_sessions, f"GRANT pg_read_all_stats TO {login.user}"),
        }
        missing = {what: remedy for what, (has, remedy) in needed.items() if not has}
        for what, remedy in missing.items():
            yield failure("rights", f"{login.user} cannot {what}.", f"As a superuser: {remedy};")
        if not missing:
            yield ok("rights", f"{login.user} can copy and rename the database, close roles off, see and end sessions")
        if not login.replication:
            yield warning(
                "rights",
                f"{login.user} has no REPLICATION: no exact proof of quiet.",
                f"ALTER ROLE {login.user} REPLICATION;",
            )
        yield from _heard(connection, facts)
        if left := not_ours(connection, facts.database, plan.database.application_roles[:1]):
            yield failure(
                "rights",
                f"{login.user} may not set what was set for this database, or for its owner: "
                f"{some(list(map(str, left)))}. The twin would lack it after a rollback, and the migration's login.",
                f"As a superuser: {'; '.join(sorted({one.grant for one in left}))};",
            )
    unreadable = [str(row[0]) for row in connection.execute(UNREADABLE).fetchall()]
    if unreadable:
        yield failure(
            "rights",
            f"{login.user} cannot read {some(unreadable)}: a dump would stop there.",
            f"As a superuser: GRANT pg_read_all_data TO {login.user};",
        )
    if login.user in plan.database.application_roles:
        yield warning(
            "rights",
            f"{login.user} is the application's role too: it cannot be closed off while Safepoint uses it.",
            "Give Safepoint a login of its own (database.user).",
        )


def _heard(connection: Connection, facts: Survey) -> Iterator[Finding]:
    """What acts at each login of the conductor's."""
    if facts.server_version_num < LOGIN_TRIGGERS:
        return
    names = [str(row[0]) for row in connection.execute(AT_LOGIN).fetchall()]
    if names:
        yield warning(
            "rights",
            f"{some(names)} acts at each login. If it writes, sessions of ours that only read are refused, so that "
            "a rollback carries nothing, and what it writes after the safe point is not in a level twin.",
            f"As a superuser: GRANT SET ON PARAMETER event_triggers TO {facts.login.user}; then it is left out there.",
        )


def roles(connection: Connection, plan: PlanFile, facts: Survey) -> Iterator[Finding]:
    """The application's roles: there, no superusers, at home in this database only; and who else is here."""
    wanted = list(plan.database.application_roles)
    known = {row[0]: row[1:] for row in connection.execute(ROLES, [wanted]).fetchall()}
    for name in wanted:
        if name not in known:
            yield failure("roles", f"There is no role {name}.", "Correct database.application_roles.")
            continue
        superuser, administers, elsewhere = known[name]
        # Since PostgreSQL 16 CREATEROLE alone changes no role that one did not make or has no ADMIN OPTION on.
        if not facts.login.superuser and (superuser or (facts.server_version_num >= 160000 and not administers)):
            yield failure(
                "roles",
                f"{facts.login.user} may not close the role {name} off.",
                f"As a superuser: GRANT {name} TO {facts.login.user} WITH ADMIN OPTION; (not for superuser roles)",
            )
        if superuser:
            yield warning(
                "roles",
                f"The application's role {name} is a superuser, whom no grant holds off.",
                "Safepoint proves that nobody wrote; better: give the application an ordinary role.",
            )
        else:
            yield ok("roles", f"The application's role {name} is an ordinary one")
        if elsewhere and not superuser:
            yield warning(
                "roles",
                f"{name} also works in {some(elsewhere)}: it cannot log in there either during the window.",
                "Give each application a role of its own, or tell who is affected.",
            )
    strangers = [str(row[0]) for row in connection.execute(STRANGERS, [wanted]).fetchall()]
    if strangers:
        yield warning(
            "roles",
            f"Other roles are connected to this database: {some(strangers)}.",
            "Are they jobs or workers that write? Then name them in database.application_roles.",
        )


def makers(connection: Connection, plan: PlanFile, login: Target) -> Iterator[Finding]:
    """Who else may make functions and operators in the schemas that are looked into by name.

    The path is that of the sessions which work with the application's rows; SHOW calls no function.
    """
    with connect(login, application_name="safepoint doctor") as usual:
        row = usual.execute("show search_path").fetchone()
    path = split_list(str(row[0])) if row else []
    trusted = [login.user, *plan.database.application_roles]
    for schema, names in connection.execute(MAKERS, [path, trusted]).fetchall():
        yield warning(
            "roles",
            f"{some(names)} may make functions and operators in the schema {schema}, which statements find by name: "
            f"one that fits better than PostgreSQL's own is run with the rights of {login.user} (CVE-2018-1058).",
            f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC; and from these roles. See \\df and \\do for what is there.",
        )
