"""What the words of a definition do not say: what it is attached to, what it has besides what it inherits, whose grants
came by whom. Since format 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from safepoint.backup.belonging import CLASS, NAME, OWN_CLASS, grants, lasting, own, owned
from safepoint.backup.objects import VALID

_IDENTITY = "concat_ws(' ', o.type, o.identity)"
_LASTS = "coalesce(o.schema, '') not like 'pg\\_temp%'"
_GRANT = """format('%s=%s%s', case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                   lower(a.privilege_type), case when a.is_grantable then '*' else '' end)
"""
_ORDER = "order by a.grantee <> 0, pg_get_userbyid(a.grantee), a.privilege_type"

# An index that stands beside that of its partitioned table is another one: no unique index of the whole comes of it.
_ATTACHED = f"""
    select format('%I.%I', n.nspname, x.relname), 'to ' || h.inhparent::regclass
    from pg_inherits h join pg_index i on i.indexrelid = h.inhrelid join pg_class x on x.oid = i.indexrelid
    join {CLASS} on c.oid = i.indrelid where {OWN_CLASS} and (i.indisvalid or c.relkind = 'p')
"""

# A search_path finds the functions of an extension, or does not.
_SCHEMAS = (
    "select e.extname::text, quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = extnamespace"
)

# What a table has of its own stays when its parent loses it. A partition has everything from its parent.
_HEIRS = "not c.relispartition and exists (select from pg_inherits h where h.inhrelid = c.oid)"
_OWN_BESIDES = f"""
    select format('column %s.%I', {NAME}, a.attname), 'besides the inherited one'
    from {CLASS} join pg_attribute a on a.attrelid = c.oid
    where {OWN_CLASS} and {_HEIRS} and c.relkind in ('r', 'f') and a.attnum > 0 and not a.attisdropped
      and a.attinhcount > 0 and a.attislocal
    union all
    select format('constraint %I on %s', k.conname, {NAME}), 'besides the inherited one'
    from {CLASS} join pg_constraint k on k.conrelid = c.oid
    where {OWN_CLASS} and {_HEIRS} and c.relkind in ('r', 'f') and k.contype = 'c'
      and k.coninhcount > 0 and k.conislocal
"""

# From PostgreSQL 18 on NOT NULL is a constraint with a name, by which it is dropped. A dump leaves out the name that
# PostgreSQL gives, and a restore may get it with another number (CREATE TABLE ... LIKE gives away the names of others).
# One that is inherited has that of a parent, and a restore may make it the table's own (where a parent's is not valid).
_NOT_NULL = f"""
    select format('%s.%I', {NAME}, a.attname),
           case when regexp_replace(k.conname, '[0-9]+$', '') = format('%s_%s_not_null', c.relname, a.attname)
                then 'as PostgreSQL names it' else quote_ident(k.conname) end
    from pg_constraint k join {CLASS} on c.oid = k.conrelid
    join pg_attribute a on a.attrelid = c.oid and a.attnum = k.conkey[1]
    where {OWN_CLASS} and k.contype = 'n'
      and (c.relispartition or k.coninhcount = 0)
    union all
    select k.contypid::regtype::text, quote_ident(k.conname)
    from pg_constraint k join pg_type t on t.oid = k.contypid
    where k.contype = 'n' and {own("pg_type", "t")} and {lasting("t.typnamespace")}
      and current_setting('server_version_num')::int >= 180000
"""

# A table's definition has a collation without its schema.
_COLLATIONS = f"""
    select format('%s.%I', {NAME}, a.attname), a.attcollation::regcollation::text
    from {CLASS} join pg_attribute a on a.attrelid = c.oid join pg_type t on t.oid = a.atttypid
    join pg_collation l on l.oid = a.attcollation
    where {OWN_CLASS} and c.relkind in ('r', 'p', 'f', 'c') and a.attnum > 0 and not a.attisdropped
      and a.attcollation <> t.typcollation and l.collnamespace <> 'pg_catalog'::regnamespace
"""

_ARGUMENTS = f"""
    select p.oid::regprocedure::text, pg_get_function_arguments(p.oid)
    from pg_proc p where p.prokind = 'a' and {own("pg_proc", "p")} and {lasting("p.pronamespace")}
"""

# Up to version 14 no dump said it, and it was that of the server's first superuser.
_PUBLIC = """
    select quote_ident(s.nspname), quote_ident(pg_get_userbyid(s.nspowner)) from pg_namespace s
    where s.nspname = 'public' and current_setting('server_version_num')::int >= 150000
"""

ADDED: Final = {
    "attachment of index": _ATTACHED,
    "schema of extension": _SCHEMAS,
    "own definition of": _OWN_BESIDES,
    "name of NOT NULL of": _NOT_NULL,
    "collation of column": _COLLATIONS,
    "arguments of aggregate": _ARGUMENTS,
    "owner of schema": _PUBLIC,
}
"""Queries for definitions by kind, which former formats did not have."""

OF_ONE_VERSION: Final = frozenset({"name of NOT NULL of", "owner of schema"})
"""The kinds of them that one major version has, and another one has not."""


BY_OTHERS: Final = "grants by others of "
"""What the names of grants begin with that somebody else than the owner gave."""


_OF_EXTENSION: Final = "an extension's "
_CHANGED: Final = "changed: "


def _of_extension(catalog: str, acl: str, owner: str, kind: str) -> str:
    """The grants on what belongs to an extension. A dump has those that were changed since it was made.

    That is known by a record which PostgreSQL keeps since 9.6: what is older seems to be changed. See `settled`.
    """
    before = f"""(select i.initprivs from pg_init_privs i where i.classoid = '{catalog}'::regclass
                  and i.objoid = x.oid and i.objsubid = 0 and i.privtype = 'e')"""
    now, then = (grants(one, kind, f"x.{owner}") for one in (f"x.{acl}", before))
    return f"""
        select 'an extension''s ' || {_IDENTITY},
               case when {now} is distinct from {then} then '{_CHANGED}' else '' end || coalesce({now}, 'none')
        from {catalog} x join pg_depend d on d.classid = '{catalog}'::regclass and d.objid = x.oid
            and d.deptype = 'e' and d.refobjid >= 16384,
            pg_identify_object('{catalog}'::regclass, x.oid, 0) o where x.{acl} is not null
    """


def settled(ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Grants without those of extensions that are the same, or as their scripts made them in each database. Pure."""
    pairs = {name: (ours.get(name, ""), theirs.get(name, "")) for name in {*ours, *theirs}}
    same = {
        name
        for name, pair in pairs.items()
        if name.startswith(_OF_EXTENSION)
        and (len({text.removeprefix(_CHANGED) for text in pair}) == 1 or not any(_CHANGED in text for text in pair))
    }
    one, other = ({name: text for name, text in each.items() if name not in same} for each in (ours, theirs))
    return one, other


_COLUMNS_OF_EXTENSIONS = f"""
    select 'an extension''s ' || {_IDENTITY}, '{_CHANGED}' || string_agg({_GRANT}, ', ' {_ORDER})
    from pg_class x join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = x.oid and d.deptype = 'e'
    join pg_attribute t on t.attrelid = x.oid and t.attacl is not null and not t.attisdropped,
         pg_identify_object('pg_class'::regclass, x.oid, t.attnum) o, aclexplode(t.attacl) a
    where a.grantee <> x.relowner group by 1
"""


def _rights(catalog: str, acl: str, owner: str, kind: str, which: str) -> str:
    """What an owner took from himself, and what others granted."""
    return f"""
        select 'the owner''s own rights to ' || {_IDENTITY}, 'without ' || string_agg(lower(a.privilege_type), ', '
                                                                                     order by a.privilege_type)
        from {catalog} x, pg_identify_object('{_named(catalog)}'::regclass, x.oid, 0) o,
             aclexplode(acldefault('{kind}', x.{owner})) a
        where {which} and {_LASTS} and x.{acl} is not null and a.grantee = x.{owner} and not exists (
            select from aclexplode(x.{acl}) g where g.grantee = a.grantee and g.privilege_type = a.privilege_type)
        group by 1
        union all
        {_by_others(catalog, acl, owner, which)}
    """


def _named(catalog: str) -> str:
    """The catalogue by which PostgreSQL names what stands in it."""
    return catalog.removesuffix("_metadata")


def _by_others(catalog: str, acl: str, owner: str, which: str) -> str:
    return f"""
        select '{BY_OTHERS}' || {_IDENTITY}, {_GRANTED_BY}
        from {catalog} x, pg_identify_object('{_named(catalog)}'::regclass, x.oid, 0) o, aclexplode(x.{acl}) a
        where {which} and {_LASTS} and x.{acl} is not null and a.grantor <> x.{owner} group by 1
    """


_GRANTED_BY = f"""
    string_agg({_GRANT} || ' by ' || quote_ident(pg_get_userbyid(a.grantor)), ', '
               {_ORDER}, pg_get_userbyid(a.grantor))
"""
# An extension's and PostgreSQL's own as well: a dump has them, and a restore has to wait with them (`refreshing`).
_DUMPED = "x.relnamespace <> 'information_schema'::regnamespace"
_COLUMNS = """
    pg_class x join pg_attribute t on t.attrelid = x.oid and t.attacl is not null and not t.attisdropped,
    pg_identify_object('pg_class'::regclass, x.oid, t.attnum) o
"""
_COLUMNS_BY_OTHERS = f"""
    select '{BY_OTHERS}' || {_IDENTITY}, {_GRANTED_BY} from {_COLUMNS}, aclexplode(t.attacl) a
    where {_DUMPED} and {_LASTS} and a.grantor <> x.relowner group by 1
"""
_INITIAL = """(select i.initprivs from pg_init_privs i where i.classoid = 'pg_class'::regclass
               and i.objoid = x.oid and i.objsubid = t.attnum)"""
_COLUMNS_OF_POSTGRESQL = f"""
    select 'PostgreSQL''s own ' || {_IDENTITY}, coalesce({grants("t.attacl", "c", "x.relowner")}, 'none')
    from {_COLUMNS} where x.oid < 16384 and {_DUMPED}
      and {grants("t.attacl", "c", "x.relowner")} is distinct from {grants(_INITIAL, "c", "x.relowner")}
"""


# PostgreSQL makes a range's functions with it: no dump has their grants.
MADE_ALONG: Final = """exists (
    select from pg_depend m where m.classid = 'pg_proc'::regclass and m.objid = {oid} and m.deptype = 'i')
"""

UNDUMPED_COMMENT: Final = f"""(
    d.classoid = 'pg_type'::regclass and exists (
        select from pg_type t left join pg_class r on r.oid = t.typrelid where t.oid = d.objoid
        and (t.typtype = 'm' or r.relkind <> 'c' or exists (select from pg_type e where e.typarray = t.oid)))
    or d.classoid = 'pg_trigger'::regclass
        and exists (select from pg_trigger t where t.oid = d.objoid and (t.tgparentid <> 0 or t.tgisinternal))
    or d.classoid = 'pg_class'::regclass and o.type = 'index'
        and not {VALID.format(oid="d.objoid", whole="(select relkind = 'I' from pg_class where oid = d.objoid)")}
    or d.classoid = 'pg_proc'::regclass and {MADE_ALONG.format(oid="d.objoid")}
    or d.classoid = 'pg_rewrite'::regclass
        and exists (select from pg_rewrite r where r.oid = d.objoid and r.rulename = '_RETURN')
    or d.classoid = 'pg_operator'::regclass
        and exists (select from pg_operator p where p.oid = d.objoid and p.oprcode = 0)
    or d.classoid = 'pg_constraint'::regclass and exists (
        select from pg_constraint k where k.oid = d.objoid and (
            k.contype = 't' or k.contype = 'f' and k.conparentid <> 0 or k.contype = 'c' and not k.conislocal
            or k.contype = 'n' and not k.conislocal
               and not (select relispartition from pg_class where oid = k.conrelid)
            or k.contype = 'n' and current_setting('server_version_num')::int < 180000)))
"""
"""The condition that no dump has a comment: of what PostgreSQL makes along with something else, mostly."""

OWNERSHIP: Final = (
    _rights("pg_proc", "proacl", "proowner", "f", f"{own('pg_proc', 'x')} and not {MADE_ALONG.format(oid='x.oid')}"),
    _rights("pg_namespace", "nspacl", "nspowner", "n", f"({own('pg_namespace', 'x')} or x.nspname = 'public')"),
    _rights("pg_type", "typacl", "typowner", "T", own("pg_type", "x")),
    _rights("pg_language", "lanacl", "lanowner", "l", own("pg_language", "x")),
    _rights("pg_foreign_data_wrapper", "fdwacl", "fdwowner", "F", own("pg_foreign_data_wrapper", "x")),
    _rights("pg_foreign_server", "srvacl", "srvowner", "S", own("pg_foreign_server", "x")),
    _rights("pg_largeobject_metadata", "lomacl", "lomowner", "L", "true"),
    _by_others("pg_class", "relacl", "relowner", _DUMPED),
    _COLUMNS_BY_OTHERS,
    _COLUMNS_OF_POSTGRESQL,
    f"""
    select 'large object ' || x.oid::text, string_agg({_GRANT}, ', ' {_ORDER})
    from pg_largeobject_metadata x, aclexplode(x.lomacl) a
    where x.lomacl is not null and a.is_grantable and a.grantee <> x.lomowner group by 1
    """,
    f"""
    select 'type ' || t.oid::regtype, {owned("T", "t.typowner", "t.typacl")}
    from pg_type t where {own("pg_type", "t")} and t.typtype = 'b' and t.typelem <> 0
      and not exists (select from pg_type e where e.typarray = t.oid) and {lasting("t.typnamespace")}
    """,
    _of_extension("pg_class", "relacl", "relowner", "r"),
    _of_extension("pg_proc", "proacl", "proowner", "f"),
    _of_extension("pg_type", "typacl", "typowner", "T"),
    _of_extension("pg_namespace", "nspacl", "nspowner", "n"),
    _of_extension("pg_language", "lanacl", "lanowner", "l"),
    _of_extension("pg_foreign_data_wrapper", "fdwacl", "fdwowner", "F"),
    _of_extension("pg_foreign_server", "srvacl", "srvowner", "S"),
    _COLUMNS_OF_EXTENSIONS,
)
"""Queries for owners and grants which former formats did not have."""
