"""Who owns what in a database, what others may do with it, and the roles that this takes: as text, like `structure`.

Left out, because a faithful copy may differ in it: what belongs to extensions, the owner of the schema `public` (it
depends on how old the cluster is), and what is a session's own. Former formats have what was asked for then.
"""

from __future__ import annotations

from safepoint.backup.belonging import (
    CLASS,
    NAME,
    OWN_CLASS,
    OWN_SCHEMA,
    SCHEMA_OF,
    grants,
    lasting,
    misplaced,
    own,
    owned,
)
from safepoint.backup.objects import OWNERSHIP as RARELY_OWNED
from safepoint.backup.objects import OWNERSHIP_4
from safepoint.backup.particulars import MADE_ALONG
from safepoint.backup.particulars import OWNERSHIP as PARTICULARS
from safepoint.backup.prints import FORMAT
from safepoint.backup.structure import pairs
from safepoint.backup.undumped import SINCE_PARAMETERS
from safepoint.postgres.connections import Connection

# Roles of this name are Safepoint's own in a scratch server; they own nothing there.
SCRATCH_ROLE = "safepoint_scratch"

_OWNERSHIP = (
    f"""
    select 'relation ' || {NAME}, {owned("r", "c.relowner", "c.relacl")}
    from {CLASS} where {OWN_CLASS} and c.relkind in ('r', 'p', 'v', 'm', 'f')
    """,
    f"""
    select 'sequence ' || {NAME}, {owned("s", "c.relowner", "c.relacl")}
    from {CLASS} where {OWN_CLASS} and c.relkind = 'S'
    """,
    f"""
    select format('column %s.%I', {NAME}, a.attname), {grants("a.attacl", "c", "c.relowner")}
    from {CLASS} join pg_attribute a on a.attrelid = c.oid where {OWN_CLASS} and a.attacl is not null
      and not a.attisdropped
    """,
    f"""
    select 'schema ' || quote_ident(s.nspname), concat_ws('; ',
        case when s.nspname <> 'public' then 'owner ' || quote_ident(pg_get_userbyid(s.nspowner)) end,
        {grants("s.nspacl", "n", "s.nspowner")})
    from pg_namespace s where s.nspname = 'public' or {{schemas}}
    """,
    f"""
    select 'function ' || p.oid::regprocedure, {owned("f", "p.proowner", "p.proacl")}
    from pg_proc p where {own("pg_proc", "p")} and {{function_lasts}}
    """,
    f"""
    select 'type ' || t.oid::regtype, {owned("T", "t.typowner", "t.typacl")}
    from pg_type t where {own("pg_type", "t")} and t.typtype in ('e', 'd', 'r', 'b') and t.typelem = 0
      and {{type_lasts}}
    """,
    """
    select 'publication ' || quote_ident(p.pubname), 'owner ' || quote_ident(pg_get_userbyid(p.pubowner))
    from pg_publication p
    """,
    f"""
    select 'database', {owned("d", "d.datdba", "d.datacl")}
    from pg_database d where d.datname = current_database()
    """,
    """
    select format('default privileges of %I%s on %s', pg_get_userbyid(p.defaclrole),
                  coalesce(' in ' || nullif(p.defaclnamespace, 0)::regnamespace, ''), p.defaclobjtype),
           (select string_agg(format('%s=%s%s', case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee) end,
                   lower(a.privilege_type), {grantable}), ', '
                   order by a.grantee <> 0, pg_get_userbyid(a.grantee), a.privilege_type)
            from aclexplode(p.defaclacl) a)
    from pg_default_acl p
    """,
)
_LASTING_OWNED = {"function_lasts": lasting("p.pronamespace"), "type_lasts": lasting("t.typnamespace")}
_FORMER_SCHEMA = f"{own('pg_namespace', 's')} and s.nspname not like 'pg\\_%'"

# Who owns an extension, or what belongs to one, is whoever made it: in a copy, who restores. (Who was granted something
# of it is needed.) What is a session's own is in no copy. Formats 1 and 2 asked for the roles of these, too.
_REFERS = f"""
    classid <> 'pg_extension'::regclass
    and not (deptype in ('o', 'i') and exists (select from pg_depend d where d.classid = pg_shdepend.classid
             and d.objid = pg_shdepend.objid and d.deptype = 'e'))
    and not exists (select from pg_depend d where d.classid = pg_shdepend.classid and d.objid = pg_shdepend.objid
                    and d.refclassid = 'pg_namespace'::regclass and not {lasting("d.refobjid")})
"""

_MISPLACED = " or ".join(
    f"classid = '{catalog}'::regclass "
    f"and exists (select from {catalog} x where x.oid = objid and {misplaced(catalog, 'x')})"
    for catalog in SCHEMA_OF
)
# What stands in no dump refers to nobody in a copy.
_DUMPED_GRANTS = f"""
    and not ({_MISPLACED})
    and not (objid < 16384 and (
        classid = 'pg_class'::regclass
        and exists (select from pg_class i where i.oid = objid and i.relnamespace = 'information_schema'::regnamespace)
        or classid = 'pg_namespace'::regclass and objid = 'information_schema'::regnamespace
        or classid = 'pg_language'::regclass
        and exists (select from pg_language i where i.oid = objid and not i.lanispl)))
"""

_GRANTS_IN_DUMPS = f"""
    and not (classid = 'pg_proc'::regclass and {MADE_ALONG.format(oid="objid")})
    and not (classid = 'pg_operator'::regclass and exists (
        select from pg_operator p where p.oid = objid and p.oprcode = 0))
    and not (classid = 'pg_type'::regclass and exists (
        select from pg_type t join pg_class r on r.oid = t.typrelid where t.oid = objid and r.relkind <> 'c'))
"""

# Who has access as a member of such a role (the application's own login, often); formats 1 and 2 left them out. From
# PostgreSQL 16 on whoever made a role is a member that may only grant it.
_MEMBERS = """
    select m.member from used join pg_auth_members m on m.roleid = used.oid join pg_roles r on r.oid = m.roleid
    where r.rolname not like 'pg\\_%' and not (to_jsonb(m) @> '{"inherit_option": false, "set_option": false}')
"""

_ADMIN = "case when m.admin_option then ' with admin option' else '' end"
# From PostgreSQL 16 on each membership says whether it is inherited (before, and where nobody says it: as the member's
# INHERIT has it), and whether SET ROLE may use it.
_OPTIONS = """
    case when (to_jsonb(m) ->> 'inherit_option')::bool <> r.rolinherit
         then case when r.rolinherit then ' not inherited' else ' inherited' end else '' end
    || case when not (to_jsonb(m) ->> 'set_option')::bool then ' without set' else '' end
"""
_REMARKS = ", 'comment ' || quote_literal(shobj_description(r.oid, 'pg_authid'))"
# What it may set that is for superusers otherwise (GRANT SET ON PARAMETER). The first superuser, as the owner of all
# parameters, is named with each that anybody at all was granted.
_PARAMETERS = """,
    'parameters ' || (select string_agg(format('%s=%s%s', p.parname, lower(a.privilege_type),
                                               case when a.is_grantable then '*' else '' end), ', '
                                        order by p.parname, a.privilege_type)
                      from pg_parameter_acl p, aclexplode(p.paracl) a where a.grantee = r.oid and r.oid <> 10)
"""

# The roles that this database refers to, and those that they are members of. pg_shdepend knows owners, grantees and
# policies; roles of PostgreSQL itself (pg_*) are everywhere.
_ROLES = f"""
    with recursive used as (
        select refobjid as oid from pg_shdepend
        where refclassid = 'pg_authid'::regclass
          and dbid = (select oid from pg_database where datname = current_database()) and {{refers}}
        union
        select datdba from pg_database where datname = current_database()
        union
        select a.grantee from pg_database d, aclexplode(d.datacl) a where d.datname = current_database()
        union
        select setrole from pg_db_role_setting
        where setdatabase = (select oid from pg_database where datname = current_database())
        union
        ({{members}})
    ), needed as (
        select oid from used
        union
        select m.roleid from needed join pg_auth_members m on m.member = needed.oid
    )
    select r.rolname::text, concat_ws(' ',
        case when r.rolsuper then 'superuser' end, case when r.rolinherit then 'inherit' end,
        case when r.rolcreaterole then 'createrole' end, case when r.rolcreatedb then 'createdb' end,
        case when r.rolcanlogin then 'login' end, case when r.rolreplication then 'replication' end,
        case when r.rolbypassrls then 'bypassrls' end, 'connections ' || nullif(r.rolconnlimit, -1)::text,
        'valid until ' || r.rolvaliduntil::text,
        'member of ' || (select string_agg(distinct quote_ident(pg_get_userbyid(m.roleid)) || {{options}}, ', ')
                         from pg_auth_members m where m.member = r.oid),
        'set ' || (select array_to_string(s.setconfig, ', ') from pg_db_role_setting s
                   where s.setrole = r.oid and s.setdatabase = 0){{also}})
    from pg_roles r
    where r.oid in (select oid from needed) and r.rolname not like 'pg\\_%' and r.rolname <> '{SCRATCH_ROLE}'
"""


def read_ownership(connection: Connection, version: int = FORMAT) -> dict[str, str]:
    """Owners, and what others than the owner may do, by object; as that format has them."""
    asked = _LASTING_OWNED if version > 2 else dict.fromkeys(_LASTING_OWNED, "true")
    if version > 3:
        asked = asked | {"schemas": OWN_SCHEMA, "grantable": "case when a.is_grantable then '*' else '' end"}
    else:
        asked = asked | {"schemas": _FORMER_SCHEMA, "grantable": "''"}
    if version > 4:
        made_along = MADE_ALONG.format(oid="p.oid")
        asked = asked | {"function_lasts": f"{asked['function_lasts']} and not {made_along}"}
    found: dict[str, str] = {}
    for query in _OWNERSHIP:
        found |= pairs(connection, query.format(**asked))
    for query in {1: (), 2: (), 3: (), 4: OWNERSHIP_4}.get(version, (*RARELY_OWNED, *PARTICULARS)):
        found |= pairs(connection, query)
    return found


def read_roles(connection: Connection, version: int = FORMAT) -> dict[str, str]:
    """Roles that the database refers to, with their attributes, memberships and settings; as that format has them."""
    asked = (_REFERS, _MEMBERS) if version > 2 else ("true", "select 0::oid where false")
    if version > 3:
        asked = (f"{_REFERS} {_DUMPED_GRANTS} {_GRANTS_IN_DUMPS if version > 4 else ''}", _MEMBERS)
    options, also = _ADMIN if version > 3 else "''", ""
    if version > 4:
        options, also = f"{_ADMIN} || {_OPTIONS}", _REMARKS
        also += _PARAMETERS if connection.info.server_version >= SINCE_PARAMETERS else ""
    return pairs(connection, _ROLES.format(refers=asked[0], members=asked[1], options=options, also=also))
