"""Keys that are equal and written otherwise (1.0 and 1.00, `new` and `NEW` in citext): they name one row."""

from __future__ import annotations

from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask, operations

from safepoint.postgres.target import Target

BEFORE = "create extension citext; create table item (id int primary key, name text); insert into item values (1, 'i')"
MIGRATION = """
create table rate (r numeric primary key, what text);
create table word (r citext primary key, what text);
insert into rate values (1.0, 'one'), (2.0, 'two');
insert into word values ('Abc', 'one'), ('Def', 'two');
"""
WRITES = (
    "update rate set r = 1.00, what = 'eins' where r = 1",
    "update rate set what = 'zwei' where r = 2",
    "insert into rate values (3.0, 'three')",
    "update rate set r = 3.00, what = 'drei' where r = 3",
    "insert into rate values (4.0, 'x')",
    "delete from rate where r = 4",
    "insert into rate values (4.00, 'vier')",
    "insert into rate values (5.0, 'x')",
    "update rate set r = 5.00 where r = 5",
    "delete from rate where r = 5",
    "update word set r = 'ABC' where r = 'Abc'",
    "update word set what = 'eins' where r = 'ABC'",
    "delete from word where r = 'Def'",
    "insert into word values ('DEF', 'zwei'), ('new', 'x')",
    "update word set r = 'NEW', what = 'neu' where r = 'new'",
)
RATES = "select r::text, what from rate order by r"
WORDS = "select r::text, what from word order by r"


def test_a_row_whose_key_is_written_otherwise_comes_back_once(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": MIGRATION, "found": operations()}
    with (
        rolled_back(database, tmp_path, *WRITES, **words) as (made, _),  # type: ignore[arg-type]
        launched_again(made, migration=MIGRATION) as again,
    ):
        done = attached(made, again)
        assert done.left == 0
        rates = [("1.00", "eins"), ("2.0", "zwei"), ("3.00", "drei"), ("4.00", "vier")]
        assert ask(again, RATES) == ask(made.live, RATES) == rates
        assert ask(again, WORDS) == ask(made.live, WORDS) == [("ABC", "eins"), ("DEF", "zwei"), ("NEW", "neu")]
