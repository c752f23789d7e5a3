"""Texts that refer to texts of another collation: PostgreSQL takes the parent's, and so does a replay."""

from __future__ import annotations

from pathlib import Path

import pytest
from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask, ground

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

BEFORE = """
create table place (code varchar(9) collate "C" primary key, chief text collate "POSIX");
alter table place add foreign key (chief) references place;
create table box (id int primary key, code text collate "POSIX" references place, other text references place);
create table slot (id int, code text collate "POSIX", primary key (id, code)) partition by list (id);
create table slot_1 partition of slot for values in (1);
create table slot_2 partition of slot default;
alter table slot_1 add foreign key (code) references place;
insert into place values ('a', null), ('b', 'a'), ('c', 'b');
insert into box values (1, 'a', 'b'), (2, 'b', null), (3, 'c', 'c');
insert into slot values (1, 'a'), (2, 'x');
"""
RELAXED = """
alter table box drop constraint box_other_fkey, drop constraint box_code_fkey;
alter table slot_1 drop constraint slot_1_code_fkey;
alter table place alter code type text collate "C", drop constraint place_chief_fkey;
"""


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_keys_that_refer_to_texts_of_another_collation_are_asked_by_the_parents(
    any_database: Target, tmp_path: Path, how: How
) -> None:
    with ground(any_database, tmp_path, BEFORE, RELAXED, how=how) as made:
        made.write("insert into place values ('d', 'c'), ('e', 'd')", "insert into box values (4, 'd', 'e')")
        made.write("insert into slot values (1, 'd'), (3, 'nowhere')", "update box set code = 'd' where id = 1")
        assert made.carry().put_aside == 0
        made.write("insert into place values ('far too long', null)", "insert into box values (5, 'far too long', 'a')")
        made.write("insert into place values ('g', 'nobody'), ('h', 'g')", "insert into slot values (1, 'h')")
        made.write("delete from place where code = 'e'")
        told = sorted((one.table, *one.key.values()) for one in made.carry().aside)
        assert told == [
            ("public.box", "5"),
            *(("public.place", code) for code in ("e", "far too long", "g", "h")),
            ("public.slot", "1", "h"),
        ]
        assert made.old("select id, code from slot order by 1, 2") == [(1, "a"), (1, "d"), (2, "x"), (3, "nowhere")]


def test_a_stash_is_attached_where_keys_have_another_collation_than_their_parents(
    database: Target, tmp_path: Path
) -> None:
    change = """
    alter table box add home text collate "POSIX" references place;
    create table shelf (code text collate "POSIX" primary key references place, up text collate "C" references shelf);
    """
    writes = ("update box set home = 'b' where id = 2", "insert into shelf values ('a', null), ('b', 'a')")
    with (
        rolled_back(database, tmp_path, *writes, before=BEFORE, migration=change) as (made, _),
        launched_again(made, migration=change) as again,
    ):
        done = attached(made, again)
        assert (done.left, done.values, done.rows) == (0, 1, 2)
        assert ask(again, "select home from box where id = 2") == [("b",)]
