"""New tables that refer to each other come back, whichever is written first."""

from __future__ import annotations

from pathlib import Path

import pytest
from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask

from safepoint.postgres.target import Target

BEFORE = "create table item (id int primary key); insert into item values (1), (2)"
NEXT = """
create table thread (id int primary key, name text unique, last_post int);
create table post (id int primary key, thread_id int not null references thread deferrable initially deferred);
alter table thread add foreign key (last_post) references post deferrable initially deferred;
alter table item add thread_id int references thread;
insert into thread (id, name) values (1, 'first') {seeds};
"""
WRITES = (
    "insert into thread values (2, 'second', 7), (3, 'third', 8); insert into post values (7, 2), (8, 3)",
    "update item set thread_id = id + 1",
)


@pytest.mark.parametrize("taken", [False, True], ids=["all", "one of them cannot come"])
def test_rows_that_refer_to_each_other_come_back(database: Target, tmp_path: Path, taken: bool) -> None:
    words = {"before": BEFORE, "migration": NEXT.format(seeds="")}
    again_ = NEXT.format(seeds=", (9, 'second')" if taken else "")
    with (
        rolled_back(database, tmp_path, *WRITES, **words) as (made, _),
        launched_again(made, migration=again_) as again,
    ):
        done = attached(made, again)
        threads = ask(again, "select id, last_post from thread where id in (2, 3) order by id")
        posts = ask(again, "select id, thread_id from post order by id")
        if not taken:
            assert done.left == 0 and threads == [(2, 7), (3, 8)] and posts == [(7, 2), (8, 3)]
            assert ask(again, "select thread_id from item order by id") == [(2,), (3,)]
        else:
            # Where one cannot be written, none goes before what it refers to: all is told, and nothing dangles.
            assert done.left == 6 and threads == [] and posts == []
