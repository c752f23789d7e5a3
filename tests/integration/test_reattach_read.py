"""What mappers read has gone into old columns: the next migration makes its rows anew, and the stash has them, too."""

from __future__ import annotations

from pathlib import Path

import pytest
from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask, operations

from safepoint.postgres.target import Target
from safepoint.wayback.stash.whole_rows import ANEW, NOT_ANEW

BEFORE = """
create table item (id int primary key, code text not null, price numeric(8, 2) default 0);
insert into item select n, 'i' || n, n from generate_series(1, 4) n;
"""
CHANGE = """
create table price (id serial {key}, item_id int not null references item, amount numeric(12, 4) not null, why text);
create table remark (id int primary key, price_id int, words text);
{fill}
alter table item drop price;
"""
FILL = "insert into price (item_id, amount) select id, price from item order by id;"
CHANGES = operations(("column-removed", "item", "item", "price", None))
MAPPERS = {"item": {"price": "(select coalesce(sum(p.amount), 0) from price p where p.item_id = new.id)"}}
WRITES = (
    "insert into price (item_id, amount, why) values (2, 0.5, 'more')",
    "update price set amount = 9, why = 'dear' where id = 1",
    "insert into item values (5, 'i5')",
    "insert into price (item_id, amount) values (5, 5)",
    "insert into remark values (1, 1, 'kept')",
)


@pytest.mark.parametrize("emptied", [False, True])
def test_what_mappers_gave_the_old_release_does_not_come_twice(database: Target, tmp_path: Path, emptied: bool) -> None:
    change = CHANGE.format(key="primary key", fill=FILL)
    words = {"before": BEFORE, "migration": change, "found": CHANGES, "mappers": MAPPERS}
    writes = ["truncate price", "insert into price (item_id, amount) values (2, 20), (1, 10)"] if emptied else WRITES
    with (
        rolled_back(database, tmp_path, *writes, **words) as (made, _),  # type: ignore[arg-type]
        launched_again(made, "update item set price = 33 where id = 3", migration=change) as again,
    ):
        done = attached(made, again)
        sums = ask(again, "select item_id, sum(amount)::float from price group by 1 order by 1")
        if emptied:
            assert sums == [(1, 10.0), (2, 20.0), (3, 33.0), (4, 0.0)]
        else:
            assert sums == [(1, 9.0), (2, 2.5), (3, 33.0), (4, 4.0), (5, 5.0)]
            assert ask(again, "select words from remark") == [("kept",)]
        assert {one.table for one in done.preview} == {"price"} and done.left == 2 + (not emptied)


def test_without_a_key_neither(database: Target, tmp_path: Path) -> None:
    change = CHANGE.format(key="", fill=FILL)
    words = {"before": BEFORE, "migration": change, "found": CHANGES, "mappers": MAPPERS}
    with (
        rolled_back(database, tmp_path, WRITES[0], **words) as (made, stash),  # type: ignore[arg-type]
        launched_again(made, migration=change) as again,
    ):
        done = attached(made, again)
        assert ask(again, "select sum(amount)::float from price where item_id = 2") == [(2.5,)]
        assert done.left == 1
        assert stash.count == 1  # of the migration's own the sum tells


def test_a_table_that_the_migration_leaves_empty_gets_its_rows(database: Target, tmp_path: Path) -> None:
    change = CHANGE.format(key="primary key", fill="")
    words = {"before": BEFORE, "migration": change, "found": CHANGES, "mappers": MAPPERS}
    with (
        rolled_back(database, tmp_path, WRITES[0], **words) as (made, _),  # type: ignore[arg-type]
        launched_again(made, migration=change) as again,
    ):
        done = attached(made, again)
        assert ask(again, "select item_id, amount::float, why from price") == [(2, 0.5, "more")]
        assert done.left == 0


@pytest.mark.parametrize("rule", ["", "unique (item_id, amount)"])
def test_what_belongs_to_a_row_that_was_put_aside_comes_back_with_it(
    database: Target, tmp_path: Path, rule: str
) -> None:
    """The old release never had that row: so the migration has made nothing of it."""
    change = CHANGE.format(key="primary key", fill=FILL) + "alter table item alter code type text;"
    change += f"alter table price add {rule};" if rule else ""
    before = BEFORE.replace("code text", "code varchar(3)")
    words = {"before": before, "migration": change, "found": CHANGES, "mappers": MAPPERS}
    writes = (
        "insert into item values (6, 'far too long'), (7, 'as well')",
        "insert into price (item_id, amount, why) values (6, 7, 'dear'), (6, 8, 'dearer'), (7, 1, 'cheap')",
        "insert into remark values (1, 6, 'of the dearer one')",
    )
    again = "insert into item values (5, 'i5', 50)", "insert into item values (7, 'i7', 70)"
    with (
        rolled_back(database, tmp_path, *writes, **words) as (made, _),  # type: ignore[arg-type]
        launched_again(made, *again, migration=change) as launched,
    ):
        done = attached(made, launched)
        assert ask(launched, "select id, code from item where id > 5 order by id") == [(6, "far too long"), (7, "i7")]
        found = ask(launched, "select item_id, amount::float, why from price where item_id > 4 order by 1, 2")
        assert found == [(5, 50.0, None), (6, 7.0, "dear"), (6, 8.0, "dearer"), (7, 70.0, None)]
        assert sorted((one.table, one.reason) for one in done.preview) == [
            ("item", "a row of this key is there, with other values"),
            ("price", NOT_ANEW if rule else ANEW),
        ]
