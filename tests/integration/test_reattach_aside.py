"""What the old schema could not hold comes back with the next launch, whose schema can."""

from __future__ import annotations

import json
from pathlib import Path

from launched_twice import attached, keep, launched_again, rolled_back
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, Ground, ask, ground, operations

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm
from safepoint.wayback.replay import records
from safepoint.wayback.replay.replay import replay
from safepoint.wayback.stash.stash import give_back, take

LONG = "x" * 30
NEW = (
    f"insert into customer (name, mail) values ('{LONG}', 'new@x')",
    "insert into purchase (customer_id, total, note, body) values (6, 1.2345, 'gift', repeat('long', 2000))",
    "insert into purchase_line (purchase_id, what) values (6, 'with its parent')",
    "update purchase set total = 2 where id = 6",  # its large value is not in the log this time
)
SHOPPED = {"before": SHOP, "migration": RELAX, "found": RELAXED}


def test_new_rows_come_back_whole_with_what_depends_on_them(database: Target, tmp_path: Path) -> None:
    with rolled_back(database, tmp_path, *NEW, **SHOPPED) as (made, found):
        assert ask(made.twin, "select count(*) from customer") == [(5,)]
        assert found.count == 3 and not found.tables["public.customer"].whole
        with launched_again(made, "insert into customer (name) values ('meanwhile')", migration=RELAX) as again:
            done = attached(made, again)
            assert (done.rows, done.left) == (3, 0), done.preview
            assert ask(again, "select id, name, mail from customer where id > 5 order by id") == [
                (6, LONG, "new@x"),
                (7, "meanwhile", None),
            ]
            purchase = "select customer_id, total::text, note, length(body) from purchase where id = 6"
            assert ask(again, purchase) == [(6, "2.0000", "gift", 8000)]
            assert ask(again, "select what from purchase_line where purchase_id = 6") == [("with its parent",)]
            # Even without the mark nothing is attached twice.
            with connect(again) as connection:
                connection.execute("drop schema safepoint_reattach cascade")
            assert (attached(made, again).rows, attached(made, again).left) == (0, 0)


def test_changed_rows_get_their_values_where_they_are_still_what_they_were(database: Target, tmp_path: Path) -> None:
    writes = (
        f"update customer set name = '{LONG}', mail = 'first@x' where id in (1)",
        f"update customer set name = '{LONG}' where id in (2, 3, 4)",
        "update purchase set total = 1.2345, note = 'mine' where id in (1, 2)",
        *NEW[:1],
        "update purchase set customer_id = 6 where id = 3",
        "update customer set mail = 'c4@x' where id = 5",
    )
    since = (
        "update customer set name = 'newer' where id = 2",
        "update customer set name = 'other' where id = 4",
        "update customer set name = 'c4' where id = 4",
        "delete from purchase_line where purchase_id = 2",
        "delete from purchase where id = 2",
    )
    with (
        rolled_back(database, tmp_path, *writes, **SHOPPED) as (made, _),
        launched_again(made, *since, migration=RELAX) as again,
    ):
        done = attached(made, again)
        assert ask(again, "select id, name, mail from customer order by id") == [
            (1, LONG, "first@x"),
            (2, "newer", "c2@x"),
            (3, LONG, "c3@x"),
            (4, LONG, "c4@x"),
            (5, "c5", "c4@x"),
            (6, LONG, "new@x"),
        ]
        assert ask(again, "select id, customer_id, total::text, note from purchase where id in (1, 3) order by id") == [
            (1, 1, "1.2345", "mine"),
            (3, 6, "3.0000", "n"),
        ]
        told = {(one.table, one.key["id"], one.column): one.reason for one in done.preview}
        assert told == {
            ("customer", "2", "name"): "the row has a newer value",
            ("purchase", "2", "*"): "the row is not there any more",
        }
        kept = {one["key"]["id"]: one["kept"] for one in put_aside(tmp_path, "public.customer")}
        assert kept == {"1": True, "2": True, "3": True, "4": True, "5": True, "6": True}


def test_what_a_second_launch_did_to_a_row_that_it_had_again_is_not_forgotten(database: Target, tmp_path: Path) -> None:
    """That launch's twin never had the row: to a replay of it such a change is of a row that is not there."""
    other = "insert into customer (name) values (repeat('y', 30))"
    with rolled_back(database, tmp_path, *NEW, other, **SHOPPED) as (made, first):
        with launched_again(made, migration=RELAX) as again:
            assert attached(made, again).rows == 4
            take(first, "shop-2.1")
            second = Ground(again, made.twin, tmp_path / "second", RELAXED, {}, arm(again, "shop-2.1"))
            second.write("update customer set mail = 'later@x' where id = 6", "delete from customer where id = 7")
            second.drain()
            outcome = replay(
                *(made.twin, again, second.spool, second.mapping()),
                launch_id="shop-2.1",
                out=second.folder / "out",
                waiting=[first.rows],
            )
            disarm(again, second.facts)
            assert (outcome.put_aside, outcome.stashed, outcome.not_carried) == (2, 1, 0)
            rows = second.folder / "out" / "stash.jsonl"
            newer = keep(second, tmp_path, rows, "shop-2.1")
            assert newer is not None and [one.launch_id for one in give_back(tmp_path, "shop-2.1")] == [LAUNCH]
            records.remove(made.twin, "shop-2.1")
        with launched_again(made, migration=RELAX) as third:
            done = attached(made, third, "shop-2.2")
            assert (done.rows, done.left) == (3, 0), done.preview
            now = ask(third, "select id, name, mail from customer where id > 5")
            assert now == [(6, LONG, "later@x")]
            assert ask(third, "select id, customer_id from purchase where id > 5") == [(6, 6)]


def test_what_was_emptied_later_does_not_come_back(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write(NEW[0])
        assert made.carry().put_aside == 1
        made.write("truncate customer cascade", f"insert into customer (name) values ('{LONG}')")
        rows = Path(made.carry().files["stash"])
        stash = keep(made, tmp_path, rows)
        assert stash is not None and set(stash.tables) == {"public.customer"}
        records.remove(made.twin, LAUNCH)
        with launched_again(made, migration=RELAX) as again:
            assert attached(made, again).left == 0
            assert ask(again, "select id, name, mail from customer") == [(7, LONG, None)]


TERM = "daterange(date '2026-{0}-01', date '2026-{0}-28')"
ROOMS = f"""
create table room (house int, number int, name varchar(5), primary key (house, number));
insert into room values (1, 1, 'a'), (1, 2, 'b');
create extension if not exists btree_gist;
create table guest (
    id int generated by default as identity primary key, house int, number int, name varchar(5), place int,
    term daterange, foreign key (house, number) references room, unique (place) deferrable,
    exclude using gist (number with =, term with &&) deferrable);
insert into guest (house, number, name, place, term)
    values (1, 1, 'x', 1, {TERM.format("01")}), (1, 1, 'y', 2, {TERM.format("02")});
"""
WIDER = "alter table room alter name type text; alter table guest alter name type text"
AGAIN = f"{WIDER}; alter table guest add mark text not null default 'none', add rank int"


def test_rules_that_no_index_asks_while_triggers_are_silent_hold(database: Target, tmp_path: Path) -> None:
    writes = (
        "update guest set name = 'too long', place = 7 where id = 1",
        "insert into guest (house, number, name, place) values (1, 2, 'too long', 8)",
    )
    with rolled_back(database, tmp_path, *writes, before=ROOMS, migration=WIDER, found=operations()) as (made, _):
        since = ("insert into guest (name, place) values ('z', 7), ('v', 8)",)
        with launched_again(made, *since, migration=AGAIN) as again:
            done = attached(made, again)
            assert ask(again, "select id, name, place from guest where place in (1, 7, 8) order by id") == [
                (1, "x", 1),
                (4, "z", 7),
                (5, "v", 8),
            ]
            told = {(one.key["id"], one.column): one.reason for one in done.preview}
            same = "another row has the same guest_place_key"
            assert told == {
                ("1", "place"): same,
                ("1", "name"): "another value of the same change could not be set",
                ("3", "*"): same,
            }


def test_a_change_is_attached_whole_or_not_at_all_and_names_what_is_there(database: Target, tmp_path: Path) -> None:
    writes = (
        "insert into room values (2, 1, 'too long')",
        "update guest set house = 2, name = 'too long', place = 5 where id = 1",
        "update guest set name = 'too long', place = 6 where id = 2",
        f"insert into guest (house, number, name, place, term) values (2, 1, 'too long', 9, {TERM.format('03')})",
    )
    with rolled_back(database, tmp_path, *writes, before=ROOMS, migration=WIDER, found=operations()) as (made, _):
        with launched_again(made, "update guest set place = 11 where id = 2", migration=AGAIN) as again:
            done = attached(made, again)
            assert ask(again, "select id, house, name, place, mark, rank from guest order by id") == [
                (1, 2, "too long", 5, "none", None),
                (2, 1, "y", 11, "none", None),
                (3, 2, "too long", 9, "none", None),
            ]
            assert {(one.key["id"], one.column, one.reason) for one in done.preview} == {
                ("2", "place", "the row has a newer value"),
                ("2", "name", "another value of the same change could not be set"),
            }
        with launched_again(made, migration=AGAIN + "; alter table room add check (name <> 'too long')") as again:
            done = attached(made, again)
            lost = "the row of room that it refers to is not there"
            told = {(one.table, tuple(one.key.values()), one.column): one.reason for one in done.preview}
            assert told["guest", ("1",), "house"] == told["guest", ("3",), "*"] == lost
            assert "room_name_check" in told["room", ("2", "1"), "*"]
            assert ask(again, "select id, house, name, place from guest where id <> 2") == [(1, 1, "x", 1)]


def put_aside(folder: Path, relation: str) -> list[dict[str, object]]:
    found = (json.loads(line) for line in (folder / "out" / "put-aside.jsonl").read_text().splitlines())
    return [one for one in found if one["relation"] == relation]
