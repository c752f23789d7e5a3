"""What belongs to extensions, and what somebody made of it: no dump has a word of that.

A dump says CREATE EXTENSION and no more, so a restore has the extension as its script makes it: in the version that the
server has, without what was added to it (ALTER EXTENSION ... ADD), and with its functions, views and tables as they
were before somebody altered them (ALTER FUNCTION unaccent(text) IMMUTABLE, so that an index may use it). Nothing tells
at the source what was changed, but a copy that has the same version of it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from safepoint.backup.statements import unquoted

_MARK: Final = "member "
_SHOWN: Final = 20

# Of a function all that ALTER FUNCTION and CREATE OR REPLACE change; of a table its columns. A table's type and that of
# an array go with it.
MEMBERS: Final = f"""
    select concat_ws(' ', o.type, o.identity, 'of extension', quote_ident(e.extname)),
           '{_MARK}' || left(md5(concat_ws(E'\\n',
               (select case when p.prokind = 'a' then '' else pg_get_functiondef(p.oid) end from pg_proc p
                where d.classid = 'pg_proc'::regclass and p.oid = d.objid),
               (select case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end from pg_class c
                where d.classid = 'pg_class'::regclass and c.oid = d.objid),
               (select string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                                            pg_get_expr(f.adbin, f.adrelid)), ', ' order by a.attnum)
                from pg_attribute a left join pg_attrdef f on f.adrelid = a.attrelid and f.adnum = a.attnum
                where d.classid = 'pg_class'::regclass and a.attrelid = d.objid and a.attnum > 0
                  and not a.attisdropped))), 8)
    from pg_depend d join pg_extension e on e.oid = d.refobjid, pg_identify_object(d.classid, d.objid, 0) o
    where d.deptype = 'e' and d.refclassid = 'pg_extension'::regclass
      and not (d.classid = 'pg_type'::regclass and exists (
          select from pg_type t left join pg_class r on r.oid = t.typrelid
          where t.oid = d.objid and (r.relkind <> 'c' or exists (select from pg_type e where e.typarray = t.oid))))
"""
"""The query for them: with a digest of what may be altered."""


def is_member(text: str) -> bool:
    """Whether it is one, by the text that the query has for it. Pure."""
    return text.startswith(_MARK)


def altered(
    ours: Mapping[str, str], theirs: Mapping[str, str], versions: Mapping[str, str], there: Mapping[str, str]
) -> tuple[str, ...]:
    """What a copy lacks of it, as sentences for who restores it; or nothing. Pure.

    Args:
        ours: what the query found at the source.
        theirs: what it found in the copy, on a server of the same major version.
        versions: of the source's extensions.
        there: of the copy's.
    """
    others = [
        f"{name} ({version}, and {there[name]} in the copy)"
        for name, version in sorted(versions.items())
        if name in there and there[name] != version
    ]
    same = {name for name, version in versions.items() if there.get(name) == version}
    lost = [name for name, text in ours.items() if theirs.get(name) != text and _extension(name) in same]
    notes = [f"extensions come back in the version that the server has: {_named(others)}"] if others else []
    if lost:
        notes.append(
            "somebody added this to an extension, or altered it, which is in no dump, and so not in the copy: "
            f"{_named(lost)}. Do that there again, or let functions of your own do it"
        )
    return tuple(notes)


def _extension(name: str) -> str:
    return unquoted(name.rpartition(" of extension ")[2])


def _named(found: Sequence[str]) -> str:
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return ", ".join([*found[:_SHOWN], *more])
