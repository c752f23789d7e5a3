"""What is the application's own in a catalogue, who owns it and what others may do with it: as words of SQL. Pure."""

from __future__ import annotations

from typing import Final

FOREIGN_SCHEMAS = "('pg_catalog', 'information_schema', 'pg_toast')"

SCHEMA_OF: Final = {
    "pg_class": "relnamespace",
    "pg_collation": "collnamespace",
    "pg_conversion": "connamespace",
    "pg_opclass": "opcnamespace",
    "pg_operator": "oprnamespace",
    "pg_opfamily": "opfnamespace",
    "pg_proc": "pronamespace",
    "pg_statistic_ext": "stxnamespace",
    "pg_ts_config": "cfgnamespace",
    "pg_ts_dict": "dictnamespace",
    "pg_ts_parser": "prsnamespace",
    "pg_ts_template": "tmplnamespace",
    "pg_type": "typnamespace",
}
"""The catalogues of what stands in a schema, each with its column for that."""

_ALREADY_THERE = "(select oid from pg_namespace where nspname in ('pg_catalog', 'information_schema'))"


def own(catalog: str, alias: str) -> str:
    """The condition that an object is neither PostgreSQL's nor an extension's, and in no schema that no dump has."""
    column = SCHEMA_OF.get(catalog)
    where = "" if column is None else f" and {alias}.{column} not in {_ALREADY_THERE}"
    return f"{_made(catalog, alias)}{where}"


def misplaced(catalog: str, alias: str) -> str:
    """The condition that somebody made an object in one of PostgreSQL's own schemas, which no dump has."""
    return f"{_made(catalog, alias)} and {alias}.{SCHEMA_OF[catalog]} in {_ALREADY_THERE}"


def _made(catalog: str, alias: str) -> str:
    return (
        f"{alias}.oid >= 16384 and not exists (select from pg_depend own where own.classid = '{catalog}'::regclass "
        f"and own.objid = {alias}.oid and own.deptype = 'e')"
    )


def lasting(namespace: str) -> str:
    """The condition that a schema, by its oid, is no session's own. Formats 1 and 2 did not ask it of all objects."""
    return f"{namespace}::regnamespace::text not like 'pg\\_temp%'"


# An owner's own rights follow from owning; only what others were given (or PUBLIC lost) is listed. A NULL ACL means
# the built-in default, which is spelled out so that it equals the same rights granted by name.
_GRANTS = """
    (select string_agg(format('%s=%s%s',
                              case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end,
                              lower(a.privilege_type), case when a.is_grantable then '*' else '' end), ', '
                       order by a.grantee <> 0, pg_get_userbyid(a.grantee), a.privilege_type)
     from aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))) a where a.grantee <> {owner})
"""


def grants(acl: str, kind: str, owner: str) -> str:
    """What others than the owner may do, as an expression."""
    return _GRANTS.format(acl=acl, kind=kind, owner=owner)


def owned(kind: str, owner: str, acl: str) -> str:
    """Who owns it, and what others may do, as an expression."""
    return f"concat_ws('; ', 'owner ' || quote_ident(pg_get_userbyid({owner})), {grants(acl, kind, owner)})"


# A relation, with its schema.
CLASS = "pg_class c join pg_namespace n on n.oid = c.relnamespace"
NAME = "format('%I.%I', n.nspname, c.relname)"
OWN_CLASS = (
    f"{own('pg_class', 'c')} and c.relpersistence <> 't' and n.nspname not in {FOREIGN_SCHEMAS} "
    "and n.nspname not like 'pg\\_temp%' and n.nspname not like 'pg\\_toast%'"
)
# Not by its oid: `public`, renamed, is as much the application's as any other, and made anew it is PostgreSQL's.
OWN_SCHEMA = (
    "s.nspname not in ('public', 'information_schema') and s.nspname not like 'pg\\_%' and not exists (select from "
    "pg_depend own where own.classid = 'pg_namespace'::regclass and own.objid = s.oid and own.deptype = 'e')"
)
