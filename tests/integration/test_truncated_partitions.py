"""A TRUNCATE of a partitioned table is told once for each partition, whichever way it was captured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from replay_ground import BOTH, ground

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.capture.spool import read_changes

PARTED = """
create table note (id int, kind text, primary key (id, kind)) partition by list (kind);
create table note_a partition of note for values in ('a');
create table note_b partition of note default;
insert into note values (1, 'a'), (2, 'b');
"""


@BOTH
def test_a_truncated_partition_is_listed_once(database: Target, tmp_path: Path, how: How) -> None:
    with ground(database, tmp_path, PARTED, "select 1", how=how) as made:
        made.write("truncate note", "insert into note values (3, 'a')", "truncate note")
        made.write("truncate note")
        outcome = made.carry()
        told = Counter((one.transaction.xid, one.table) for one in read_changes(made.spool) if one.action == "truncate")
        first, second = sorted({xid for xid, _ in told})
        assert told == {
            (first, "public.note_a"): 2,
            (first, "public.note_b"): told[first, "public.note_b"],
            (second, "public.note_a"): 1,
            (second, "public.note_b"): 1,
        }
        assert outcome.carried == 2 and made.old("select * from note") == []
