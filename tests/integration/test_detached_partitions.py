"""A partition that is detached after the launch lives on as a table: what the log has not of its rows is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, RELAX, RELAXED, SHOP, ground, lines, operations
from test_schema_since import rest, told

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

PARTED = """
create table visit (day int, id int, what text, body text, primary key (id, day)) partition by range (day);
create table visit_1 (body text, id int not null, what text, day int not null);
alter table visit attach partition visit_1 for values from (0) to (10);
create table visit_2 partition of visit for values from (10) to (20);
create table visit_3 partition of visit for values from (20) to (30);
insert into visit select n, n, 'w', (select string_agg(md5(n || ' ' || g), '') from generate_series(1, 300) g)
    from generate_series(1, 21) n;
"""
DETACH = "alter table visit detach partition visit_1"
GREATER = "alter table visit alter what type varchar(2000), alter body type varchar(90000)"


def test_a_large_value_that_the_log_has_not_is_found_in_the_detached_partition(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP + PARTED, RELAX + GREATER, RELAXED, how="logical") as made:
        proven = made.mapping()
        made.write("update visit set what = 'new' where id in (1, 3, 11)", "update visit set day = 4 where id = 12")
        made.write("update visit set what = 'twice' where id = 1", DETACH)
        # Rows with the keys of those that went with it: of both, what is the table's counts.
        made.write("create table visit_9 partition of visit for values from (0) to (10)")
        made.write("insert into visit select day, id, 'again', body || 'z' from visit_1 where id = 1")
        made.write("update visit set what = 'more' where id = 1")
        outcome = rest(made, proven)
        assert outcome.put_aside == 0, outcome.aside
        query = "select day, id, what, md5(body) from {} where id in (1, 3, 11, 12) order by 2, 1"
        both = "(select * from visit union all select day, id, what, body from visit_1 where id > 1) v"
        assert made.old(query.format("visit")) == made.new(query.format(both))


@BOTH
def test_what_a_mapper_reads_of_rows_in_a_detached_partition_is_read_there(
    database: Target, tmp_path: Path, how: How
) -> None:
    moved = """
        create table said (id int primary key, what text); insert into said select id, what from visit;
        alter table visit drop what
    """
    reading = {"public.visit": {"what": "(select s.what from said s where s.id = new.id)"}}
    found = operations(
        ("column-removed", "purchase", "purchase", "legacy", None), ("column-removed", "visit", "visit", "what", None)
    )
    with ground(database, tmp_path, SHOP + PARTED, RELAX + moved, found, reading, how=how) as made:
        proven = made.mapping()
        made.write("update visit set body = 'new' where id = 1", "insert into visit values (5, 50), (15, 51)")
        made.write("insert into said values (50, 'fifty'), (51, 'more')", DETACH)
        made.write("update said set what = 'late' where id in (2, 12, 50)")
        assert rest(made, proven).put_aside == 0
        whats = "select id, what from visit where id in (1, 2, 3, 12, 50, 51) order by 1"
        assert made.old(whats) == [(1, "w"), (2, "late"), (3, "w"), (12, "late"), (50, "late"), (51, "more")]


@pytest.mark.parametrize(
    ("goes", "gone"), [(DETACH, {"since": None}), ("drop table visit_1", {})], ids=["detached", "dropped"]
)
def test_a_column_that_came_after_its_partition_went_keeps_no_row_back(
    database: Target, tmp_path: Path, goes: str, gone: dict[str, None]
) -> None:
    noted = "alter table visit add note text default 'n'"
    with ground(database, tmp_path, SHOP + PARTED, RELAX + noted, RELAXED, how="logical") as made:
        proven = made.mapping()
        made.write("insert into visit values (3, 40, 'new', 'new'), (13, 41, 'new', 'new')", goes)
        made.write("alter table visit add since text default 's'")
        outcome = rest(made, proven)
        assert outcome.put_aside == 0
        assert made.old("select id, what from visit where id > 30 order by 1") == [(40, "new"), (41, "new")]
        stashed = {line["key"]["id"]: line["values"] for line in lines(outcome, "stash")}
        assert stashed == {"40": {"note": "n"} | gone, "41": {"note": "n", "since": "s"}}


ARCHIVE = """
create table archive (day int, id int, what text, body text, primary key (id, day)) partition by range (day);
create table archive_rest partition of archive default;
"""


@BOTH
def test_a_partition_that_another_table_got_since_is_still_the_one_that_the_twin_has(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, SHOP + PARTED + ARCHIVE, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("insert into visit values (5, 50, 'new'), (15, 51, 'new')", "delete from visit where id = 4")
        made.write("update visit set what = 'new' where id in (3, 13)")
        made.write(DETACH, "alter table archive attach partition visit_1 for values from (0) to (10)")
        made.write("update archive set what = 'late' where id = 5", "insert into archive values (77, 52, 'new')")
        outcome = rest(made, proven)
        assert outcome.put_aside == 0, outcome.aside
        whole = "select day, id, what, md5(body) from visit{} union all select day, id, what, md5(body) from archive{}"
        assert sorted(made.old(whole.format("", "")), key=str) == sorted(made.new(whole.format("", "")), key=str)
        assert made.old("select id from archive") == [(52,)]


@BOTH
def test_a_partition_that_has_another_name_and_is_detached_then_is_still_the_tables(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, SHOP + PARTED, RELAX + GREATER, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("update visit set what = 'early' where id in (1, 11)", "insert into visit values (3, 30, 'e', 'e')")
        made.write("alter table visit_1 rename to visit_old")
        made.write("update visit set what = 'late' where id in (2, 12)", "insert into visit values (3, 31, 'e', 'e')")
        made.write("alter table visit detach partition visit_old")
        outcome = rest(made, proven)
        assert (outcome.carried, outcome.put_aside, lines(outcome, "stash")) == (2, 0, [])
        query = "select id, what, md5(body) from {} where id in (1, 2, 11, 12, 30, 31) order by 1"
        both = "(select * from visit union all select day, id, what, body from visit_old) v"
        assert made.old(query.format("visit")) == made.new(query.format(both))
        assert {row["fate"] for row in told(made, proven, outcome.partitions)} == {"carried"}


@BOTH
@pytest.mark.parametrize("end", ["detach partition visit_old", "drop"])
def test_one_that_was_renamed_and_emptied_is_empty_wherever_it_went_then(
    database: Target, tmp_path: Path, how: How, end: str
) -> None:
    with ground(database, tmp_path, SHOP + PARTED, RELAX + GREATER, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("insert into visit values (3, 30, 'early', 'e')")
        made.write("alter table visit_1 rename to visit_old", "truncate visit_old")
        made.write("insert into visit values (3, 31, 'late', 'e')")
        made.write(f"alter table visit {end}" if end != "drop" else "drop table visit_old")
        outcome = rest(made, proven)
        assert (outcome.carried, outcome.put_aside) == (3, 0)
        assert made.old("select id from visit where day < 10") == [(31,)]
        assert {row["fate"] for row in told(made, proven, outcome.partitions)} == {"carried"}


@BOTH
@pytest.mark.parametrize("others", [0, 1])
def test_where_numbers_are_others_it_is_told_if_it_may_have_been_several(
    database: Target, tmp_path: Path, how: How, others: int
) -> None:
    """As in a twin that was fed. What is still there under its name it was not."""
    with ground(database, tmp_path, SHOP + PARTED, RELAX + GREATER, RELAXED, how=how) as made:
        proven = made.mapping()
        with connect(made.twin) as connection:
            for statement in ("drop table visit", PARTED):
                connection.execute(statement.encode())
        made.write("alter table visit_1 rename to visit_old", "truncate visit_old")
        made.write("alter table visit detach partition visit_old", *["drop table visit_2"] * others)
        outcome = rest(made, proven)
        fates = [(row["action"], row["fate"], row["reason"]) for row in told(made, proven, outcome.partitions)]
        rows = made.old("select count(*) from visit where day < 10")
        if not others:
            assert (rows, fates, outcome.carried) == ([(0,)], [("truncate", "carried", "")], 1)
        else:
            why = "public.visit_old was emptied, and nobody knows which of the old schema's partitions that was"
            told_of = [("truncate", "not carried", why)]
            assert (rows, fates, outcome.not_carried) == ([(9,)], told_of, 1)


@BOTH
def test_one_that_went_to_another_table_of_the_same_columns_under_another_name_is_the_one_that_the_twin_has(
    database: Target, tmp_path: Path, how: How
) -> None:
    more = "; create table archive (like visit including all) partition by range (day);"
    more += "create table archive_rest partition of archive default;"
    with ground(database, tmp_path, SHOP + PARTED + more, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("insert into visit values (5, 50, 'new')", "update visit set what = 'early' where id = 1")
        made.write(DETACH, "alter table visit_1 rename to archive_1")
        made.write("alter table archive attach partition archive_1 for values from (0) to (10)")
        made.write("update archive set what = 'late' where id = 2", "delete from archive where id = 4")
        made.write("insert into archive values (6, 51, 'new'), (77, 52, 'new')")
        outcome = rest(made, proven)
        assert outcome.put_aside == 0, outcome.aside
        whole = "select day, id, what, md5(body) from visit union all select day, id, what, md5(body) from archive"
        assert sorted(made.old(whole), key=str) == sorted(made.new(whole), key=str)
        assert made.old("select id from archive") == [(52,)]
        lines = [(row["key"].split("; "), row["fate"]) for row in told(made, proven, outcome.partitions)]
        assert all(len(key) == 2 and fate == "carried" for key, fate in lines), lines
