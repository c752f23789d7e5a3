"""The normal form of a definition: what PostgreSQL itself writes otherwise after a dump and restore, in one way. Pure.

PostgreSQL writes definitions anew from what it parsed, with every parenthesis and every cast. A restore parses that,
and a few things come out otherwise although they mean the same (PostgreSQL's src/backend/parser: gram.y, parse_expr.c):

- `x BETWEEN 1 AND 2 AND y` is a chain within a chain at first, and one chain afterwards: AND and OR in chains.
- `name IN ('a', 'b')` of a varchar casts the whole array at first, and each element of it afterwards.
- `-(1::integer)` is an operator at first, and a number afterwards.
- A constant in an arm of a UNION has no name at first, and that of its type afterwards.

Nothing else is taken away: grouping and casts mean something. Whatever is in quotes, bodies of functions too, is left
as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_IDENTIFIER: Final = r'(?:"(?:[^"]|"")+"|[a-z_][\w$]*)'
_TYPE: Final = (
    rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})?(?: varying| precision)?(?:\([^()]*\))?(?: with(?:out)? time zone)?"
    r"(?: (?:year|month|day|hour|minute|second)(?: to (?:month|hour|minute|second))?(?:\(\d\))?)?"
)
_TOKEN: Final = re.compile(
    rf"[EBX]?'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$|::{_TYPE}(?:\[\])*"
    r"|[\w.$]+|[()\[\],;]|[^\w\s()\[\],;'\"$]+?(?=::|[\w\s()\[\],;'\"$]|$)|\S",
    re.DOTALL,
)
# Where none of these stands, nothing comes out otherwise.
_TELLING: Final = re.compile(r"\b(?:AND|OR|ARRAY|SELECT)\b|\(- |'-")
_CLOSED_BY: Final = {"(": ")", "[": "]"}
_CLAUSES: Final = frozenset(
    {"FROM", "WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR"}
    | {"UNION", "EXCEPT", "INTERSECT"}
)
_NUMBER: Final = re.compile(r"\d+(\.\d*)?(?:e[+-]?\d+)?")
# As PostgreSQL calls the types itself whose names in SQL are others (datatype page, table of types).
_OWN_NAMES: Final = {
    "integer": "int4",
    "bigint": "int8",
    "smallint": "int2",
    "boolean": "bool",
    "character varying": "varchar",
    "character": "bpchar",
    "real": "float4",
    "double precision": "float8",
    "bit varying": "varbit",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time with time zone": "timetz",
    "time without time zone": "time",
}


@dataclass
class _Group:
    """What stands in parentheses or brackets, without them."""

    opened: str
    items: list[_Item]


_Item = str | _Group


def normal_form(definition: str) -> str:
    """A definition in its normal form: equal for two that differ only in what a restore writes otherwise."""
    if _TELLING.search(definition) is None:
        return definition
    stack = [_Group("", [])]
    for token in (match[0] for match in _TOKEN.finditer(definition)):
        if token in _CLOSED_BY:
            stack.append(_Group(token, []))
        elif token in _CLOSED_BY.values():
            if len(stack) == 1 or _CLOSED_BY[stack[-1].opened] != token:
                return definition  # no definition of PostgreSQL's
            group = stack.pop()
            stack[-1].items += _settled(group)
        else:
            stack[-1].items.append(token)
    return " ".join(_tokens(_settled(stack[0]))) if len(stack) == 1 else definition


def own_name(type_: str) -> str:
    """How PostgreSQL itself calls a type: the name that a constant of it gets."""
    bare = re.sub(r"\(.*?\)|\[\]|(?<=^interval) .*", "", type_)
    return _OWN_NAMES.get(bare) or bare.rpartition(".")[2].strip('"')


def _settled(group: _Group) -> list[_Item]:
    """What stands for a group whose parts are settled already."""
    items = _without_own_names(_casts_within(group.items))
    match items:
        case ["-", str(number)] if group.opened == "(" and (found := _NUMBER.fullmatch(number)):
            return [f"'-{number}'", "::numeric" if found[1] or "e" in number else "::integer"]
    for word in ("AND", "OR"):
        items = _chained(items, word)
    return [_Group(group.opened, items)]


def _casts_within(items: Sequence[_Item]) -> list[_Item]:
    """`(ARRAY[a, b])::t[]` as `ARRAY[(a)::t, (b)::t]`."""
    result: list[_Item] = []
    for item in items:
        match (result[-1:], item):
            case ([_Group("(", ["ARRAY", _Group("[", [_, *_] as elements)])], str(cast)) if _is_of_arrays(cast):
                result[-1:] = ["ARRAY", _Group("[", _each_cast(elements, cast))]
            case _:
                result.append(item)
    return result


def _is_of_arrays(token: str) -> bool:
    return token.startswith("::") and token.endswith("[]")


def _each_cast(elements: Sequence[_Item], cast: str) -> list[_Item]:
    one = cast.removesuffix("[]")
    result: list[_Item] = []
    for number, element in enumerate(_split(elements, ",")):
        result += [","] if number else []
        match element:
            case ["ARRAY", _Group("[", [_, *_] as inner)]:
                result += ["ARRAY", _Group("[", _each_cast(inner, cast))]
            case [_, str(own)] if own == one:
                result += element
            case _:
                result += [_Group("(", list(element)), one]
    return result


def _without_own_names(items: Sequence[_Item]) -> list[_Item]:
    """Constants without the names that their types gave."""
    result: list[_Item] = []
    for item in items:
        match (result[-2:], item):
            case ([named, "AS"], str(name)) if name.strip('"') == _figured(named):
                result.pop()
            case _:
                result.append(item)
    return result


def _figured(item: _Item) -> str | None:
    """The name of a column that ends with this, where its type gave it (FigureColname in parse_target.c)."""
    match item:
        case str(cast) if cast.startswith("::"):
            return own_name(cast[2:])
        case _Group("(", [*_, str(cast), "COLLATE", _]):
            return _figured(cast)
        case _Group("(", ["SELECT", *items]):
            ends = (place for place, word in enumerate(items) if isinstance(word, str) and word in _CLAUSES)
            target = items[: next(ends, len(items))]
            return _figured(target[-1]) if target else None
        case _:
            return None


def _chained(items: list[_Item], word: str) -> list[_Item]:
    """`(a AND b) AND c` as `a AND b AND c`."""
    if not _is_chain(items, word):
        return items
    result: list[_Item] = []
    for number, operand in enumerate(_split(items, word)):
        result += [word] if number else []
        match operand:
            case [_Group("(", inner)] if _is_chain(inner, word):
                result += inner
            case _:
                result += operand
    return result


def _is_chain(items: Sequence[_Item], word: str) -> bool:
    other = "OR" if word == "AND" else "AND"
    return word in items and not any(foreign in items for foreign in (other, "BETWEEN", "SELECT"))


def _split(items: Sequence[_Item], word: str) -> Iterator[list[_Item]]:
    part: list[_Item] = []
    for item in items:
        if item == word:
            yield part
            part = []
        else:
            part.append(item)
    yield part


def _tokens(items: list[_Item]) -> Iterator[str]:
    """All tokens, one after the other; without recursion, for expressions may be nested deeply."""
    left = items[::-1]
    while left:
        match left.pop():
            case str(token):
                yield token
            case _Group("", items):
                left += reversed(items)
            case _Group(opened, items):
                left += [_CLOSED_BY[opened], *reversed(items), opened]
