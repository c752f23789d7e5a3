"""Rows because of which undoing a migration was refused: PostgreSQL says what, here they are found.

Its error names a table, a column, a constraint or one key, each where it has it; of a value that does not fit into a
type it names nothing, so that the statement is read. Whatever cannot be found again this way is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from safepoint.django.pending import Refusal
from safepoint.postgres.connections import Connection
from safepoint.postgres.masking import LONG, masked
from safepoint.rehearsal.catalogue import Column, Picture, Table
from safepoint.rehearsal.examples import MOST, PATIENCE, Example, Value
from safepoint.rehearsal.prints import of

_NAME: Final = r'(?:"(?:[^"]|"")+"|\w+)'
_TABLE = re.compile(
    rf"\s*(?:ALTER\s+TABLE(?:\s+ONLY)?|UPDATE(?:\s+ONLY)?|INSERT\s+INTO|DELETE\s+FROM|CREATE\s.*?INDEX\s.*?\bON)\s+"
    rf"(?:(?P<schema>{_NAME})\.)?(?P<table>{_NAME})",
    re.IGNORECASE | re.DOTALL,
)
_RETYPE = re.compile(
    rf"ALTER\s+COLUMN\s+(?P<column>{_NAME})\s+(?:SET\s+DATA\s+)?TYPE\s+(?P<type>.+?)(?:\s+USING\s+(?P<using>.+))?\s*;?\s*$",
    re.IGNORECASE | re.DOTALL,
)
_CHECK = re.compile(r"\bCHECK\s*(?P<rule>\(.+\))", re.IGNORECASE | re.DOTALL)
_KEY = re.compile(r"Key \((?P<columns>.+?)\)=\((?P<values>.*)\) (?:is |already |conflicts )", re.DOTALL)

# An assignment in PL/pgSQL converts as the change of a column's type does: it does not cut a text as a cast would.
_FITS: Final = """
    create or replace function pg_temp.safepoint_fits(given {old}) returns boolean language plpgsql as {body}
"""
_BODY: Final = """
declare {name} {old} := given; kept {new};
begin kept := ({using}); return true; exception when others then return false; end
"""


@dataclass(frozen=True)
class _Blame:
    """Which rows of a table: those of a clause, what is shown of them, and what is said of it."""

    columns: tuple[Column, ...]
    clause: sql.Composable
    said: str


def refused_table(picture: Picture, refusal: Refusal) -> Table | None:
    """The table at which it stopped: as the error names it, or else the statement. Pure."""
    found = _TABLE.match(refusal.statement)
    schema, name = refusal.schema, refusal.table
    if name is None and found is not None:
        schema, name = _plain(found["schema"]), _plain(found["table"])
    known = [one for one in picture.tables.values() if one.relation == name and schema in (None, one.schema)]
    return min(known, key=lambda one: one.schema != "public", default=None)


def refused_rows(connection: Connection, table: Table, refusal: Refusal) -> tuple[Example, ...]:
    """Some of the rows that cannot go back; nothing where none can be blamed.

    Args:
        connection: to the database in which it was tried, as the failure left it.
    """
    try:
        connection.execute(PATIENCE)
        blame = _blame(connection, table, refusal)
        return () if blame is None else _rows(connection, table, blame)
    except psycopg.errors.QueryCanceled:
        return (Example("", "no row is shown: looking for one took longer than a minute"),)
    except psycopg.Error:
        return ()  # what stands in the statement is not understood here, or means something else by now


def _blame(connection: Connection, table: Table, refusal: Refusal) -> _Blame | None:
    columns = {column.name: column for column in table.columns}
    retype, check = _RETYPE.search(refusal.statement), _CHECK.search(refusal.statement)
    key = _KEY.match(refusal.detail or "")
    if refusal.sqlstate == "23502" and refusal.column in columns:
        column = columns[refusal.column]
        return _Blame((column,), sql.SQL("{} is not distinct from null").format(of(column.name)), "must not be NULL")
    if refusal.sqlstate == "23514" and check is not None:
        rule = sql.SQL("not {}").format(sql.SQL(check["rule"]))
        return _Blame(_named(table.columns, check["rule"]), rule, f"breaks {refusal.constraint}")
    if refusal.sqlstate.startswith("23") and key is not None:
        return _of_key(columns, key, refusal)
    if retype is not None and (name := _plain(retype["column"])) in columns:
        return _of_type(connection, columns[name], retype["type"], retype["using"])
    return None


def _named(columns: Sequence[Column], rule: str) -> tuple[Column, ...]:
    """The columns of which a rule speaks."""
    return tuple(one for one in columns if re.search(rf"(?<![\w'])\"?{re.escape(one.name)}\b", rule))


def _of_key(columns: dict[str, Column], key: re.Match[str], refusal: Refusal) -> _Blame | None:
    names = [_plain(name) for name in key["columns"].split(", ")]
    found = tuple(columns[name] for name in names if name in columns)
    if len(found) != len(names):
        return None  # an expression
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(of(column.name)) for column in found)
    clause = sql.SQL("concat_ws(', ', {}) = {}").format(texts, sql.Literal(key["values"]))
    said = "refers to no row" if refusal.sqlstate == "23503" else "is there more than once"
    return _Blame(found, clause, said)


def _of_type(connection: Connection, column: Column, new: str, using: str | None) -> _Blame:
    name = sql.Identifier(column.name)
    body = sql.SQL(_BODY).format(
        name=name, old=sql.SQL(column.type), new=sql.SQL(new), using=sql.SQL(using) if using else name
    )
    text = body.as_string(connection)
    connection.execute(sql.SQL(_FITS).format(old=sql.SQL(column.type), body=sql.Literal(text)))
    clause = sql.SQL("not pg_temp.safepoint_fits({})").format(of(column.name))
    return _Blame((column,), clause, f"does not fit into {' '.join(new.split())}")


def _rows(connection: Connection, table: Table, blame: _Blame) -> tuple[Example, ...]:
    keys = table.key_columns
    text = sql.SQL("left({}::text, {})")
    shown = [text.format(of(one.name), sql.Literal(LONG + 1)) for one in (*keys, *blame.columns)]
    query = sql.SQL("select {} from only {} as t where {} limit {}").format(
        sql.SQL(", ").join(shown) if shown else sql.SQL("1"),
        sql.Identifier(table.schema, table.relation),
        blame.clause,
        sql.Literal(MOST),
    )
    found = []
    for row in connection.execute(query):
        key = ", ".join(
            f"{one.name}={masked(one.name, text, table.relation)}" for one, text in zip(keys, row, strict=False)
        )
        texts = zip(blame.columns, row[len(keys) :], strict=True)
        values = tuple(Value(one.name, masked(one.name, text, table.relation), blame.said) for one, text in texts)
        found.append(Example(key, "cannot go back", values))
    return tuple(found)


def _plain(name: str | None) -> str | None:
    """An identifier as the catalogue has it."""
    if name is None:
        return None
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
