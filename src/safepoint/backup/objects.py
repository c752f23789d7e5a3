"""What is rare in an application, and what is seldom changed of a table: definitions and owners, since format 4.

Up to format 3 of these objects nothing but that they are there was compared, and the rest not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from safepoint.backup.belonging import grants, lasting, own, owned

# Of these the identity is what `pg_identify_object` says: the schema, and the types where it needs them.
_IDENTITY = "concat_ws(' ', o.type, o.identity)"
# Of what has no schema itself (a constraint, a policy) the identity tells that of its table.
_LASTS = "coalesce(o.schema, '') not like 'pg\\_temp%' and o.identity not like '% on pg\\_temp\\_%'"
# Options of servers may be secrets; an archive has them, and a manifest is read by more people.
_DIGEST = """
    'options ' || encode(sha256(convert_to(
        (select string_agg(o, chr(10) order by o) from unnest({options}) o), 'UTF8')), 'hex')
"""

_DEFINED: Final = {
    "pg_cast": """
        case x.castmethod when 'f' then x.castfunc::regprocedure::text when 'i' then 'inout' else 'binary' end,
        case x.castcontext when 'i' then 'implicit' when 'a' then 'as assignment' end""",
    "pg_operator": """
        x.oprcode, 'commutator ' || nullif(x.oprcom, 0)::regoperator::text,
        'negator ' || nullif(x.oprnegate, 0)::regoperator::text, x.oprrest, x.oprjoin,
        case when x.oprcanmerge then 'merges' end, case when x.oprcanhash then 'hashes' end""",
    "pg_opclass": """
        case when x.opcdefault then 'default' end, 'for', format_type(x.opcintype, null),
        'stores ' || format_type(nullif(x.opckeytype, 0), null),
        'in ' || (select f.identity from pg_identify_object('pg_opfamily'::regclass, x.opcfamily, 0) f)""",
    "pg_opfamily": """
        (select string_agg(concat_ws(' ', m.amopstrategy, m.amopopr::regoperator, m.amoppurpose, s.identity), ', '
                           order by m.amopstrategy, m.amopopr::regoperator::text)
         from pg_amop m left join pg_identify_object('pg_opfamily'::regclass, nullif(m.amopsortfamily, 0), 0) s on true
         where m.amopfamily = x.oid),
        (select string_agg(concat_ws(' ', m.amprocnum, format_type(m.amproclefttype, null),
                                     format_type(m.amprocrighttype, null), m.amproc::regprocedure), ', '
                           order by m.amprocnum, m.amproclefttype::regtype::text, m.amprocrighttype::regtype::text)
         from pg_amproc m where m.amprocfamily = x.oid)""",
    "pg_collation": """
        x.collprovider, case when not x.collisdeterministic then 'not deterministic' end, x.collcollate, x.collctype,
        coalesce(to_jsonb(x) ->> 'colllocale', to_jsonb(x) ->> 'colliculocale'), to_jsonb(x) ->> 'collicurules'""",
    "pg_conversion": """
        case when x.condefault then 'default' end, pg_encoding_to_char(x.conforencoding),
        pg_encoding_to_char(x.contoencoding), x.conproc""",
    "pg_language": """
        case when x.lanpltrusted then 'trusted' end, x.lanplcallfoid::regproc, x.laninline::regproc,
        x.lanvalidator::regproc""",
    "pg_ts_config": """
        (select p.identity from pg_identify_object('pg_ts_parser'::regclass, x.cfgparser, 0) p),
        (select string_agg(concat_ws(' ', m.maptokentype, m.mapdict::regdictionary), ', '
                           order by m.maptokentype, m.mapseqno) from pg_ts_config_map m where m.mapcfg = x.oid)""",
    "pg_ts_dict": """
        (select t.identity from pg_identify_object('pg_ts_template'::regclass, x.dicttemplate, 0) t),
        x.dictinitoption""",
    "pg_ts_parser": "x.prsstart, x.prstoken, x.prsend, x.prsheadline, x.prslextype",
    "pg_ts_template": "x.tmplinit, x.tmpllexize",
    "pg_foreign_data_wrapper": f"""
        x.fdwhandler::regproc, x.fdwvalidator::regproc, {_DIGEST.format(options="x.fdwoptions")}""",
    "pg_foreign_server": f"""
        (select w.fdwname from pg_foreign_data_wrapper w where w.oid = x.srvfdw), 'type ' || x.srvtype,
        'version ' || x.srvversion, {_DIGEST.format(options="x.srvoptions")}""",
    "pg_transform": "x.trffromsql, x.trftosql",
    "pg_am": "x.amtype, x.amhandler",
}

# An operator that another one names, and nobody has made: no dump has it, but as that one's commutator or negator.
_MADE: Final = {"pg_operator": "and x.oprcode <> 0"}


def _objects(which: Mapping[str, str]) -> str:
    return "\n union all \n".join(
        f"""
        select {_IDENTITY}, concat_ws(' ', 'is there', {defined})
        from {catalog} x, pg_identify_object('{catalog}'::regclass, x.oid, 0) o
        where {own(catalog, "x")} and {_LASTS} {which.get(catalog, "")}
        """
        for catalog, defined in _DEFINED.items()
    )


_CLASS = "pg_class c join pg_namespace n on n.oid = c.relnamespace"
_OWN_CLASS = (
    f"{own('pg_class', 'c')} and c.relpersistence <> 't' and n.nspname <> 'information_schema' "
    "and n.nspname not like 'pg\\_%'"
)
_NAME = "format('%I.%I', n.nspname, c.relname)"

# Of an index: of the columns that are expressions. A view may have defaults of its own. That a column is not NULL may
# be no more than a promise for new rows, and of this table alone (PostgreSQL 18).
_COLUMNS = f"""
    select found.name, found.text from (
        select format('%s.%I', {_NAME}, a.attname) as name, concat_ws(' ',
            'statistics ' || nullif(a.attstattarget, -1)::text,
            case when a.attstorage <> t.typstorage and c.relkind <> 'i' then 'storage ' || a.attstorage::text end,
            'compression ' || nullif(a.attcompression::text, ''),
            'options ' || (select string_agg(o, ', ' order by o) from unnest(a.attfdwoptions) o),
            (select concat_ws(' ', 'not null', case when not k.convalidated then 'not valid' end,
                              case when k.connoinherit then 'no inherit' end)
             from pg_constraint k where k.conrelid = c.oid and k.contype = 'n' and k.conkey = array[a.attnum]
               and (k.connoinherit or not k.convalidated)),
            case when c.relkind = 'v' then 'default ' || pg_get_expr(d.adbin, d.adrelid) end) as text
        from {_CLASS} join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where {_OWN_CLASS} and c.relkind in ('r', 'p', 'f', 'v', 'm', 'i', 'I') and a.attnum > 0 and not a.attisdropped
          and {{standing}}
    ) found where found.text <> ''
"""

_STORAGE = f"""
    select found.name, found.text from (
        select {_NAME} as name, concat_ws(' ',
            'of ' || format_type(nullif(c.reloftype, 0), null),
            'using ' || (select m.amname from pg_am m where m.oid = c.relam and m.amname <> 'heap' and m.amtype = 't'),
            case when c.relkind = 'S' and c.relpersistence = 'u' then 'unlogged' end,
            'toast ' || (select string_agg(o, ', ' order by o) from pg_class t, unnest(t.reloptions) o
                         where t.oid = c.reltoastrelid)) as text
        from {_CLASS} where {_OWN_CLASS} and c.relkind in ('r', 'p', 'm', 'S')
    ) found where found.text <> ''
"""

# PostgreSQL clones them; whether they act may be said of each.
_PARTITIONS_TRIGGERS = f"""
    select format('%s on %s', quote_ident(t.tgname), {_NAME}), 'enabled ' || t.tgenabled::text
    from pg_trigger t join pg_trigger p on p.oid = t.tgparentid join {_CLASS} on c.oid = t.tgrelid
    where {_OWN_CLASS} and not t.tgisinternal and t.tgenabled <> p.tgenabled
"""

_TYPES = f"""
    select t.oid::regtype::text, case t.typtype
        when 'r' then (select concat_ws(' ', 'collation ' || nullif(r.rngcollation, 0)::regcollation::text,
                              o.identity, r.rngmultitypid::regtype)
                       from pg_range r, pg_identify_object('pg_opclass'::regclass, r.rngsubopc, 0) o
                       where r.rngtypid = t.oid)
        when 'd' then 'collation ' || nullif(t.typcollation, 0)::regcollation::text
        when 'p' then 'not defined'
        else concat_ws(' ', t.typreceive, t.typsend, t.typmodin, t.typmodout, t.typanalyze, t.typsubscript,
                       'aligned ' || t.typalign::text, 'storage ' || t.typstorage::text, t.typcategory,
                       case when t.typispreferred then 'preferred' end, case when t.typbyval then 'by value' end,
                       'delimiter ' || t.typdelim::text, 'default ' || t.typdefault, 'element ' ||
                       format_type(nullif(t.typelem, 0), null), nullif(t.typcollation, 0)::regcollation) end
    from pg_type t
    where {own("pg_type", "t")} and (t.typtype in ('r', 'd') or t.typtype = 'p' and not t.typisdefined
          or t.typtype = 'b' and not exists (select from pg_type e where e.typarray = t.oid))
      and {lasting("t.typnamespace")}
"""

_AGGREGATES = f"""
    select p.oid::regprocedure::text, concat_ws(' ', a.aggkind, a.aggnumdirectargs, a.aggserialfn, a.aggdeserialfn,
           a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn, a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify,
           a.aggmfinalmodify, a.aggtransspace, format_type(nullif(a.aggmtranstype, 0), null), a.aggmtransspace,
           'starts ' || a.aggminitval, 'parallel ' || p.proparallel::text)
    from pg_aggregate a join pg_proc p on p.oid = a.aggfnoid
    where {own("pg_proc", "p")} and {lasting("p.pronamespace")}
"""

_STATISTICS = f"""
    select format('%s.%I', s.stxnamespace::regnamespace, s.stxname), 'target ' || s.stxstattarget::text
    from pg_statistic_ext s where {own("pg_statistic_ext", "s")} and s.stxstattarget >= 0
"""

# PostgreSQL 18: whether columns that are computed are published as well.
_PUBLICATIONS = """
    select p.pubname::text, 'computed columns ' || (to_jsonb(p) ->> 'pubgencols') from pg_publication p
    where to_jsonb(p) ->> 'pubgencols' <> 'n'
"""

_DEPENDENCES = """
    select concat_ws(' ', o.type, o.identity), string_agg('on extension ' || e.extname, ', ' order by e.extname)
    from pg_depend d join pg_extension e on d.refclassid = 'pg_extension'::regclass and e.oid = d.refobjid,
         pg_identify_object(d.classid, d.objid, d.objsubid) o
    where d.deptype = 'x' and {standing} group by 1
"""

_LABELS = f"""
    select concat_ws(' ', s.provider, 'on', o.type, o.identity), s.label
    from pg_seclabel s, pg_identify_object(s.classoid, s.objoid, s.objsubid) o
    where {_LASTS} and not exists (select from pg_depend e where e.classid = s.classoid and e.objid = s.objoid
                                   and e.deptype = 'e')
"""

# Of an index that is not valid, and of a partition's trigger that is its table's, no dump has anything.
VALID: Final = "exists (select from pg_index i where i.indexrelid = {oid} and (i.indisvalid or {whole}))"
_COLUMNS_OF_VALID = f"(c.relkind <> 'i' or {VALID.format(oid='c.oid', whole='false')})"
_DEPEND_IN_DUMPS = f"""
    not (d.classid = 'pg_trigger'::regclass
         and exists (select from pg_trigger t where t.oid = d.objid and t.tgparentid <> 0))
    and not (d.classid = 'pg_class'::regclass and o.type = 'index' and not
             {VALID.format(oid="d.objid", whole="(select relkind = 'I' from pg_class where oid = d.objid)")})
"""

SINCE_4: Final = {
    "column": _COLUMNS.format(standing="true"),
    "storage": _STORAGE,
    "trigger of a partition": _PARTITIONS_TRIGGERS,
    "inside of type": _TYPES,
    "inside of aggregate": _AGGREGATES,
    "target of statistics": _STATISTICS,
    "columns of publication": _PUBLICATIONS,
    "dependence": _DEPENDENCES.format(standing="true"),
    "security label": _LABELS,
}
"""Queries for definitions by kind, which the formats 1 to 3 did not have."""

OBJECTS_4: Final = _objects({})
"""The query for definitions of the kind `object`, without schemas, as format 4 has it."""

ADDED: Final = SINCE_4 | {
    "column": _COLUMNS.format(standing=_COLUMNS_OF_VALID),
    "dependence": _DEPENDENCES.format(standing=_DEPEND_IN_DUMPS),
}
"""The same as they are asked today."""

OBJECTS: Final = _objects(_MADE)
"""The query for definitions of the kind `object`, without schemas."""


def _owner(catalog: str, owner: str, acl: str | None = None, kind: str = "", which: Mapping[str, str] = _MADE) -> str:
    text = f"'owner ' || quote_ident(pg_get_userbyid(x.{owner}))" if acl is None else owned(kind, f"x.{owner}", acl)
    return f"""
        select {_IDENTITY}, {text} from {catalog} x, pg_identify_object('{catalog}'::regclass, x.oid, 0) o
        where {own(catalog, "x")} and {_LASTS} {which.get(catalog, "")}
    """


_LOST = """
    (select string_agg(lower(a.privilege_type), ', ' order by a.privilege_type)
     from aclexplode(acldefault('{kind}', c.relowner)) a
     where a.grantee = c.relowner and a.privilege_type <> 'MAINTAIN' and not exists (
        select from aclexplode(c.relacl) g where g.grantee = a.grantee and g.privilege_type = a.privilege_type))
"""

# What PostgreSQL has itself has grants from the beginning (pg_init_privs); a dump has where they are others now.
_INITIAL = """
    select {identity}, {now} from {catalog} x, pg_identify_object('{catalog}'::regclass, x.oid, 0) o
    where x.oid < 16384 and x.{acl} is not null and {now} is distinct from (
        select string_agg(format('%s=%s%s', case a.grantee when 0 then 'public' else
                                 quote_ident(pg_get_userbyid(a.grantee)) end, lower(a.privilege_type),
                                 case when a.is_grantable then '*' else '' end), ', '
                          order by a.grantee <> 0, pg_get_userbyid(a.grantee), a.privilege_type)
        from aclexplode(coalesce((select i.initprivs from pg_init_privs i where i.classoid = '{catalog}'::regclass
                                  and i.objoid = x.oid and i.objsubid = 0), acldefault('{kind}', x.{owner}))) a
        where a.grantee <> x.{owner}) and {only}
"""


def _initial(catalog: str, acl: str, owner: str, kind: str, only: str) -> str:
    now = grants(f"x.{acl}", kind, f"x.{owner}")
    identity = f"'PostgreSQL''s own ' || {_IDENTITY}"
    return _INITIAL.format(identity=identity, now=now, catalog=catalog, acl=acl, kind=kind, owner=owner, only=only)


OWNERSHIP: Final = (
    _owner("pg_operator", "oprowner"),
    _owner("pg_opclass", "opcowner"),
    _owner("pg_opfamily", "opfowner"),
    _owner("pg_collation", "collowner"),
    _owner("pg_conversion", "conowner"),
    _owner("pg_ts_config", "cfgowner"),
    _owner("pg_ts_dict", "dictowner"),
    _owner("pg_statistic_ext", "stxowner"),
    _owner("pg_event_trigger", "evtowner"),
    _owner("pg_language", "lanowner", "x.lanacl", "l"),
    _owner("pg_foreign_data_wrapper", "fdwowner", "x.fdwacl", "F"),
    _owner("pg_foreign_server", "srvowner", "x.srvacl", "S"),
    f"""
    select 'type ' || t.oid::regtype, {owned("T", "t.typowner", "t.typacl")}
    from pg_type t join {_CLASS} on c.oid = t.typrelid
    where {_OWN_CLASS} and c.relkind = 'c' and {own("pg_type", "t")}
    """,
    *(
        f"""
        select 'the owner''s own rights to ' || {_NAME}, 'without ' || {_LOST.format(kind=kind)}
        from {_CLASS} where {_OWN_CLASS} and c.relkind {kinds} and c.relacl is not null
          and {_LOST.format(kind=kind)} is not null
        """
        for kind, kinds in (("r", "in ('r', 'p', 'v', 'm', 'f')"), ("s", "= 'S'"))
    ),
    _initial("pg_class", "relacl", "relowner", "r", "o.schema = 'pg_catalog' and x.relkind in ('r', 'v')"),
    _initial("pg_proc", "proacl", "proowner", "f", "o.schema = 'pg_catalog'"),
    _initial("pg_type", "typacl", "typowner", "T", "o.schema = 'pg_catalog'"),
    _initial("pg_namespace", "nspacl", "nspowner", "n", "x.nspname = 'pg_catalog'"),
    _initial("pg_language", "lanacl", "lanowner", "l", "x.lanispl"),
)
"""Queries for owners and grants, which the formats 1 to 3 did not have."""

OWNERSHIP_4: Final = (_owner("pg_operator", "oprowner", which={}), *OWNERSHIP[1:])
"""The same as format 4 has them."""
