"""Rows that exchanged what only one may have come back exchanged."""

from __future__ import annotations

from pathlib import Path

from replay_ground import ask
from test_reattach import attached, launched_again, rolled_back

from safepoint.postgres.target import Target

BEFORE = (
    "create table item (id int primary key, code text); insert into item select n, 'c' from generate_series(1, 5) n"
)
NEXT = """
alter table item add slug text, add twice int generated always as (id * 2) stored;
update item set slug = 's' || id;
alter table item alter slug set not null, add unique (slug);
"""
WRITES = (
    "update item set slug = 'x' where id = 1; update item set slug = 's1' where id = 2; "
    "update item set slug = 's2' where id = 1",
    "update item set slug = 'own', code = 'changed' where id = 3",
)


def test_unique_values_that_rows_exchanged_come_back(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": NEXT}
    with rolled_back(database, tmp_path, *WRITES, **words) as (made, _), launched_again(made, migration=NEXT) as again:
        done = attached(made, again)
        assert (done.left, done.values) == (0, 3)
        assert ask(again, "select id, code, slug, twice from item order by id") == [
            (1, "c", "s2", 2), (2, "c", "s1", 4), (3, "changed", "own", 6), (4, "c", "s4", 8), (5, "c", "s5", 10),
        ]  # fmt: skip


def test_one_that_cannot_come_keeps_none_of_the_others_from_coming(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": NEXT}
    since = ("insert into item values (9, 'new'); update item set id = 90 where id = 5",)
    writes = ("update item set slug = 's9' where id = 1; update item set slug = 'own' where id = 3",)
    with (
        rolled_back(database, tmp_path, *writes, **words) as (made, _),
        launched_again(made, *since, migration=NEXT) as again,
    ):
        done = attached(made, again)
        assert (done.left, done.values) == (1, 1)
        assert ask(again, "select slug from item where id in (1, 3) order by id") == [("s1",), ("own",)]
