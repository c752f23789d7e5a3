"""Transactions that were put aside whole come back with the next launch, each of them whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from launched_twice import attached, keep, launched_again, rolled_back
from replay_ground import RELAX, RELAXED, SHOP, Ground, ask, ground, lines

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm
from safepoint.wayback.replay import records
from safepoint.wayback.replay.replay import replay
from safepoint.wayback.stash.stash import give_back, take

LONG = "x" * 30
SHOPPED = {"before": SHOP, "migration": RELAX, "found": RELAXED}
FIRST = (
    f"insert into customer (name, mail) values ('{LONG}', 'new@x')",
    "insert into purchase (customer_id, total, note) values (6, 1, 'gift')",
    "update customer set mail = 'first@x' where id = 1",
    "delete from purchase_line where id = 2",
    "insert into coupon (code) values ('of the first')",
)
THEN = "update customer set mail = 'then@x' where id = 1", "update purchase set note = 'then' where id = 3"
OTHER = f"update customer set name = '{LONG}' where id = 4", "update purchase set total = 44 where id = 4"


def test_they_come_back_with_all_that_they_did(database: Target, tmp_path: Path) -> None:
    with rolled_back(database, tmp_path, [*FIRST], [*THEN], [*OTHER], policy="transaction", **SHOPPED) as (made, stash):
        assert ask(made.twin, "select count(*), max(mail) from customer") == [(5, "c5@x")]
        assert stash.tables["public.coupon"].rows == 1
        assert all(one["kept"] for one in put_aside(made))
        with launched_again(made, "update customer set name = 'newer' where id = 3", migration=RELAX) as again:
            done = attached(made, again)
            assert done.left == 0, done.preview
            assert ask(again, "select id, name, mail from customer where id <> 5 order by id") == [
                (1, "c1", "then@x"),
                (2, "c2", "c2@x"),
                (3, "newer", "c3@x"),
                (4, LONG, "c4@x"),
                (6, LONG, "new@x"),
            ]
            assert ask(again, "select id, total::int, note from purchase where id > 2 order by id") == [
                (3, 3, "then"),
                (4, 44, "n"),
                (5, 5, "n"),
                (6, 1, "gift"),
            ]
            assert ask(again, "select id from purchase_line order by id") == [(1,), (3,), (4,), (5,)]
            assert ask(again, "select code from coupon") == [("of the first",)]


def test_one_of_which_a_part_cannot_come_back_does_not_and_takes_what_builds_on_it_along(
    database: Target, tmp_path: Path
) -> None:
    with rolled_back(database, tmp_path, [*FIRST], [*THEN], [*OTHER], policy="transaction", **SHOPPED) as (made, _):
        since = "update purchase_line set what = 'newer' where id = 2"
        with launched_again(made, since, migration=RELAX) as again:
            done = attached(made, again)
            assert ask(again, "select id, name, mail from customer order by id") == [
                (1, "c1", "c1@x"),
                (2, "c2", "c2@x"),
                (3, "c3", "c3@x"),
                (4, LONG, "c4@x"),
                (5, "c5", "c5@x"),
            ]
            assert ask(again, "select id, total::int, note from purchase where id > 2 order by id") == [
                (3, 3, "n"),
                (4, 44, "n"),
                (5, 5, "n"),
            ]
            assert ask(again, "select count(*) from purchase_line") == [(5,)]
            assert ask(again, "select count(*) from coupon") == [(0,)]
            told = {(one.table, one.key["id"]): one.reason for one in done.preview}
            same = "a row of public.purchase_line of the same transaction does not come back"
            assert told == {
                ("customer", "1"): same,
                ("customer", "6"): same,
                ("purchase", "3"): same,
                ("purchase", "6"): same,
                ("purchase_line", "2"): "the row has newer values, and is not deleted",
                ("coupon", "1"): same,
            }


def test_one_of_which_a_part_can_be_found_by_nobody_is_not_kept(database: Target, tmp_path: Path) -> None:
    before = SHOP + "create table log (what text); insert into log values ('a')"
    with ground(database, tmp_path, before, RELAX, RELAXED) as made:
        made.write(*FIRST, "update log set what = 'b'")
        made.write(*THEN)
        made.write(*OTHER)
        made.write("truncate log", f"update customer set name = '{LONG}' where id = 5")
        made.write("update purchase_line set id = 33 where id = 3", f"update customer set name = '{LONG}' where id = 2")
        outcome = made.carry(policy="transaction")
        assert (outcome.not_carried, outcome.stashed) == (3, 2)
        assert {(one["relation"], one["key"]["id"]) for one in lines(outcome, "stash")} == {
            ("public.customer", "4"),
            ("public.purchase", "4"),
            ("public.purchase_line", "3"),
            ("public.customer", "2"),
        }
        kept = {one["xid"]: one["kept"] for one in lines(outcome, "put_aside")}
        assert list(kept.values()) == [False, False, True, False, True]


def test_what_the_next_launch_does_to_rows_that_it_had_again_is_kept_too(database: Target, tmp_path: Path) -> None:
    """Its twin never had them, but the stash that they come from waits again with what is done to them since."""
    with rolled_back(database, tmp_path, [*FIRST], policy="transaction", **SHOPPED) as (made, first):
        with launched_again(made, migration=RELAX) as again:
            assert attached(made, again).left == 0
            take(first, "shop-2.1")
            second = Ground(again, made.twin, tmp_path / "second", RELAXED, {}, arm(again, "shop-2.1"))
            second.write(
                "update customer set mail = 'later@x' where id = 6", "update customer set mail = '' where id = 3"
            )
            second.drain()
            outcome = replay(
                *(made.twin, again, second.spool, second.mapping()),
                launch_id="shop-2.1",
                out=second.folder / "out",
                policy="transaction",
                waiting=[first.rows],
            )
            disarm(again, second.facts)
            assert (outcome.stashed, outcome.not_carried) == (1, 0)
            rows = second.folder / "out" / "stash.jsonl"
            assert keep(second, tmp_path, rows, "shop-2.1") is not None
            give_back(tmp_path, "shop-2.1")
            records.remove(made.twin, "shop-2.1")
        with launched_again(made, migration=RELAX) as third:
            assert attached(made, third, "shop-2.2").left == 0
            assert ask(third, "select id, mail from customer where id in (3, 6) order by id") == [
                (3, ""),
                (6, "later@x"),
            ]


def put_aside(made: Ground) -> list[dict[str, object]]:
    return [json.loads(line) for line in (made.folder / "out" / "put-aside.jsonl").read_text().splitlines()]
