"""What a replay looks up: large values that nobody touched, and the rows of a big table by their key."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import RELAX, RELAXED, SHOP, ground, operations

from safepoint.postgres.connections import Connection
from safepoint.postgres.target import Target
from safepoint.wayback.replay import compaction, filling


@pytest.mark.parametrize("piece", [1, 2_000])
def test_large_values_that_were_not_touched_are_looked_up(
    any_database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(filling, "PIECE", piece)
    with ground(any_database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("update purchase set total = 9 where id = 1", "update purchase_line set purchase_id = 5")
        made.write("delete from purchase where id = 2", "update purchase set id = 2 where id = 3")
        made.write("insert into purchase (customer_id, total, body) values (1, 1, repeat('new', 3000))")
        made.write("update purchase set total = 2 where id = 6")
        outcome = made.carry()
        assert outcome.put_aside == 0
        query = "select id, md5(body), length(body) from purchase order by 1"
        assert made.old(query) == made.new(query)
        assert made.old("select legacy from purchase order by id") == [(1,), (3,), (4,), (5,), (7,)]


def test_large_values_are_looked_up_by_any_key(database: Target, tmp_path: Path) -> None:
    schema = """
    create table "Odd %s" (
        "the ""key" text, day date, "body {0}" text, state text, primary key ("the ""key", day));
    alter table "Odd %s" alter "body {0}" set storage external;
    insert into "Odd %s" select k, '2026-02-28', repeat(k, 2000), 'new'
    from unnest(array['it''s', '100 %s', 'a\\\\b', '{0}', '"', 'NULL', '', E'\\n', '$1 :x']) k
    """
    # Of another type: what the twin has itself need not be looked up.
    retyped = """
    alter table "Odd %s" alter "body {0}" type varchar(99000);
    alter table "Odd %s" alter "body {0}" set storage external;
    update "Odd %s" set "body {0}" = "body {0}" || "body {0}"
    """
    with ground(database, tmp_path, schema, retyped) as made:
        made.write("update \"Odd %s\" set state = 'seen'")
        assert made.carry().put_aside == 0
        query = 'select * from "Odd %s" order by 1'
        assert made.old(query) == made.new(query)


BIG = """
create table tagged (code text, n int, what varchar(9), gone int default 7, primary key (code, n));
create table plain (id int primary key, what text);
insert into tagged select 'k' || n, n, 'w', n from generate_series(1, 5000) n;
insert into plain select n, 'p' from generate_series(1, 5000) n;
analyze
"""


def test_few_changes_of_a_big_table_are_looked_up_by_its_key(
    any_database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the keys are looked up, the end is the same; a table that is as small as its changes is read whole."""
    asked: list[str] = []
    run = compaction.run

    def noted(connection: Connection, statement: str) -> int:
        asked.append(statement)
        return run(connection, statement)

    monkeypatch.setattr(compaction, "run", noted)
    grown = "alter table tagged alter n type bigint, drop gone, alter what type text"
    grown += "; alter table plain alter id type bigint"
    dropped = operations(("column-removed", "tagged", "tagged", "gone", None))
    with ground(any_database, tmp_path, BIG, grown, dropped) as made:
        made.write(
            "update tagged set what = 'new' where n = 17",
            "delete from tagged where n in (18, 19)",
            "insert into tagged values ('k18', 18, 'again'), ('x', 6000, 'added')",
            "update tagged set code = 'moved' where n = 20",
            "update plain set what = 'q' where id between 4990 and 5000",
            "insert into plain values (5001, 'r')",
        )
        outcome = made.carry()
        assert (outcome.carried, outcome.transactions, outcome.put_aside) == (1, 1, 0)
        assert made.old("select code, n, what, gone from tagged where n in (17, 18, 19, 20, 6000) order by n") == [
            ("k17", 17, "new", 17),
            ("k18", 18, "again", 7),
            ("moved", 20, "w", 20),
            ("x", 6000, "added", 7),
        ]
        assert made.old("select what, count(*) from plain group by 1 order by 1") == [("p", 4989), ("q", 11), ("r", 1)]
        by_key = [one for one in asked if "LEFT JOIN LATERAL (SELECT o.ctid" in one]
        assert len(by_key) == 2, asked
        del asked[:]
        made.write("update plain set what = 's'")
        assert made.carry().put_aside == 0 and made.old("select distinct what from plain") == [("s",)]
        assert not [one for one in asked if "LEFT JOIN LATERAL (SELECT o.ctid" in one]
