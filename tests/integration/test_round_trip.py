"""The round trip by sums of hashes: what differs is told row by row, and what sums cannot tell goes that way too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from replay_ground import RELAX, RELAXED, SHOP, Ground, ground, operations
from written_ground import BEFORE, MIGRATION, OPERATIONS

from safepoint.backup import fingerprint
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.trial.roundtrip import TableTrip, round_trip

MANY = """
create table measure (
    id int primary key, small smallint, price numeric(10, 4), share float8, day date, at timestamptz, ref uuid,
    on_sale boolean, code char(6), note varchar(40), doc jsonb, raw bytea, tags text[], length interval, gone int);
insert into measure select n, n, n / 7.0, n / 3.0, date '2026-01-01' + n, timestamptz '2026-01-01' + n * interval '1 s',
    md5(n::text)::uuid, n % 2 = 0, 'c' || n, nullif('n' || n, 'n3'), jsonb_build_object('n', n), sha256(n::text::bytea),
    array['a', null, n::text], n * interval '1 min', n from generate_series(1, 50) n;
insert into measure (id) values (99);
"""
MANY_MIGRATED = """
alter table measure alter small type bigint, alter price type numeric(10, 2), alter day type timestamp,
    alter note type text, drop gone, add fresh text default 'f';
alter table measure rename at to booked_at;
"""
MANY_DONE = operations(
    ("column-removed", "measure", "measure", "gone", None),
    ("column-renamed", "measure", "measure", "at", "booked_at"),
    *(("column-altered", "measure", "measure", name, None) for name in ("small", "price", "day", "note")),
)


def tables(made: Ground) -> dict[str, TableTrip]:
    found = round_trip(made.twin, made.live, made.mapping()).tables
    return {one.table.removeprefix("public."): one for one in found}


def how(made: Ground) -> dict[str, str]:
    """By table how it was compared; all are whole."""
    found = tables(made)
    assert all(one.whole for one in found.values()), found
    return {name: one.by for name, one in found.items()}


def test_tables_of_every_kind_are_compared_by_sums_and_what_these_cannot_tell_row_by_row(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, BEFORE, MIGRATION, OPERATIONS) as made:
        # A generated column is computed by the twin alone.
        assert how(made) == {"item": "rows", "line": "sums", "event": "sums", "part": "sums"}


def test_columns_of_every_type_are_compared_by_sums(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, MANY, MANY_MIGRATED, MANY_DONE) as made:
        assert how(made) == {"measure": "sums"} and tables(made)["measure"].rows == 51


# Table, what is done to the twin, then: missing, extra, columns.
DIFFERENT = {
    "a value of a partition's row": ("part", "update part set note = '{\"n\": 1.00}' where id = 3", 0, 0, {"note": 1}),
    "a NULL for an array": ("line", "update line set tags = null where item_id = 3 and no = 1", 0, 0, {"tags": 1}),
    "two rows swapped": (
        "line",
        "update line l set tags = o.tags from line o where o.no = l.no and l.item_id + o.item_id = 5 and l.no = 1",
        0,
        0,
        {"tags": 4},
    ),
    "a row deleted from a partition": ("part", "delete from part where id = 4", 0, 1, {}),
    "a row left": ("part", "insert into part values (77, 'b', null)", 1, 0, {}),
    "one row gone and another there": ("line", "update line set no = 9 where item_id = 1 and no = 1", 1, 1, {}),
    "a row without a key doubled": ("event", "insert into event select * from event limit 1", 1, 0, {}),
    "a row without a key changed": ("event", "update event set size = 7 where what = 'e1'", 3, 3, {}),
}


@pytest.mark.parametrize("case", DIFFERENT.values(), ids=[name.replace(" ", "-") for name in DIFFERENT])
def test_what_is_not_as_it_was_is_told_by_its_rows(database: Target, tmp_path: Path, case: Any) -> None:
    table, statement, missing, extra, columns = case
    with ground(database, tmp_path, BEFORE, MIGRATION, OPERATIONS) as made:
        made.old(f"with done as ({statement} returning 1) select count(*) from done")
        found = tables(made)
        wrong = [one for one in found.values() if not one.whole]
        assert [(one.table, one.missing, one.extra, one.columns, one.by) for one in wrong] == [
            (f"public.{table}", missing, extra, columns, "rows")
        ]


@pytest.mark.parametrize(
    ("column", "value", "differs"),
    [
        ("small", "small + 1", True),
        ("price", "price + 0.01", True),
        # The migration rounded it: the twin's own value stays as long as the new one says the same.
        ("price", "price + 0.0001", False),
        ("day", "day + 1", True),
        ("on_sale", "null", True),
        ("share", "share + 1e-12", True),
        ("code", "'c9 x'", True),
        ("note", "''", True),
        ("length", "'60 s'", True),
        # Removed by the migration: the twin's own value comes back, whatever it is.
        ("gone", "gone + 1", False),
    ],
)
def test_one_value_of_any_type_shows(database: Target, tmp_path: Path, column: str, value: str, differs: bool) -> None:
    with ground(database, tmp_path, MANY, MANY_MIGRATED, MANY_DONE) as made:
        made.old(f"update measure set {column} = {value} where id = 6 returning id")
        found = tables(made)["measure"]
        assert (dict(found.columns), found.by) == (({column: 1}, "rows") if differs else ({}, "sums"))


MAPPED = """
create function half(n int) returns int language sql immutable as 'select n / 2';
create type mood as enum ('sad', 'ok');
create table thing (id int primary key, size int, name varchar(5), mood mood);
create table other (id int primary key, size int, name varchar(5));
insert into thing select n, n, 'n' || n, 'ok' from generate_series(1, 9) n;
insert into other select n, n, 'n' || n from generate_series(1, 9) n;
"""
MAPPED_MIGRATED = """
alter table other drop size, add twice int;
update other set twice = id * 2;
create or replace function half(n int) returns int language sql immutable as 'select n / 3';
"""


@pytest.mark.parametrize(
    ("mapper", "by", "failed"),
    [
        ("twice / 2", "sums", None),
        ("twice / 2.0", "sums", None),
        # What it needs may be another thing in the twin, or is only there: it is computed there.
        ("half(twice)", "rows", None),
        ("(select t.size from thing t where t.id = new.id)", "rows", None),
        ("case when old.ctid is null then 0 else twice / 2 end", "rows", None),
        ("length(to_jsonb(new)::text) * 0 + twice / 2", "rows", None),
        ("new.twice / 2", "sums", None),
        ("(twice / 2)::text", "rows", 'column "size" is of type integer but expression is of type text'),
        ("nobody(twice)", "rows", "size: function nobody(integer) does not exist"),
        ("twice / (id - 5)", "rows", "division by zero"),
    ],
)
def test_a_mapper_is_computed_beside_the_rows_where_it_means_the_same_there(
    database: Target, tmp_path: Path, mapper: str, by: str, failed: str | None
) -> None:
    with ground(database, tmp_path, MAPPED, MAPPED_MIGRATED, None, {"other": {"size": mapper}}) as made:
        found = tables(made)
        assert (found["other"].by, found["other"].failed) == (by, failed), found["other"]
        assert found["other"].whole is (failed is None)
        # A type of the application's own may have other values in the twin.
        assert found["thing"].whole and found["thing"].by == "rows"


def test_a_text_that_is_too_long_for_the_old_column_is_refused_and_not_cut(database: Target, tmp_path: Path) -> None:
    mapper = {"other": {"size": "twice / 2", "name": "name || repeat('x', 5)"}}
    with ground(database, tmp_path, MAPPED, MAPPED_MIGRATED, None, mapper) as made:
        made.old("update other set name = left(name || 'xxxxx', 5) returning id")
        assert tables(made)["other"].failed == "value too long for type character varying(5)"


def test_a_migrated_value_that_says_no_longer_the_same_is_found_by_its_column(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        assert set(how(made).values()) == {"sums"}
        made.write("update purchase set total = total + 0.5 where id = 2")
        found = tables(made)["purchase"]
        assert (dict(found.columns), found.sample[0].expected, found.sample[0].found) == ({"total": 1}, "2.00", "2.50")


CAST = """
create type mood as enum ('sad', 'glad', 'mad');
create function said(mood) returns text language sql immutable as $$ select 'a mood' $$;
create cast (mood as text) with function said(mood) as assignment;
create table person (id int primary key, feels mood not null);
create table keyless (feels mood);
insert into person select n, 'sad' from generate_series(1, 5) n;
insert into keyless values ('sad'), ('glad');
"""
CAST_MIGRATED = """
update person set feels = 'mad' where id = 2;
update keyless set feels = 'mad' where feels = 'sad';
"""


def test_a_cast_to_text_of_the_applications_own_hides_no_value(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, CAST, CAST_MIGRATED) as made:
        found = tables(made)
        person, keyless = found["person"], found["keyless"]
    assert (dict(person.columns), person.sample[0].expected, person.sample[0].found) == ({"feels": 1}, "sad", "mad")
    assert (keyless.missing, keyless.extra) == (1, 1)


def test_what_a_fingerprint_knows_of_the_old_table_is_not_read_again(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, MIGRATION, OPERATIONS) as made:
        known = {name: (one.rows, one.content) for name, one in fingerprint.take(made.twin).tables.items()}
        mapping = made.mapping()
        first = round_trip(made.twin, made.live, mapping).tables
        assert round_trip(made.twin, made.live, mapping, known=known).tables == first
        # Another table than it was: only who reads it can see that.
        with connect(made.twin) as connection:
            connection.execute(b"delete from event")
        by = {one.table: one.by for one in round_trip(made.twin, made.live, mapping, known=known).tables}
        assert by["public.event"] == "sums"
        assert {one.table: one.by for one in round_trip(made.twin, made.live, mapping).tables}["public.event"] == "rows"
        # Where it does not fit, each row is compared as without it.
        wrong = {name: (rows, content[::-1]) for name, (rows, content) in known.items()}
        with connect(made.twin) as connection:
            connection.execute(b"delete from part where id = (select max(id) from part)")
        told = {one.table: one for one in round_trip(made.twin, made.live, mapping, known=wrong).tables}
        assert told["public.part"].by == "rows" and told["public.part"].extra == 1


def test_what_it_does_itself_is_in_no_log_of_definitions(database: Target, tmp_path: Path) -> None:
    before = """
    create table t (id int primary key, v text); insert into t values (1, 'a');
    create table ddl_log (id serial primary key, tag text);
    create function log_ddl() returns event_trigger language plpgsql as
        $$ begin insert into public.ddl_log (tag) values (tg_tag); end $$;
    create event trigger log_ddl on ddl_command_end execute function log_ddl();
    """
    with ground(database, tmp_path, before, "") as made:
        trip = {one.table: one for one in round_trip(made.twin, made.live, made.mapping()).tables}
        assert trip["public.t"].whole
        # What arming the capture did to the live database stands in its log, and none of our own in the twin's.
        logged = len(made.new("select from ddl_log"))
        assert logged and (trip["public.ddl_log"].missing, trip["public.ddl_log"].extra) == (0, logged)
