"""The next launch has another target than the one that was rolled back: its schema is another one."""

from __future__ import annotations

from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import RELAX, RELAXED, SHOP, ask

from safepoint.postgres.target import Target

WRITES = (
    "insert into customer (name, mail) values (repeat('x', 30), 'new@x')",
    "update customer set name = repeat('y', 30) where id = 1",
    "insert into coupon (code) values ('a')",
)


def test_rows_come_back_to_tables_that_got_a_column_which_postgresql_numbers(database: Target, tmp_path: Path) -> None:
    number = "; alter table customer add number int generated always as identity unique"
    with (
        rolled_back(database, tmp_path, *WRITES, before=SHOP, migration=RELAX, found=RELAXED) as (made, _),
        launched_again(made, migration=RELAX + number) as again,
    ):
        done = attached(made, again)
        assert done.left == 0, done.preview
        assert ask(again, "select id, number from customer where id = 6") == [(6, 6)]
