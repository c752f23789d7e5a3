"""A foreign key that became links of a table of its own, and back: what a mapper could not give the old release is told
as that, and what the next migration has made of what it could is told no more."""

from __future__ import annotations

import json
from pathlib import Path

from launched_twice import attached, keep, launched_again, rolled_back
from replay_ground import Ground, ask, ground, lines, operations
from test_affected import told

from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import UserTable
from safepoint.wayback.capture.capture import arm, disarm
from safepoint.wayback.replay import records
from safepoint.wayback.replay.replay import replay
from safepoint.wayback.stash.stash import give_back, take
from safepoint.wayback.stash.whole_rows import GONE_ANEW, NOT_ANEW

REMARKS = "create table remark (id serial primary key, link int not null references item_parts, words text);"
BEFORE = """
create table part (id int primary key);
create table item (id int primary key, part int references part);
insert into part select generate_series(1, 5);
insert into item select n, n from generate_series(1, 4) n;
"""
CHANGE = """
create table item_parts (id serial primary key, item_id int not null references item,
    part_id int not null references part, unique (item_id, part_id));
insert into item_parts (item_id, part_id) select id, part from item where part is not null order by id;
alter table item drop part;
"""
CHANGES = operations(("column-removed", "item", "item", "part", None))
MAPPERS = {"item": {"part": "(select p.part_id from item_parts p where p.item_id = new.id order by p.id desc limit 1)"}}
WRITES = (
    "delete from item_parts where item_id = 1",
    "insert into item_parts (item_id, part_id) values (1, 3)",
    "insert into item_parts (item_id, part_id) values (2, 4)",
    "insert into item_parts (item_id, part_id) values (2, 5)",
    "delete from item_parts where item_id = 3",
)


def test_links_that_are_there_again_are_told_no_more_and_others_as_what_they_are(
    database: Target, tmp_path: Path
) -> None:
    words = {"before": BEFORE, "migration": CHANGE, "found": CHANGES, "mappers": MAPPERS}
    with (
        rolled_back(database, tmp_path, *WRITES, **words) as (made, _),  # type: ignore[arg-type]
        # One takes a link back that the new release had removed.
        launched_again(made, "update item set part = 3 where id = 3", migration=CHANGE) as again,
    ):
        done = attached(made, again)
        links = ask(again, "select item_id, part_id from item_parts order by 1, 2")
        assert links == [(1, 3), (2, 2), (2, 4), (2, 5), (3, 3), (4, 4)]
        left = [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()]
    said = [(json.loads(one["value"])["part_id"], one["reason"]) for one in left]
    assert said == [("3", GONE_ANEW)] and done.left == 1


def test_of_what_the_old_release_has_changed_meanwhile_the_links_are_told(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": CHANGE, "found": CHANGES, "mappers": MAPPERS}
    with (
        rolled_back(database, tmp_path, *WRITES, **words) as (made, _),  # type: ignore[arg-type]
        launched_again(made, "update item set part = 1 where id < 4", migration=CHANGE) as again,
    ):
        done = attached(made, again)
        assert ask(again, "select item_id, part_id from item_parts order by 1") == [(1, 1), (2, 1), (3, 1), (4, 4)]
        left = [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()]
    said = [(json.loads(one["value"])["part_id"], one["reason"]) for one in left]
    some = [("2", NOT_ANEW), ("3", NOT_ANEW), ("4", NOT_ANEW), ("5", NOT_ANEW)]
    assert sorted(said) == sorted([("1", GONE_ANEW), ("3", GONE_ANEW), *some]) and done.left == 6


def test_a_link_of_the_migrations_that_a_mapper_passes_over_is_told_at_the_rollback_and_comes_back(
    database: Target, tmp_path: Path
) -> None:
    """Without a change of its own: people added links, and the mapper takes one of these."""
    words = {"before": BEFORE, "migration": CHANGE, "found": CHANGES, "mappers": MAPPERS}
    writes = (
        "insert into item_parts (item_id, part_id) values (2, 5)",
        "insert into item_parts (id, item_id, part_id) values (-1, 3, 1)",  # the mapper takes the migration's still
    )
    with rolled_back(database, tmp_path, *writes, **words) as (made, stash):  # type: ignore[arg-type]
        assert ask(made.twin, "select id, part from item order by id") == [(1, 1), (2, 5), (3, 3), (4, 4)]
        _, rows = told(made, UserTable("nobody", "x"), given={})
        rows_told = [(row["table"], row["key"], row["fate"]) for row in rows]
        assert rows_told == [
            ("item_parts", "id=5", "stashed"),
            ("item_parts", "id=-1", "stashed"),
            ("item_parts", "id=2", "stashed"),
        ]
        assert rows[2]["values"] == "id=2; item_id=2; part_id=2"
        said = "nobody wrote to it: of the rows that item.part is made of, the old schema has a place for others"
        assert rows[2]["reason"] == f"{said}: kept for the next launch"
        assert stash.count == 3
        with launched_again(made, migration=CHANGE) as again:
            done = attached(made, again)
            assert done.left == 0, done.preview
            links = "select item_id, part_id from item_parts order by 1, 2"
            assert ask(again, links) == made.new(links)
            assert ask(again, "insert into item_parts (item_id, part_id) values (1, 5) returning id > 5") == [(True,)]


def test_a_link_says_more_than_what_it_links(database: Target, tmp_path: Path) -> None:
    change = CHANGE.replace("unique (item_id, part_id)", "note text default 'none', unique (item_id, part_id)")
    change += REMARKS
    words = {"before": BEFORE, "migration": change, "found": CHANGES, "mappers": MAPPERS}
    writes = (
        "update item_parts set note = 'mine' where item_id = 1",
        "insert into item_parts (item_id, part_id, note) values (2, 5, 'ours')",
        "insert into remark (link, words) values (5, 'on theirs')",
        "delete from item_parts where item_id = 4; insert into item_parts (item_id, part_id) values (4, 1)",
    )
    with (
        rolled_back(database, tmp_path, *writes, **words) as (made, _),  # type: ignore[arg-type]
        launched_again(made, "insert into item values (9, 3)", migration=change) as again,
    ):
        done = attached(made, again)
        links = "select item_id, part_id, note from item_parts where item_id < 9 order by 1, 2"
        assert ask(again, links) == made.new(links)
        assert done.left == 0, done.preview
        # The number that it had is another link's.
        remarks = "select words, item_id, part_id from remark r join item_parts p on p.id = link"
        assert ask(again, remarks) == [("on theirs", 2, 5)] and ask(again, "select link <> 5 from remark") == [(True,)]


def test_of_several_links_of_the_migrations_each_is_looked_at(database: Target, tmp_path: Path) -> None:
    """Of the greatest the mapper tells, whichever is looked at first."""
    change = CHANGE.replace(
        "alter table item drop part;",
        "insert into item_parts (item_id, part_id) select 3, n from generate_series(1, 5) n where n <> 3;"
        "insert into item_parts (item_id, part_id) values (1, 5); alter table item drop part;",
    )
    greatest = {"item": {"part": "(select max(p.part_id) from item_parts p where p.item_id = new.id)"}}
    words = {"before": BEFORE, "migration": change, "found": CHANGES, "mappers": greatest}
    writes = ("insert into item_parts (item_id, part_id) values (1, 2)", "delete from item_parts where part_id = 4")
    writes += ("insert into item_parts (item_id, part_id) values (3, 4)",)
    with rolled_back(database, tmp_path, *writes, **words) as (_, stash):  # type: ignore[arg-type]
        stashed = [json.loads(line) for line in stash.rows.read_text().splitlines()]
        links = [(one["values"]["item_id"], one["values"]["part_id"]) for one in stashed if one["action"] == "update"]
        assert sorted(links) == [("1", "1"), ("3", "1"), ("3", "2"), ("3", "3")]


def test_what_a_mapper_tells_of_is_not_passed_over(database: Target, tmp_path: Path) -> None:
    every = "(select string_agg(p.part_id::text, ',' order by p.part_id) from item_parts p where p.item_id = new.id)"
    before = BEFORE.replace("part int references part", "part text")
    change = CHANGE.replace("id, part from", "id, part::int from")
    words = {"before": before, "migration": change, "found": CHANGES, "mappers": {"item": {"part": every}}}
    writes = ("insert into item_parts (item_id, part_id) values (2, 5)",)
    with rolled_back(database, tmp_path, *writes, **words) as (made, stash):  # type: ignore[arg-type]
        assert ask(made.twin, "select part from item where id = 2") == [("2,5",)]
        assert stash.count == 1


def test_what_refers_to_a_link_of_the_migrations_refers_to_the_same_one_again(database: Target, tmp_path: Path) -> None:
    """By another number, for there is a link less; one that the migration makes no more has come back beside it."""
    change = CHANGE + REMARKS
    words = {"before": BEFORE, "migration": change, "found": CHANGES, "mappers": MAPPERS}
    writes = (
        "insert into remark (link, words) values (3, 'on 3'), (2, 'on 2')",
        "insert into item_parts (item_id, part_id) values (2, 5)",
    )
    since = "update item set part = null where id = 1"
    with (
        rolled_back(database, tmp_path, *writes, **words) as (made, _),  # type: ignore[arg-type]
        launched_again(made, since, migration=change) as again,
    ):
        done = attached(made, again)
        remarks = "select words, item_id, part_id from remark r join item_parts p on p.id = link order by 1"
        assert ask(again, remarks) == [("on 2", 2, 2), ("on 3", 3, 3)]
        assert (done.left, [(one.table, one.was) for one in done.moves]) == (0, [("item_parts", "2")])


def test_what_refers_to_a_link_that_does_not_come_back_is_told(database: Target, tmp_path: Path) -> None:
    change = CHANGE + REMARKS
    words = {"before": BEFORE, "migration": change, "found": CHANGES, "mappers": MAPPERS}
    writes = (
        "insert into item_parts (item_id, part_id) values (2, 5)",
        "insert into remark (link, words) values (2, 'on 2'), (5, 'on 5'), (3, 'on 3')",
    )
    since = "update item set part = 1 where id = 2; delete from item where id = 1"
    with (
        rolled_back(database, tmp_path, *writes, **words) as (made, _),  # type: ignore[arg-type]
        launched_again(made, since, "insert into item values (8, 4), (9, 4)", migration=change) as again,
    ):
        done = attached(made, again)
        remarks = "select words, item_id, part_id from remark r join item_parts p on p.id = link order by 1"
        assert ask(again, remarks) == [("on 3", 3, 3)]
        told_of = sorted((one.table, one.key["id"]) for one in done.preview)
        assert told_of == [("item_parts", "2"), ("item_parts", "5"), ("remark", "1"), ("remark", "2")]


def test_links_of_two_rollbacks_come_back_with_the_third_launch(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": CHANGE, "found": CHANGES, "mappers": MAPPERS}
    links = "select item_id, part_id from item_parts order by 1, 2"
    with rolled_back(database, tmp_path, *WRITES, **words) as (made, first):  # type: ignore[arg-type]
        # One link more, so that those of the first rollback have other numbers than they had.
        with launched_again(made, "insert into item values (5, 1), (6, 1), (7, 1)", migration=CHANGE) as again:
            assert attached(made, again).left == 0
            take(first, "shop-2.1")
            facts = arm(again, "shop-2.1", whole=["public.item_parts"])
            second = Ground(again, made.twin, made.folder / "second", CHANGES, MAPPERS, facts)
            second.write("insert into item_parts (item_id, part_id) values (1, 4), (3, 2)")
            second.write("delete from item_parts where (item_id, part_id) = (2, 4)")
            second.write("insert into item_parts (item_id, part_id) values (2, 1)")
            second.drain()
            given = {"launch_id": "shop-2.1", "out": second.folder / "out"}
            replay(made.twin, again, second.spool, second.mapping(), **given, waiting=[first.rows])  # type: ignore[arg-type]
            disarm(again, facts)
            assert keep(second, made.folder, second.folder / "out" / "stash.jsonl", "shop-2.1") is not None
            give_back(made.folder, "shop-2.1")
            records.remove(made.twin, "shop-2.1")
            then = ask(again, links)
            assert then[:-3] == [(1, 3), (1, 4), (2, 1), (2, 2), (2, 5), (3, 2), (4, 4)]
        with launched_again(made, migration=CHANGE) as third:
            done = attached(made, third, "shop-2.2")
            assert (ask(third, links), done.left) == (then, 0), done.preview


def test_what_was_passed_over_before_a_rollback_was_turned_round_is_looked_at_again(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, BEFORE, CHANGE, CHANGES, MAPPERS) as made:
        made.write("insert into item_parts (item_id, part_id) values (1, 5), (2, 5), (3, 5)")
        assert made.carry().passed_over == 3
        made.write("delete from item_parts where item_id = 2 and part_id = 5")
        made.write("update item_parts set part_id = 4 where item_id = 3 and part_id = 3")
        outcome = made.carry()
        assert made.old("select id, part from item order by id") == [(1, 5), (2, 2), (3, 5), (4, 4)]
        assert (outcome.passed_over, [line["key"] for line in lines(outcome, "put_aside")]) == (1, [{"id": "1"}])
        stashed = [(line["key"]["id"], line["action"]) for line in lines(outcome, "stash")]
        assert sorted(stashed) == [("1", "update"), ("3", "update"), ("5", "insert"), ("6", "delete"), ("7", "insert")]
