"""What belongs to a database but stands in no plain dump of it: settings, grants, comment, limit, labels."""

from __future__ import annotations

import re

from safepoint.postgres.connections import Connection

NAME = "database.sql"

# The settings whose value is a list of names, quoted where they need it: written as one literal each, as pg_dump does,
# for an empty name (SET search_path TO '') cannot be written as one. All others are one literal
# (PostgreSQL's src/bin/pg_dump/dumputils.c, makeAlterConfigCommand and variable_is_guc_list_quote).
_LISTS = (
    "('local_preload_libraries', 'search_path', 'session_preload_libraries', 'shared_preload_libraries', "
    "'temp_tablespaces', 'unix_socket_directories')"
)

_STATEMENTS = f"""
    with here as (
        select d.oid, d.datname, d.datdba, d.datacl, d.datconnlimit, shobj_description(d.oid, 'pg_database') as comment
        from pg_database d where d.datname = current_database()
    ), settings as (
        select setrole, split_part(item, '=', 1) as name, substr(item, strpos(item, '=') + 1) as value
        from pg_db_role_setting, unnest(setconfig) item where setdatabase = (select oid from here)
    )
    select 1, null, format('COMMENT ON DATABASE %I IS %L;', datname, comment) from here where comment is not null
    union all
    select 2, null, format('ALTER DATABASE %I CONNECTION LIMIT %s;', datname, datconnlimit)
    from here where datconnlimit <> -1
    union all
    select 3, null, format('REVOKE ALL ON DATABASE %I FROM PUBLIC;', datname) from here where datacl is not null
    union all
    select 4, null, format('GRANT %s ON DATABASE %I TO %s%s;', a.privilege_type, datname,
                     case a.grantee when 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end,
                     case when a.is_grantable then ' WITH GRANT OPTION' else '' end)
    from here, aclexplode(datacl) a where a.grantee <> datdba
    union all
    select 5, case when name in {_LISTS} then value end, format('ALTER %s SET %s TO %s',
                     case setrole when 0 then format('DATABASE %I', datname)
                         else format('ROLE %I IN DATABASE %I', pg_get_userbyid(setrole), datname) end,
                     (select string_agg(quote_ident(part), '.') from unnest(string_to_array(name, '.')) part),
                     case when name not in {_LISTS} then quote_literal(value) || ';' else '' end)
    from here, settings
    union all
    select 6, null, format('SECURITY LABEL FOR %I ON DATABASE %I IS %L;', l.provider, datname, l.label)
    from here, pg_shseclabel l where l.classoid = 'pg_database'::regclass and l.objoid = here.oid
    order by 1, 3
"""
_NAME = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


def database_sql(connection: Connection) -> str:
    """The statements that give a new database the properties of the connection's; they come last in a restore."""
    lines = [
        statement if names is None else f"{statement}{_literals(names)};"
        for _, names, statement in connection.execute(_STATEMENTS)
    ]
    return "\n".join(["-- Run this as a superuser after the archive was restored.", *lines, ""])


def _literals(names: str) -> str:
    """A list of names as it is stored, as literals. Pure."""
    found = [
        plain or quoted.replace('""', '"') for quoted, plain in (match.groups("") for match in _NAME.finditer(names))
    ]
    return ", ".join("'" + name.replace("'", "''") + "'" for name in found) or "''"
