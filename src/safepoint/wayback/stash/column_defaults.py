"""What a column has that nobody has filled in: by PostgreSQL's default, or by Django's, which no column keeps."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Catalogue, Column, Table
from safepoint.wayback.mapping.expressions import literal, written
from safepoint.wayback.replay.statements import run

Defaults = Mapping[str, Mapping[str, str | None]]
"""New table, as Django calls it -> column -> the value that Django gave to rows that were there."""


class ColumnDefaults:
    """The defaults of the tables of one schema."""

    def __init__(self, connection: Connection, catalogue: Catalogue, defaults: Defaults) -> None:
        self._connection, self._catalogue, self._defaults = connection, catalogue, defaults

    def usual(self, table: Table, column: Column) -> list[str]:
        """What a row that nobody has touched since the migration has in this column, as SQL that gives text."""
        found = ["NULL"]
        if column.default is not None and "nextval" not in column.default:
            found.append(written(f"({column.default})::{column.type}"))
        if (django := self._of_django(table, column)) is not None:
            found.append(written(django))
        return found

    def filled(self, table: Table, column: Column) -> str:
        """What a new row gets in a column that nobody fills in, as SQL."""
        default = column.default
        if column.identity and column.sequence is not None:
            default = f"nextval({literal(column.sequence)})"
        return self._of_django(table, column) or f"({default or 'NULL'})::{column.type}"

    def _of_django(self, table: Table, column: Column) -> str | None:
        django = (self._catalogue.of_django(self._defaults, table) or {}).get(column.name)
        if django is None or not is_value(self._connection, django, column.type):
            return None
        return f"{literal(django)}::{column.type}"


def is_value(connection: Connection, text: str, type_: str) -> bool:
    """Whether a type has what Django calls a default: a field of somebody's own may mean another value by it."""
    try:
        with connection.transaction():
            run(connection, f"SELECT {literal(text)}::{type_}")
    except psycopg.DataError:
        return False
    return True
