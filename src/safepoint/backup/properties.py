"""What belongs to a database but stands in no plain dump of it: settings, grants, comment, connection limit."""

from __future__ import annotations

from safepoint.postgres.connections import Connection

NAME = "database.sql"

# The settings whose value is a list are stored quoted as they must be written; others are one literal
# (PostgreSQL's src/bin/pg_dump/dumputils.c, variable_is_guc_list_quote).
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
    select 1, format('COMMENT ON DATABASE %I IS %L;', datname, comment) from here where comment is not null
    union all
    select 2, format('ALTER DATABASE %I CONNECTION LIMIT %s;', datname, datconnlimit) from here where datconnlimit <> -1
    union all
    select 3, format('REVOKE ALL ON DATABASE %I FROM PUBLIC;', datname) from here where datacl is not null
    union all
    select 4, format('GRANT %s ON DATABASE %I TO %s%s;', a.privilege_type, datname,
                     case a.grantee when 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end,
                     case when a.is_grantable then ' WITH GRANT OPTION' else '' end)
    from here, aclexplode(datacl) a where a.grantee <> datdba
    union all
    select 5, format('ALTER %s SET %s TO %s;',
                     case setrole when 0 then format('DATABASE %I', datname)
                         else format('ROLE %I IN DATABASE %I', pg_get_userbyid(setrole), datname) end,
                     (select string_agg(quote_ident(part), '.') from unnest(string_to_array(name, '.')) part),
                     case when name in {_LISTS} then coalesce(nullif(value, ''), '''''') else quote_literal(value) end)
    from here, settings
    order by 1, 2
"""


def database_sql(connection: Connection) -> str:
    """The statements that give a new database the properties of the connection's; they come last in a restore."""
    lines = [row[1] for row in connection.execute(_STATEMENTS)]
    return "\n".join(["-- Run this as a superuser after the archive was restored.", *lines, ""])
