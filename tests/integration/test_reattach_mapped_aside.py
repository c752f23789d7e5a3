"""Changed and deleted rows of tables with mappers, and with ids of content types, that were put aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask, operations
from test_reattach_mapped import BEFORE as WIDE
from test_reattach_mapped import CHANGE, CHANGES, MAPPERS

from safepoint.postgres.target import Target

BEFORE = (
    WIDE.replace("full_name text", "full_name varchar(12)")
    + "insert into person (full_name) values ('Di Ox'), ('Ed Py')"
)
LONG = "update person set first = 'Anna Maria Luisa'"
WORDS: dict[str, Any] = {"before": BEFORE, "migration": CHANGE, "found": CHANGES, "mappers": MAPPERS}


def test_changed_ones_come_back_where_the_mapper_makes_what_it_made(database: Target, tmp_path: Path) -> None:
    writes = (
        f"{LONG} where id = 1",
        f"{LONG}, cost = 2.4, tag = 't', sku = 'z' where id = 2",
        f"{LONG}, cost = 3.1 where id = 3",
        f"{LONG}, sku = 'y' where id = 4",
        f"{LONG}, tag = 'u', cost = 7 where id = 5",
    )
    since = (
        "update person set full_name = 'Cyrus Ma' where id = 3",
        "update person set code = 'newer' where id = 4",
    )
    with (
        rolled_back(database, tmp_path, *writes, **WORDS) as (made, _),
        launched_again(made, *since, migration=CHANGE) as again,
    ):
        done = attached(made, again)
        assert ask(again, "select id, first, last, cost::text, tag, sku from person order by id") == [
            (1, "Anna Maria Luisa", "Lee", "1.00", None, "a"),
            (2, "Anna Maria Luisa", "Ek", "2.40", "t", "z"),
            (3, "Cyrus", "Ma", "3.00", None, "c"),
            (4, "Di", "Ox", None, None, "newer"),
            (5, "Anna Maria Luisa", "Py", "7.00", "u", None),
        ]
        assert {(one.key["id"], one.column) for one in done.preview} == {
            ("3", "first"),
            ("3", "cost"),
            ("4", "first"),
            ("4", "sku"),
        }


def test_deleted_ones_and_what_was_written_with_them(database: Target, tmp_path: Path) -> None:
    writes = (
        [f"{LONG} where id = 1", "delete from person where id = 3", "update person set cost = 9 where id = 4"],
        [f"{LONG} where id = 2", "delete from person where id = 5"],
    )
    with rolled_back(database, tmp_path, *writes, policy="transaction", **WORDS) as (made, _):
        assert ask(made.twin, "select count(*), max(cost) from person") == [(5, 3)]
        with launched_again(made, "update person set full_name = 'Ed Pye' where id = 5", migration=CHANGE) as again:
            done = attached(made, again)
            assert ask(again, "select id, first, cost::int from person order by id") == [
                (1, "Anna Maria Luisa", 1),
                (2, "Bo", 2),
                (4, "Di", 9),
                (5, "Ed", None),
            ]
            assert {one.key["id"]: one.reason for one in done.preview} == {
                "2": "a row of public.person of the same transaction does not come back",
                "5": "the row has newer values, and is not deleted",
            }


TYPED = """
create table django_content_type (id int primary key, app_label text, model text);
insert into django_content_type values (1, 'shop', 'entry'), (2, 'shop', 'account');
create table remark (id int primary key, about_id int references django_content_type, words varchar(5));
insert into remark values (1, 1, 'a'), (2, 2, 'b'), (3, 1, 'c'), (4, 2, 'd');
"""
RENUMBERED = """
alter table remark alter words type text, drop constraint remark_about_id_fkey;
update django_content_type set id = id + {by}; update remark set about_id = about_id + {by};
insert into django_content_type values (99, 'shop', 'later');
alter table remark add foreign key (about_id) references django_content_type
"""


def test_ids_of_content_types_are_compared_by_what_they_name(database: Target, tmp_path: Path) -> None:
    writes = (
        ["update remark set words = 'too long', about_id = 12 where id = 1", "delete from remark where id = 2"],
        ["update remark set words = 'too long' where id = 3"],
        ["update remark set words = 'too long', about_id = 11 where id = 4"],
    )
    words = {"before": TYPED, "migration": RENUMBERED.format(by=10), "found": operations()}
    with rolled_back(database, tmp_path, *writes, policy="transaction", **words) as (made, _):  # type: ignore[arg-type]
        since = "update remark set about_id = 2 where id = 3; update remark set about_id = 1 where id = 4"
        with launched_again(made, since, migration=RENUMBERED.format(by=20)) as again:
            done = attached(made, again)
            assert ask(again, "select * from remark order by id") == [
                (1, 22, "too long"),
                (3, 22, "too long"),
                (4, 21, "too long"),
            ]
            assert done.left == 0
