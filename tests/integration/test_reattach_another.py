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


def test_rows_come_back_to_tables_that_have_lost_their_key_or_got_another(database: Target, tmp_path: Path) -> None:
    keys = """;
    alter table customer drop constraint customer_pkey cascade; alter table customer add key serial primary key;
    alter table coupon drop constraint coupon_pkey;
    """
    with (
        rolled_back(database, tmp_path, *WRITES, before=SHOP, migration=RELAX, found=RELAXED) as (made, _),
        launched_again(made, migration=RELAX + keys) as again,
    ):
        done = attached(made, again)
        assert (done.left, done.rows, done.values) == (0, 2, 1), done.preview
        assert ask(again, "select id, left(name, 1), key from customer where id in (1, 6) order by id") == [
            (1, "y", 1),
            (6, "x", 6),
        ]
        assert ask(again, "select id, code from coupon") == [(1, "a")]


def test_rows_come_back_to_tables_that_got_a_column_which_postgresql_numbers(database: Target, tmp_path: Path) -> None:
    number = "; alter table customer add number int generated always as identity unique"
    with (
        rolled_back(database, tmp_path, *WRITES, before=SHOP, migration=RELAX, found=RELAXED) as (made, _),
        launched_again(made, migration=RELAX + number) as again,
    ):
        done = attached(made, again)
        assert done.left == 0, done.preview
        assert ask(again, "select id, number from customer where id = 6") == [(6, 6)]
