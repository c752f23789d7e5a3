"""How a database is made: definitions, extensions and settings, as text that survives dump and restore.

Left out, because a faithful copy may differ in it: what belongs to extensions, tablespaces, collation versions, invalid
indexes (no dump has them), constraints and triggers that PostgreSQL clones onto partitions by itself, subscriptions (a
copy must not call), and what is a session's own.

Fingerprints of former formats are compared with what is asked in the same words as then: what is asked otherwise today
stands below with both.
"""

from __future__ import annotations

from typing import Any

from safepoint.backup.belonging import CLASS, FOREIGN_SCHEMAS, NAME, OWN_CLASS, OWN_SCHEMA, lasting, own
from safepoint.backup.objects import ADDED, OBJECTS, OBJECTS_4, SINCE_4
from safepoint.backup.particulars import ADDED as PARTICULARS
from safepoint.backup.particulars import UNDUMPED_COMMENT
from safepoint.backup.prints import FORMAT, UNSEEN
from safepoint.postgres.connections import Connection

# A restore makes an inheriting table with its parents' columns first, wherever a column that a parent was given later
# stood in it (pg_dump writes only the table's own). A partition keeps its order.
_INHERITED = """
    case when not c.relispartition and a.attinhcount > 0
        and exists (select from pg_inherits i where i.inhrelid = c.oid) then a.attname end
"""

# Of a column's options only the documented ones (ALTER TABLE page: n_distinct, n_distinct_inherited) are compared:
# some builds keep numbers of their own there, which differ from database to database.
_RELATIONS = f"""
    select {NAME}, concat_ws(E'\\n',
        case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'f' then 'foreign table'
            when 'c' then 'composite type' when 'v' then 'view' when 'm' then 'materialised view' end
        || case c.relpersistence when 'u' then ' unlogged' else '' end
        || case when c.relkind = 'm' and not c.relispopulated then ' without data' else '' end,
        'options ' || array_to_string((select array_agg(o order by o) from unnest(c.reloptions) o), ', '),
        case when c.relkind in ('r', 'p') and c.relreplident <> 'd'
            then 'replica identity ' || c.relreplident::text end,
        case when c.relrowsecurity then 'row security' end,
        case when c.relforcerowsecurity then 'forced row security' end,
        case when c.relkind = 'p' then 'partition by ' || pg_get_partkeydef(c.oid) end,
        'inherits ' || (select string_agg(i.inhparent::regclass::text, ', ' order by i.inhseqno)
                        from pg_inherits i where i.inhrelid = c.oid),
        'partition ' || pg_get_expr(c.relpartbound, c.oid),
        'server ' || (select s.srvname || ' ' || coalesce(f.ftoptions::text, '') from pg_foreign_table f
                      join pg_foreign_server s on s.oid = f.ftserver where f.ftrelid = c.oid),
        (select string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                case when a.attnotnull then 'not null' end,
                case when a.attcollation <> t.typcollation then
                    'collate ' || (select collname from pg_collation where oid = a.attcollation) end,
                case a.attidentity when 'a' then 'always as identity' when 'd' then 'by default as identity' end,
                case a.attgenerated when 's' then 'stored' when 'v' then 'virtual' end,
                'default ' || pg_get_expr(d.adbin, d.adrelid),
                'options ' || (select string_agg(o, ', ' order by o) from unnest(a.attoptions) o
                               where o like 'n\\_distinct%')), E'\\n'
                order by {_INHERITED} nulls last, a.attnum)
         from pg_attribute a join pg_type t on t.oid = a.atttypid
         left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and c.relkind <> 'v' and c.relkind <> 'm'),
        case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end)
    from {CLASS} where {OWN_CLASS} and c.relkind in ('r', 'p', 'f', 'c', 'v', 'm')
"""

_SEQUENCES = f"""
    select {NAME}, concat_ws(' ', format_type(s.seqtypid, null), 'start', s.seqstart, 'increment', s.seqincrement,
           'minimum', s.seqmin, 'maximum', s.seqmax, 'cache', s.seqcache, case when s.seqcycle then 'cycle' end,
           'owned by ' || (select format('%s.%I', d.refobjid::regclass, a.attname) from pg_depend d
                join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i')
                  and d.refclassid = 'pg_class'::regclass))
    from {CLASS} join pg_sequence s on s.seqrelid = c.oid where {OWN_CLASS}
"""

# NOT NULL stands with the columns (PostgreSQL 18 has it as constraints too); 't' are constraint triggers.
_CONSTRAINTS = f"""
    select format('%s on %s', quote_ident(k.conname), {NAME}), {{definition}}
    from pg_constraint k join {CLASS} on c.oid = k.conrelid
    where {OWN_CLASS} and k.contype not in ('n', 't')
      and not (k.contype = 'f' and k.conparentid <> 0)
"""

# No dump says that one which is inherited alone is valid, where its parent's is not (see `undumped`).
_CONSTRAINT_IN_DUMPS = """
    case when k.contype = 'c' and not k.conislocal and not c.relispartition
         then regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '') else pg_get_constraintdef(k.oid) end
"""

_INDEXES = f"""
    select format('%I.%I', n.nspname, x.relname), pg_get_indexdef(i.indexrelid)
           || case when i.indisclustered then ' clustered' else '' end
           || case when i.indisreplident then ' replica identity' else '' end
    from pg_index i join pg_class x on x.oid = i.indexrelid join {CLASS} on c.oid = i.indrelid
    where {OWN_CLASS} and (i.indisvalid or c.relkind = 'p')
"""

_TRIGGERS = f"""
    select format('%s on %s', quote_ident(t.tgname), {NAME}),
           pg_get_triggerdef(t.oid) || ' enabled ' || t.tgenabled::text
    from pg_trigger t join {CLASS} on c.oid = t.tgrelid
    where {OWN_CLASS} and not t.tgisinternal and t.tgparentid = 0
"""

_RULES = f"""
    select format('%s on %s', quote_ident(r.rulename), {NAME}),
           pg_get_ruledef(r.oid) || ' enabled ' || r.ev_enabled::text
    from pg_rewrite r join {CLASS} on c.oid = r.ev_class where {OWN_CLASS} and r.rulename <> '_RETURN'
"""

_POLICIES = f"""
    select format('%s on %s', quote_ident(p.polname), {NAME}), concat_ws(' ', p.polcmd::text,
           case when p.polpermissive then 'permissive' else 'restrictive' end,
           'to ' || (select string_agg(case when r = 0 then 'public' else pg_get_userbyid(r)::text end, ', ' order by
                     pg_get_userbyid(r)) from unnest(p.polroles) r),
           'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
    from pg_policy p join {CLASS} on c.oid = p.polrelid where {OWN_CLASS}
"""

_FUNCTIONS = f"""
    select p.oid::regprocedure::text, case when p.prokind = 'a' then (
        select concat_ws(' ', 'aggregate', a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.agginitval,
                         format_type(a.aggtranstype, null), a.aggsortop::regoperator)
        from pg_aggregate a where a.aggfnoid = p.oid) else pg_get_functiondef(p.oid) end
    from pg_proc p where {own("pg_proc", "p")} and p.pronamespace::regnamespace::text not in {FOREIGN_SCHEMAS}
      and {{lasting}} and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid
                      and d.deptype = 'i')
"""

_TYPES = f"""
    select t.oid::regtype::text, case t.typtype
        when 'e' then 'enum ' || (select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
                                  from pg_enum e where e.enumtypid = t.oid)
        when 'd' then concat_ws(' ', 'domain', format_type(t.typbasetype, t.typtypmod),
             case when t.typnotnull then 'not null' end, 'default ' || {{default}},
             (select string_agg(k.conname || ' ' || pg_get_constraintdef(k.oid), ' ' order by k.conname)
              from pg_constraint k where k.contypid = t.oid and k.contype = 'c'))
        when 'r' then 'range ' || (select concat_ws(' ', format_type(r.rngsubtype, null),
             r.rngcanonical::regproc, r.rngsubdiff::regproc) from pg_range r where r.rngtypid = t.oid)
        else concat_ws(' ', 'base', t.typinput, t.typoutput, t.typlen) end
    from pg_type t where {own("pg_type", "t")} and t.typtype in ('e', 'd', 'r', 'b') and t.typelem = 0
      and t.typnamespace::regnamespace::text not in {FOREIGN_SCHEMAS} and {{lasting}}
"""

_STATISTICS = f"""
    select {{name}}, pg_get_statisticsobjdef(s.oid) from pg_statistic_ext s
    where {own("pg_statistic_ext", "s")} and {{lasting}}
"""

# Columns by name: their numbers are others in a copy, which has none that were dropped.
_PUBLISHED = """
    '(' || (select string_agg(quote_ident(a.attname), ', ' order by a.attname) from pg_attribute a
            where a.attrelid = r.prrelid and a.attnum = any (r.prattrs::int2[])) || ')'
"""

_PUBLICATIONS = """
    select p.pubname::text, concat_ws(' ', case when p.puballtables then 'all tables' end,
           case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end,
           case when p.pubdelete then 'delete' end, case when p.pubtruncate then 'truncate' end,
           case when p.pubviaroot then 'via root' end,
           (select string_agg(concat_ws(' ', r.prrelid::regclass, pg_get_expr(r.prqual, r.prrelid), {columns}),
                              ', ' order by r.prrelid::regclass::text)
            from pg_publication_rel r where r.prpubid = p.oid),
           (select string_agg('all in ' || s.pnnspid::regnamespace, ', ' order by s.pnnspid::regnamespace::text)
            from pg_publication_namespace s where s.pnpubid = p.oid))
    from pg_publication p
"""

_EVENT_TRIGGERS = f"""
    select e.evtname::text, concat_ws(' ', e.evtevent, e.evtfoid::regprocedure, e.evtenabled, e.evttags::text)
    from pg_event_trigger e where {own("pg_event_trigger", "e")}
"""

_COMMENTED = f"""
    select concat_ws(' ', o.type, o.identity), d.description
    from pg_description d, pg_identify_object(d.classoid, d.objoid, d.objsubid) o
    where (d.objoid >= 16384 or {{also}})
      and d.classoid not in ('pg_extension'::regclass, 'pg_subscription'::regclass)
      and not exists (select from pg_depend own where own.classid = d.classoid and own.objid = d.objoid
                      and own.deptype = 'e')
      and coalesce(o.schema, '') not in {FOREIGN_SCHEMAS} and {{lasting}}
"""

_COMMENTS = f"""
    {_COMMENTED}
      and not (d.classoid = 'pg_constraint'::regclass
               and exists (select from pg_constraint k where k.oid = d.objoid and k.contype = 'n'))
"""

_COMMENTS_4 = f"""
    {_COMMENTS}
      and not (d.classoid = 'pg_type'::regclass and exists (select from pg_range r where r.rngmultitypid = d.objoid))
      and not (d.classoid = 'pg_trigger'::regclass
               and exists (select from pg_trigger t where t.oid = d.objoid and t.tgparentid <> 0))
"""

_DUMPED_COMMENTS = f"{_COMMENTED} and not {UNDUMPED_COMMENT}"

# The schema `public` has an oid of PostgreSQL's own, whatever it is called, and a large object may have any.
_ALSO_COMMENTED = """
    d.classoid = 'pg_largeobject'::regclass or d.classoid = 'pg_namespace'::regclass
    and o.identity <> 'information_schema' and o.identity not like 'pg\\_%'
"""

# What the view shows, pg_dump dumps: to others than a superuser and (mostly) the user himself it shows no options, as
# if there were none. A digest only: the archive has the passwords, and a manifest is read by more people.
_USER_MAPPINGS = f"""
    select format('%s on server %I', case m.umuser when 0 then 'public' else quote_ident(m.usename) end, m.srvname),
           case when m.umoptions is not null then 'options ' || encode(sha256(convert_to((
                    select string_agg(format('%L', o), ', ' order by o) from unnest(m.umoptions) o), 'UTF8')), 'hex')
                when current_setting('is_superuser') = 'on' or (m.umuser = 0 and pg_has_role(s.srvowner, 'USAGE'))
                     or (m.usename = current_user and (pg_has_role(s.srvowner, 'USAGE')
                         or has_server_privilege(s.oid, 'USAGE'))) then 'no options' else '{UNSEEN}' end
    from pg_user_mappings m join pg_foreign_server s on s.oid = m.srvid where {own("pg_foreign_server", "s")}
"""

_SCHEMAS = f"select 'schema ' || quote_ident(s.nspname), 'is there' from pg_namespace s where {OWN_SCHEMA}"

# Things that are rare in an application: up to format 3 that they are there was what is compared.
_OTHERS = "\n union all \n".join(
    f"select concat_ws(' ', o.type, o.identity), 'is there' "
    f"from {catalog} x, pg_identify_object('{catalog}'::regclass, x.oid, 0) o "
    f"where {own(catalog, 'x')} and {{lasting}}"
    for catalog in (
        "pg_cast",
        "pg_operator",
        "pg_opclass",
        "pg_collation",
        "pg_conversion",
        "pg_language",
        "pg_ts_config",
        "pg_ts_dict",
        "pg_foreign_data_wrapper",
        "pg_foreign_server",
        "pg_transform",
    )
)

# Up to format 3 schemas were told by their oids.
_FORMER_OTHERS = f"""
    select 'schema ' || quote_ident(s.nspname), 'is there' from pg_namespace s
    where {own("pg_namespace", "s")} and s.nspname not like 'pg\\_%' union all {_OTHERS}
"""

# Of what has no schema itself (a constraint, a policy) the identity tells that of its table.
_LASTING_IDENTITY = "coalesce(o.schema, '') not like 'pg\\_temp%' and o.identity not like '% on pg\\_temp\\_%'"

_OF_ALL = {
    "relation": _RELATIONS,
    "sequence definition": _SEQUENCES,
    "constraint": _CONSTRAINTS.format(definition=_CONSTRAINT_IN_DUMPS),
    "index": _INDEXES,
    "trigger": _TRIGGERS,
    "rule": _RULES,
    "policy": _POLICIES,
    "function": _FUNCTIONS.format(lasting=lasting("p.pronamespace")),
    "type": _TYPES.format(default="pg_get_expr(t.typdefaultbin, 0)", lasting=lasting("t.typnamespace")),
    "statistics": _STATISTICS.format(
        name="format('%s.%I', s.stxnamespace::regnamespace, s.stxname)", lasting=lasting("s.stxnamespace")
    ),
    "publication": _PUBLICATIONS.format(columns=_PUBLISHED),
    "event trigger": _EVENT_TRIGGERS,
    "comment": _DUMPED_COMMENTS.format(also=_ALSO_COMMENTED, lasting=_LASTING_IDENTITY),
    "object": f"{_SCHEMAS} union all {OBJECTS}",
    "user mapping": _USER_MAPPINGS,
}
QUERIES = _OF_ALL | ADDED | PARTICULARS

_FOURTH = (
    _OF_ALL
    | SINCE_4
    | {
        "constraint": _CONSTRAINTS.format(definition="pg_get_constraintdef(k.oid)"),
        "comment": _COMMENTS_4.format(also=_ALSO_COMMENTED, lasting=_LASTING_IDENTITY),
        "object": f"{_SCHEMAS} union all {OBJECTS_4}",
    }
)

_THIRD = _OF_ALL | {
    "constraint": _CONSTRAINTS.format(definition="pg_get_constraintdef(k.oid)"),
    "comment": _COMMENTS.format(also="false", lasting=_LASTING_IDENTITY),
    "object": _FORMER_OTHERS.format(lasting=_LASTING_IDENTITY),
}

# The formats 1 and 2: a domain's default stood there as its maker's session wrote it, and user mappings not at all.
_FORMER = {kind: query for kind, query in _THIRD.items() if kind != "user mapping"} | {
    "function": _FUNCTIONS.format(lasting="true"),
    "type": _TYPES.format(default="t.typdefault", lasting="true"),
    "statistics": _STATISTICS.format(name="s.stxname::text", lasting="true"),
    "publication": _PUBLICATIONS.format(columns="r.prattrs::text"),
    "comment": _COMMENTS.format(also="false", lasting="true"),
    "object": _FORMER_OTHERS.format(lasting="true"),
}

_EXTENSIONS = "select extname::text, extversion from pg_extension"

# ALTER DATABASE SET and ALTER ROLE IN DATABASE SET: in no dump but under `pg_restore --create`.
_SETTINGS = """
    select concat_ws(' ', case when s.setrole <> 0 then 'of role ' || quote_ident(pg_get_userbyid(s.setrole)) end,
                     split_part(item, '=', 1)),
           substr(item, strpos(item, '=') + 1)
    from pg_db_role_setting s, unnest(s.setconfig) item
    where s.setdatabase = (select oid from pg_database where datname = current_database())
"""

_LIMIT = """
    union all select 'connection limit', datconnlimit::text
    from pg_database where datname = current_database() and datconnlimit <> -1
"""


def read_structure(connection: Connection, version: int = FORMAT) -> dict[str, dict[str, str]]:
    """Definitions by kind and name. The connection's search_path must be pg_catalog: names come out qualified.

    Args:
        version: the format of the fingerprint that it is for.
    """
    queries = {1: _FORMER, 2: _FORMER, 3: _THIRD, 4: _FOURTH}.get(version, QUERIES)
    return {kind: found for kind, query in queries.items() if (found := pairs(connection, query))}


def read_extensions(connection: Connection) -> dict[str, str]:
    """Extensions and their versions."""
    return pairs(connection, _EXTENSIONS)


def read_settings(connection: Connection, version: int = FORMAT) -> dict[str, str]:
    """Settings that are bound to the database, and to roles in it; since format 5 its connection limit as well."""
    return pairs(connection, _SETTINGS + (_LIMIT if version > 4 else ""))


def pairs(connection: Connection, query: str) -> dict[str, str]:
    """What a query of two columns answers, in the order of its names."""
    rows: list[tuple[Any, ...]] = connection.execute(query).fetchall()
    return {str(name): str(text or "") for name, text in sorted(rows, key=lambda row: str(row[0]))}
