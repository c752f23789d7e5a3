"""Rows that cannot go back, found again by what PostgreSQL says when it refuses them."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from safepoint.django.pending import Refusal
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.rehearsal.catalogue import read_picture
from safepoint.rehearsal.examples import Example
from safepoint.rehearsal.refused import refused_rows, refused_table

TABLES = """
    create table shelf (id int primary key);
    insert into shelf select generate_series(1, 5);
    create table "Item" (
        row int, place int, name text, price numeric, count bigint, token text, shelf_id int, primary key (row, place)
    );
    insert into "Item" select 1, n, 'item ' || n, n, n, 'word', 1 + n % 5 from generate_series(1, 50) n;
    update "Item" set name = 'a name that is much longer than ten', token = repeat('secret', 9) where place = 40;
    update "Item" set name = null where place = 41;
    update "Item" set price = 123456.5 where place = 42;
    update "Item" set count = 3000000000 where place = 43;
    update "Item" set shelf_id = 99 where place = 44;
    update "Item" set name = 'item 7' where place = 45;
    create table bare (what text);
    insert into bare values ('short'), ('a longer one');
"""
# What is tried, the table, and each example's key, column, value and what is said of it.
CASES = {
    'ALTER TABLE "Item" ALTER COLUMN "name" TYPE varchar(10)': [
        ("row=1, place=40", "name", "a name that is much longer than ten", "does not fit into varchar(10)")
    ],
    'ALTER TABLE public."Item" ALTER COLUMN "price" TYPE numeric(5, 2) USING "price"::numeric(5, 2)': [
        ("row=1, place=42", "price", "123456.5", "does not fit into numeric(5, 2)")
    ],
    'ALTER TABLE "Item" ALTER COLUMN "count" TYPE integer USING "count"::integer': [
        ("row=1, place=43", "count", "3000000000", "does not fit into integer")
    ],
    'ALTER TABLE "Item" ALTER COLUMN "token" TYPE varchar(10)': [
        ("row=1, place=40", "token", "***", "does not fit into varchar(10)")
    ],
    'ALTER TABLE "Item" ALTER COLUMN "name" SET NOT NULL': [("row=1, place=41", "name", "NULL", "must not be NULL")],
    'ALTER TABLE "Item" ADD CONSTRAINT "cheap" CHECK ("price" < 1000)': [
        ("row=1, place=42", "price", "123456.5", "breaks cheap")
    ],
    'CREATE UNIQUE INDEX "once" ON "Item" ("name")': [
        ("row=1, place=7", "name", "item 7", "is there more than once"),
        ("row=1, place=45", "name", "item 7", "is there more than once"),
    ],
    'ALTER TABLE "Item" ADD CONSTRAINT "on_shelf" FOREIGN KEY ("shelf_id") REFERENCES "shelf" ("id")': [
        ("row=1, place=44", "shelf_id", "99", "refers to no row")
    ],
    "alter table bare alter column what type varchar(8);": [
        ("", "what", "a longer one", "does not fit into varchar(8)")
    ],
    # Nobody can be blamed: the rows that a statement made are gone with it, and an expression is no column.
    'UPDATE "Item" SET "row" = NULL': [],
    'CREATE UNIQUE INDEX "once" ON "Item" (lower("name"))': [],
}


@pytest.fixture
def shelves(database: Target) -> Iterator[Connection]:
    with connect(database) as connection:
        for statement in TABLES.split(";"):
            connection.execute(statement.encode())
        yield connection


def refused(connection: Connection, statement: str) -> Refusal:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statement.encode())
    diag = caught.value.diag
    names = (diag.schema_name, diag.table_name, diag.column_name, diag.constraint_name, diag.message_detail)
    return Refusal(diag.sqlstate or "", statement, *names)


def test_rows_that_a_statement_stumbled_over_are_shown_by_key_and_column(shelves: Connection) -> None:
    for statement, expected in CASES.items():
        refusal = refused(shelves, statement)
        table = refused_table(read_picture(shelves), refusal)
        assert table is not None and table.relation == ("bare" if "bare" in statement else "Item"), statement
        found = sorted(refused_rows(shelves, table, refusal), key=lambda one: one.values[0].before)
        told = [(one.key, *(text for value in one.values for text in _words(value))) for one in found]
        assert sorted(told) == sorted(expected), statement
        assert all(one.fate == "cannot go back" for one in found)


def _words(value: object) -> tuple[str, str, str]:
    return value.column, value.before, value.after  # type: ignore[attr-defined]


def test_what_is_not_found_again_is_not_shown(shelves: Connection) -> None:
    picture = read_picture(shelves)
    assert refused_table(picture, Refusal("22001", 'ALTER TABLE "gone" ALTER COLUMN "a" TYPE int')) is None
    assert refused_table(picture, Refusal("P0001", "select raised()")) is None
    shelf = refused_table(picture, Refusal("22001", "ALTER TABLE shelf ALTER COLUMN id TYPE no_such_type"))
    assert shelf is not None
    refusal = Refusal("22001", "ALTER TABLE shelf ALTER COLUMN id TYPE no_such_type")
    assert refused_rows(shelves, shelf, refusal) == tuple[Example, ...]()
