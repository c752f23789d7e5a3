"""A virtual column (PostgreSQL 18) that cannot be computed for a row that is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from postgres_servers import Servers
from replay_ground import BOTH, ground

from safepoint.backup.fingerprint import take
from safepoint.launch.rehearsal.undo import READING, rows_of
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.rehearsal.catalogue import read_picture
from safepoint.rehearsal.changes import Side, as_before, changes
from safepoint.wayback.capture.capture import How
from safepoint.wayback.trial.roundtrip import round_trip

MADE = """
create table item (id int primary key, part int, share int generated always as (10 / part) virtual, what text);
create table event (part int, share int generated always as (10 / part) virtual, what text);
insert into item (id, part, what) values (1, 0, 'x'), (2, 5, 'y');
insert into event (part, what) values (0, 'x'), (0, 'x'), (5, 'y');
"""


@BOTH
def test_the_way_back_is_proven_and_rows_are_carried(
    servers: Servers, new_database: Callable[[Server], Target], tmp_path: Path, how: How
) -> None:
    with ground(new_database(servers(18)), tmp_path, MADE, "alter table item add more int", how=how) as made:
        assert round_trip(made.twin, made.live, made.mapping()).whole
        made.write("update item set what = 'z' where id = 1", "insert into item (id, part, what) values (3, 0, 'n')")
        assert made.carry().aside == ()
        assert made.old("select id, part, what from item order by 1") == [(1, 0, "z"), (2, 5, "y"), (3, 0, "n")]


def test_the_rehearsals_comparison_leaves_it_out(
    servers: Servers, new_database: Callable[[Server], Target], tmp_path: Path
) -> None:
    migration = "alter table item add more int; update item set more = id, what = 'new'"
    with (
        ground(new_database(servers(18)), tmp_path, MADE, migration) as made,
        connect(made.twin, options=READING) as one,
        connect(made.live, options=READING) as two,
    ):
        was, now = read_picture(one), read_picture(two)
        rows = rows_of(take(made.twin)), rows_of(take(made.live, ordering=as_before(was, now)))
        found = changes(Side(one, was, rows[0]), Side(two, now, rows[1]))
    told = {str(table): [one.after for one in table.columns if one.kind != "identical"] for table in found}
    assert told == {"public.event": [], "public.item": ["what", "more"]}
