"""An old column's value as SQL over the new row. Pure.

Two rows are in scope: `new`, as it was captured, and `old`, the twin's own row that it came from (all NULL, its `ctid`
too, where the row did not exist at the safe point). Columns are always named with one of them, so that a mapper of the
user's own may name the new row's columns bare.
"""

from __future__ import annotations

import re
from typing import Final

from psycopg import sql

from safepoint.wayback.mapping.catalogue import Column

Casts = frozenset[tuple[str, str]]
"""The casts that a server has: from which type, to which (`Catalogue.casts`)."""

_TEXTS: Final = frozenset({"text", "character varying"})
# Types of which a cast to text is read back as the same value, and two values have the same text only if they are.
_EXACT: Final = frozenset(
    {
        "smallint", "integer", "bigint", "numeric", "real", "double precision", "text", "character varying", "boolean",
        "date", "timestamp without time zone", "timestamp with time zone", "uuid", "bytea", "json", "jsonb",
    }
)  # fmt: skip
CONTENT_TYPES: Final = "django_content_type"
PERMISSIONS: Final = "auth_permission"
ID_TABLES: Final = {CONTENT_TYPES: "safepoint_content_types", PERMISSIONS: "safepoint_permissions"}
"""Temporary tables of the replay: `new` id -> `old` id, by natural key; `home`: the old table that has it."""

_TOKEN: Final = re.compile(
    r"""
    '(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | \$\w*\$.*?\$\w*\$
    | [^\W\d][\w$]* | \d[\w.]* | :: | => | := | \s+ | .
    """,
    re.VERBOSE | re.DOTALL,
)
# Words that a column's name must be quoted among (https://www.postgresql.org/docs/current/sql-keywords-appendix.html).
_RESERVED: Final = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true union
    unique user using variadic verbose when where window with
    """.split()  # noqa: SIM905 - words are read more easily without quotes
)
# What stands before the name of a type, of a collation, or within one: AS date, AT TIME ZONE, double precision.
_BEFORE_OTHERS: Final = frozenset(
    {"::", "as", "at", "collate", "character", "double", "national", "returning", "time", "with", "without"}
)

NULL: Final = "IS NOT DISTINCT FROM NULL"
FILLED: Final = "IS DISTINCT FROM NULL"
"""Whether a value of the application's is there: `IS NULL` is true of a composite value whose fields are NULL."""


def quote(name: str) -> str:
    """An identifier as it stands in SQL."""
    return sql.Identifier(name).as_string(None)


def literal(value: str | list[object]) -> str:
    """A text constant, or an array, as it stands in SQL."""
    return sql.Literal(value).as_string(None)


def balanced(expression: str) -> bool:
    """Whether each bracket that SQL closes was opened in it, and the other way round. Pure."""
    depth = 0
    for word in _TOKEN.findall(expression):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth < 0:
            return False
    return depth == 0


def written(value: str) -> str:
    """A value as the log writes it. A cast to text may write it otherwise: a boolean's is `true`, the log has `t`."""
    return f"CASE WHEN {value} {FILLED} THEN format('%s', {value}) END"


def text_of(column: Column, value: str) -> str:
    """A text of which the value comes back: by the cheaper cast where it is one. Other casts may say anything."""
    return f"{value}::text" if column.base in _EXACT else written(value)


def of_new(column: str) -> str:
    """The new row's column."""
    return f"new.{quote(column)}"


def of_old(column: str) -> str:
    """The column of the twin's own row."""
    return f"old.{quote(column)}"


def cast(value: str, source: str, target: str, base: str, casts: Casts) -> str:
    """A value of type `source` (without modifier) as `target`, whose type without modifier is `base`.

    Where PostgreSQL has no cast between the two, the value goes by its text.
    """
    if source == base or (source, base) in casts or {source, base} <= _TEXTS:
        return f"{value}::{target}"
    return f"{value}::text::{target}"


def known(kind: str, casts: Casts) -> bool:
    """Whether the old database has this type: one that the launch brings (an extension's, an enum) stays text there."""
    return (kind, kind) in casts or ("boolean", "boolean") not in casts


def retyped(old: Column, new: Column, casts: Casts) -> str:
    """The new value in the old type; the twin's own value where the new one says the same in its narrower type.

    So 1234.5678, which a migration rounded to 1234.57, comes back whole as long as nobody changed it since.
    """
    if not known(new.base, casts):
        back = f"{of_new(new.name)}::{old.type}"
        if old.base in _TEXTS:
            return back
        ours, theirs = _texts(old, of_old(old.name), new)
        return f"CASE WHEN {ours} = {theirs} THEN {of_old(old.name)} ELSE {back} END"
    back = cast(of_new(new.name), new.base, old.type, old.base, casts)
    if {old.base, new.base} <= _TEXTS:
        return back
    forth = cast(of_old(old.name), old.base, new.type, new.base, casts)
    # Compared as text: not every type has an equality, and 1.0 is not 1.00.
    same = f"{text_of(new, forth)} = {text_of(new, of_new(new.name))}"
    return f"CASE WHEN {same} THEN {of_old(old.name)} ELSE {back} END"


def loss(old: Column, new: Column, casts: Casts) -> str:
    """Whether a value of `out`, in the old type, says no longer what the new row says."""
    if not known(new.base, casts):
        return " IS DISTINCT FROM ".join(_texts(old, f"out.{quote(old.name)}", new))
    if old.base == "jsonb" and (new.base in _TEXTS or new.base == "json"):
        return "false"  # blanks, the order of keys, \u00e4 for ä: a document may be spelled in many ways
    there = cast(f"out.{quote(old.name)}", old.base, new.type, new.base, casts)
    return f"{text_of(new, there)} IS DISTINCT FROM {text_of(new, of_new(new.name))}"


def _texts(old: Column, value: str, new: Column) -> tuple[str, str]:
    """A value of the old type and the new one, both as text. Blanks at the end of a `character` say nothing."""
    if old.base == "character":
        return f"{value}::text", f"rtrim({of_new(new.name)}, ' ')"
    return text_of(old, value), of_new(new.name)


def restored(column: str, default: str | None) -> str:
    """The twin's own value; of a row that is new since, the default."""
    return f"CASE WHEN old.ctid IS NULL THEN {default or 'NULL'} ELSE {of_old(column)} END"


def remapped(column: str, home: str) -> str:
    """An id of a content type or permission as the old database has it, in the table `home` (`schema.table`).

    One that the old release does not know becomes an id that no row has, so that the foreign key's check finds it.
    """
    value = of_new(column)
    ids = f"pg_temp.{ID_TABLES[home.partition('.')[2]]} ids"
    return f"(SELECT coalesce(ids.old, -ids.new) FROM {ids} WHERE ids.home = {literal(home)} AND ids.new = {value})"


def unmoved(column: str, home: str) -> str:
    """As `remapped`, of a column that names its row: only an id that is the same in both databases has a place."""
    ids = f"pg_temp.{ID_TABLES[home.partition('.')[2]]} ids"
    same = "CASE WHEN ids.old = ids.new THEN ids.old ELSE -ids.new END"
    return f"(SELECT {same} FROM {ids} WHERE ids.home = {literal(home)} AND ids.new = {of_new(column)})"


def mentions(expression: str, column: str) -> bool:
    """Whether a mapper's SQL names this column of the new row. Where that is not sure it does not: a value that is
    stashed needlessly is told, and one that only seemed to be read would be lost without a word.
    """
    tokens = [token for token in _TOKEN.findall(expression) if not token.isspace() and token[:2] not in ("--", "/*")]
    for place, token in enumerate(tokens):
        quoted = token[0] == '"'
        name = token[1:-1].replace('""', '"') if quoted else token.lower()
        if name != column or (not quoted and name in _RESERVED):
            continue
        before = [one.lower() for one in ["", "", "", *tokens][place : place + 3]]
        if _may_be_column(before, (tokens[place + 1 :] or [""])[0].lower()):
            return True
    return False


def is_column(expression: str, column: str) -> bool:
    """Whether a mapper gives the new row's column as it is."""
    bare = expression.strip()
    while bare.startswith("(") and bare.endswith(")"):
        bare = bare[1:-1].strip()
    names = {quote(column), *([column] if re.fullmatch(r"[a-z_][a-z0-9_]*", column) else [])}
    return bare in {f"{row}{name}" for row in ("", "new.") for name in names}


def _may_be_column(before: list[str], after: str) -> bool:
    """Whether a name may be a column's by what stands before it and after it: so may not a type's, a function's, a
    field's, or that of another table's column."""
    last = before[-1]
    if last == ".":
        return before[-2] in ("new", "row_")
    if last == "(" and before[-2] == "extract" and after == "from":
        return False
    return last not in _BEFORE_OTHERS and after not in ("(", ".", "=>", ":=") and not after.startswith(("'", "$"))
