"""Mappers over odd tables, and ones that fail for some rows: these are put aside, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, ground, operations, reasons, whole

from safepoint.errors import DatabaseError
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.trial.roundtrip import doubtful, round_trip

BEFORE = """
create table item (id int primary key, n int, o int not null);
insert into item select x, x + 10, x + 10 from generate_series(1, 3) x;
"""
CHANGES = operations(("column-removed", "item", "item", "o", None))


@pytest.mark.parametrize(
    "bad",
    [
        "1 / (n - 2)",
        "nullif(n, 2)",
        "(select g from generate_series(1, n) g)",
        "('pg_nope' || n)::regclass::oid::int",
        "current_setting('no.such' || n)::int",
        "to_tsvector(('nope' || n)::regconfig, 'a')::text::int",
        "nextval(('no_sequence' || n)::regclass)::int",
        "raised(n)",
        "raised(-n)",
    ],
)
def test_a_mapper_that_fails_for_a_row_stops_nothing_else(database: Target, tmp_path: Path, bad: str) -> None:
    """Whatever PostgreSQL says of that row: that something is not there, too."""
    own = """
        create function raised(n int) returns int immutable language plpgsql as $$ begin
            if n < 0 then raise exception 'odd' using errcode = 'XY123'; end if;
            raise exception 'no %', n using errcode = 'undefined_table'; end $$;
    """
    mapper = {"item": {"o": f"case when n = 2 then {bad} else n end"}}
    with ground(database, tmp_path, own + BEFORE, "alter table item drop o", CHANGES, mapper) as made:
        made.write("insert into item values (4, 1)", "insert into item values (5, 2)")
        made.write("insert into item values (6, 3)", "update item set n = 33 where id = 3")
        outcome = made.carry()
        assert reasons(outcome) == [("item", "value", "5")], outcome.aside
        assert made.old("select id, o from item order by id") == [(1, 11), (2, 12), (3, 33), (4, 1), (6, 3)]


def test_a_mapper_that_is_wrong_for_all_rows_puts_none_aside(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, "alter table item drop o", CHANGES, {"item": {"o": "now()"}}) as made:
        made.write("insert into item values (4, 1)")
        with pytest.raises(DatabaseError, match="PostgreSQL refused"):
            made.carry()
        assert made.old("select count(*) from item") == [(3,)]


@BOTH
def test_a_table_may_read_itself(database: Target, tmp_path: Path, how: How) -> None:
    before = """
        create table node (id int primary key, parent_id int references node on delete cascade, path text not null);
        insert into node values (1, null, 'a'), (2, 1, 'a/b'), (3, 2, 'a/b/c');
    """
    change = "alter table node add name text; update node set name = right(path, 1); alter table node drop path"
    path = """
        (with recursive up as (select new.parent_id as at, new.name as path
            union all select p.parent_id, p.name || '/' || up.path from up join node p on p.id = up.at)
         select path from up where at is null)
    """
    found = operations(("column-removed", "node", "node", "path", None))
    with ground(database, tmp_path, before, change, found, {"node": {"path": path}}, how) as made:
        assert doubtful(made.mapping(), round_trip(made.twin, made.live, made.mapping())) == ()
        made.write("update node set name = 'x' where id = 1", "insert into node values (4, 3, 'd')")
        whole(made, made.carry())
        assert made.old("select path from node order by id") == [("x",), ("x/b",), ("x/b/c",), ("x/b/c/d",)]
        made.write("update node set id = 9 where id = 4", "delete from node where id = 2")
        whole(made, made.carry())
        assert made.old("select id from node") == [(1,)]


ODD = """
create type tone as enum ('low', 'high');
create table note (tone tone, code numeric, day date, words text not null, "Big" text, extra text,
    primary key (tone, code, day)) partition by range (day);
create table note_a partition of note for values from ('2024-01-01') to ('2025-01-01');
create table note_b partition of note for values from ('2025-01-01') to ('2026-01-01');
alter table note_a alter "Big" set storage external;
insert into note select 'low', n, '2024-05-05', 'w' || n, repeat('b', 4000), '' from generate_series(1, 3) n;
insert into note select 'high', n, '2025-05-05', 'w' || n, repeat('c', 4000), '' from generate_series(1, 3) n;
"""
ODDER = """
create table said (tone tone, code numeric, day date, at int, words text, primary key (tone, code, day, at),
    foreign key (tone, code, day) references note on update cascade on delete cascade) partition by list (at);
create table said_1 partition of said for values in (1);
create table said_2 partition of said default;
insert into said select tone, code, day, 1, words from note;
alter table note drop words;
alter type tone add value 'shrill';
"""
SAID = """
(select string_agg(s.words, ' ' order by s.at) from said s
 where (s.tone, s.code, s.day) = (new.tone, new.code, new.day))
"""


@BOTH
def test_partitions_wide_keys_and_large_values(database: Target, tmp_path: Path, how: How) -> None:
    mappers = {"note": {"words": SAID, "extra": "new.extra"}}
    found = operations(("column-removed", "note", "note", "words", None))
    with ground(database, tmp_path, ODD, ODDER.rpartition("alter type")[0], found, mappers, how) as made:
        assert doubtful(made.mapping(), round_trip(made.twin, made.live, made.mapping())) == ()
        made.write("insert into said values ('low', 1.0, '2024-05-05', 2, 'more'), ('high', 2, '2025-05-05', 3, 'end')")
        made.write("update note set extra = 'x' where tone = 'low' and code = 2")
        made.write("update note set day = '2025-06-06' where tone = 'low' and code = 3")
        made.write("update said_1 set words = 'other' where tone = 'high' and code = 3")
        whole(made, made.carry())
        asked = (
            'select tone::text, code::int, day::text, words, extra, left("Big", 1) from note order by note.tone, code'
        )
        assert made.old(asked) == [
            ("low", 1, "2024-05-05", "w1 more", "", "b"),
            ("low", 2, "2024-05-05", "w2", "x", "b"),
            ("low", 3, "2025-06-06", "w3", "", "b"),
            ("high", 1, "2025-05-05", "w1", "", "c"),
            ("high", 2, "2025-05-05", "w2 end", "", "c"),
            ("high", 3, "2025-05-05", "other", "", "c"),
        ]


def test_keys_of_an_enum_whose_new_value_the_twin_lacks(database: Target, tmp_path: Path) -> None:
    found = operations(("column-removed", "note", "note", "words", None))
    with ground(database, tmp_path, ODD, ODDER, found, {"note": {"words": SAID}}) as made:
        made.write("insert into note values ('shrill', 1, '2024-05-05', 'b', '')")
        made.write("insert into said values ('shrill', 1, '2024-05-05', 1, 'y'), ('low', 1, '2024-05-05', 2, 'z')")
        outcome = made.carry()
        assert outcome.put_aside == 1 and outcome.aside[0].key["tone"] == "shrill"
        assert made.old("select words from note where tone = 'low' and code = 1") == [("w1 z",)]
