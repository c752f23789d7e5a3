"""Rows without a key: an UPDATE of one is told by all of its values, and it is the same row all the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from replay_ground import ground, lines, operations

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

BOTH = pytest.mark.parametrize("how", ["logical", "triggers"])

BEFORE = """
create table event (what varchar(9), n int check (n < 100), legacy text default 'd');
insert into event values ('a', 1, 'l1'), ('b', 2, 'l2'), ('b', 2, 'm2'), ('c', 3, 'l3'), ('d', 4, 'l4'), ('e', 5, 'l5');
"""
CHANGE = "alter table event drop legacy, alter what type text, drop constraint event_n_check"
DROPPED = operations(("column-removed", "event", "event", "legacy", None))
ROWS = "select what, n, legacy from event order by what, legacy"


@BOTH
def test_a_row_keeps_what_only_the_old_schema_has_when_it_is_changed(
    any_database: Target, tmp_path: Path, how: How
) -> None:
    with ground(any_database, tmp_path, BEFORE, CHANGE, DROPPED, how=how) as made:
        made.write("update event set n = 10 where what = 'a'", "update event set n = n + 1 where what = 'a'")
        # Two rows exchange all that the new schema has of them: counted, nothing has changed.
        made.write(
            "update event set what = 't', n = 0 where what = 'c'",
            "update event set what = 'c', n = 3 where what = 'd'",
            "update event set what = 'd', n = 4 where what = 't'",
        )
        made.write("update event set n = 20 where what = 'b'")
        assert made.carry().put_aside == 0
        made.write("insert into event values ('f', 6), ('g', 7)", "update event set n = 60 where what = 'f'")
        made.write("update event set what = 'h' where what = 'e'", "delete from event where what = 'h'")
        made.write("update event set n = 12 where what = 'a'")
        assert made.carry().put_aside == 0
        assert made.old(ROWS) == [
            ("a", 12, "l1"),
            ("b", 20, "l2"),
            ("b", 20, "m2"),
            ("c", 3, "l4"),
            ("d", 4, "l3"),
            ("f", 60, "d"),
            ("g", 7, "d"),
        ]


@BOTH
def test_a_row_stays_as_it_was_where_what_it_became_is_put_aside(database: Target, tmp_path: Path, how: How) -> None:
    with ground(database, tmp_path, BEFORE, CHANGE, DROPPED, how=how) as made:
        made.write("update event set what = 'far too long' where what = 'a'", "update event set n = 100 where n = 3")
        # On the way to what it is in the end, neither the old type nor the old rule would have had it.
        made.write("update event set what = 'far too long' where what = 'd'", "update event set n = 400 where n = 4")
        made.write("update event set what = 'd!', n = 44 where n = 400", "update event set n = 500 where n = 5")
        made.write("delete from event where n = 500", "insert into event values ('f', 600)")
        told = lines(made.carry(), "put_aside")
        assert made.old(ROWS) == [
            ("a", 1, "l1"),
            ("b", 2, "l2"),
            ("b", 2, "m2"),
            ("c", 3, "l3"),
            ("d!", 44, "l4"),
        ]
        assert sorted((one["action"], one["values"]["n"]) for one in told) == [
            ("delete", "1"),
            ("delete", "3"),
            ("insert", "1"),
            ("insert", "100"),
            ("insert", "600"),
        ]


ACROSS = """
create table visit (day int, what text, legacy text default 'd') partition by range (day);
create table visit_1 partition of visit for values from (0) to (10);
create table visit_2 partition of visit for values from (10) to (20);
insert into visit values (1, 'a', 'l1'), (2, 'b', 'l2'), (3, 'c', 'l3');
"""


@BOTH
def test_a_row_without_a_key_goes_to_another_partition_with_what_only_the_old_schema_has(
    database: Target, tmp_path: Path, how: How
) -> None:
    found = operations(("column-removed", "visit", "visit", "legacy", None))
    with ground(database, tmp_path, ACROSS, "alter table visit drop legacy", found, how=how) as made:
        made.write("update visit set day = 11 where what = 'a'", "update visit set what = 'A' where what = 'a'")
        made.write("update visit set what = 'B' where what = 'b'", "delete from visit where what = 'c'")
        made.write("truncate visit_1", "insert into visit values (2, 'B')")
        assert made.carry().put_aside == 0
        assert made.old("select day, what, legacy from visit order by 1") == [(2, "B", "d"), (11, "A", "l1")]


def test_a_row_that_is_changed_very_often_is_followed_in_steps_that_double(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, CHANGE, DROPPED) as made:
        made.write(
            "do $$ begin for i in 1..3000 loop update event set n = -i where what = 'a'; end loop; end $$",
            "insert into event select 'z', 1 from generate_series(1, 3000)",
            "update event set n = 2 where what = 'z'",
        )
        outcome = made.carry()
        assert outcome.put_aside == 0 and outcome.seconds < 20
        assert made.old("select n, legacy from event where what = 'a'") == [(-3000, "l1")]
        assert made.old("select count(*), min(n), max(legacy) from event where what = 'z'") == [(3000, 2, "d")]


def test_whatever_becomes_of_rows_each_keeps_its_own(database: Target, tmp_path: Path) -> None:
    """Values go from row to row and come back; a dictionary knows which row has which."""
    dice = random.Random(7)  # a game
    rows = {f"v{n}": f"l{n}" for n in range(12)}
    before = "create table event (what varchar(9), n int, legacy text default 'd', body text)"
    values = ", ".join(f"('{what}', 1, '{legacy}', repeat('{what}', 2000))" for what, legacy in rows.items())
    change = "alter table event alter what type text, drop legacy, alter body set storage external"
    with ground(database, tmp_path, f"{before}; insert into event values {values}", change, DROPPED) as made:
        for _ in range(3):
            for _ in range(6):
                statements = []
                for _ in range(dice.randint(1, 6)):
                    roll, what = dice.random(), dice.choice(sorted(rows))
                    free = dice.choice([name for name in (f"v{n}" for n in range(16)) if name not in rows])
                    if roll < 0.6:
                        statements.append(f"update event set what = '{free}', n = n + 1 where what = '{what}'")
                        rows[free] = rows.pop(what)
                    elif roll < 0.75 and len(rows) > 5:
                        statements.append(f"delete from event where what = '{what}'")
                        del rows[what]
                    elif roll < 0.9:
                        statements.append(f"insert into event values ('{free}', 1, '{free}')")
                        rows[free] = "d"
                    else:
                        statements += [f"update event set n = n {sign} 1 where what = '{what}'" for sign in "+-"]
                made.write(*statements)
            assert made.carry().put_aside == 0
            assert dict(made.old("select what, legacy from event")) == rows
            assert made.old("select what, n, body from event order by 1") == made.new(
                "select what, n, body from event order by 1"
            )
