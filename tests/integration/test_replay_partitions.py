"""Carrying back tables whose rows are not only their own: heirs and partitions."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, ground, lines, operations, whole

from safepoint.errors import Refused
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.trial.roundtrip import round_trip


@BOTH
def test_a_table_and_its_heir_have_rows_of_the_same_key(database: Target, tmp_path: Path, how: How) -> None:
    before = """
    create table base (id int primary key, what text unique);
    create table heir (extra text, primary key (id)) inherits (base);
    create table child (id int primary key, base_id int references base);
    insert into base values (1, 'b1'), (2, 'b2'), (3, 'b3');
    insert into heir values (1, 'b1', 'h'), (2, 'h2', 'h'), (4, 'h4', 'h');
    insert into child values (1, 3);
    """
    with ground(database, tmp_path, before, "alter table base add column fresh int default 5", how=how) as made:
        assert round_trip(made.twin, made.live, made.mapping()).whole
        made.write(
            "update only base set what = 'changed' where id = 1",
            "delete from only base where id = 2",
            "update heir set what = 'b2' where id = 2",
            "insert into base values (4, 'h4')",
            "insert into heir values (3, 'b3', 'h')",
            "update base set what = what || '!' where id = 4",
            "insert into child values (2, 4), (3, 1)",
        )
        whole(made, made.carry())
        for table in ("base", "heir"):
            own = f"select array_agg((id, what)::text order by id) from only {table}"
            assert made.old(own) == made.new(own)


LEAF_KEYS = """
create table part (id int, what text, body text) partition by range (id);
create table part_1 partition of part for values from (0) to (10);
create table part_2 partition of part for values from (10) to (20);
create table loose (id int unique, what text) partition by range (id);
create table loose_1 (id int not null unique, what text);
alter table loose attach partition loose_1 for values from (0) to (10);
create table named (id int not null unique, n int, what text) partition by range (id);
create table named_1 (n int primary key, id int not null, what text);
alter table named attach partition named_1 for values from (0) to (10);
create table deep (id int, n int, what text) partition by range (id);
create table deep_1 partition of deep for values from (0) to (10) partition by range (n);
create table deep_1_1 partition of deep_1 for values from (0) to (10);
alter table deep_1 add primary key (id, n);
alter table part alter body set storage external;
alter table part_2 add primary key (id);
insert into part select n, 'a', repeat('b', 5000) from generate_series(1, 18) n where n not in (9, 10);
insert into loose select n, 'a' from generate_series(1, 9) n;
insert into named select n, n, 'a' from generate_series(1, 9) n;
insert into deep select n, n, 'a' from generate_series(1, 9) n;
"""


@BOTH
def test_partitions_may_have_keys_that_their_root_has_not(any_database: Target, tmp_path: Path, how: How) -> None:
    """As pg_partman makes them, by a template. `part_1` has one in the new schema only."""
    with ground(any_database, tmp_path, LEAF_KEYS, "alter table part_1 add primary key (id)", how=how) as made:
        made.write(
            "update part set what = 'changed' where id in (1, 11)",
            "update part set id = id + 7 where id in (2, 12)",
            "delete from part where id in (3, 13)",
            "insert into part values (3, 'again', ''), (0, 'new', null)",
            *[f"update {name} set what = 'changed' where id = 1" for name in ("loose", "named", "deep")],
            *[f"delete from {name} where id = 2" for name in ("loose", "named", "deep")],
            "insert into loose values (2, 'new')",
            "update named set n = 100 where id = 3",
        )
        # One that comes later gets its key from a template, too.
        made.write(
            "create table part_3 partition of part for values from (20) to (30)",
            "alter table part_3 add primary key (id)",
            "insert into part values (20, 'late', 'x'), (21, 'late', 'y')",
        )
        made.write("update part set what = 'later' where id = 20", "delete from part where id = 21")
        made.write("delete from part where id = 4", "update part set id = 4 where id = 20")
        whole(made, made.carry())
        for name in ("part", "loose", "named", "deep"):
            query = f"select array_agg(t::text order by t::text) from {name} t"
            assert made.old(query) == made.new(query)


def test_a_row_that_the_log_names_by_a_key_that_its_table_has_not_is_refused(database: Target, tmp_path: Path) -> None:
    """Somebody set the partition's identity back: the row that was there before would stay beside the new one."""
    with ground(database, tmp_path, LEAF_KEYS, "select 1") as made:
        made.write(f"drop event trigger {made.facts.publication}", "alter table part_2 replica identity default")
        made.write("insert into part values (10, 'new', '')")
        assert made.carry().put_aside == 0
        for statement in ("update part set what = 'b' where id = 11", "delete from part where id = 12"):
            made.write(statement)
            with pytest.raises(Refused, match=r"does not say which row of public\.part_2") as caught:
                made.carry()
            assert caught.value.remedy and made.old("select count(*) from part where what = 'b'") == [(0,)]


KEPT_IN_STEP = """
create table visit (id int, day int, code int not null, what text, primary key (id, day), unique (code, day))
    partition by range (day);
create table visit_1 partition of visit for values from (0) to (10);
create table visit_2 partition of visit for values from (10) to (20);
alter table visit replica identity using index visit_code_day_key;
insert into visit values (1, 1, 7, 'a'), (2, 11, 8, 'a');
"""
ITS_OWN = "alter table visit_{n} replica identity using index visit_{n}_code_day_key;"


@pytest.mark.parametrize("chosen", [(), (1,), (1, 2)], ids=["none", "one", "all"])
@BOTH
def test_partitions_need_not_have_the_replica_identity_of_their_root(
    database: Target, tmp_path: Path, how: How, chosen: tuple[int, ...]
) -> None:
    """ALTER TABLE ... REPLICA IDENTITY does not hand it down."""
    before = KEPT_IN_STEP + "".join(ITS_OWN.format(n=n) for n in chosen)
    with ground(database, tmp_path, before, "select 1", how=how) as made:
        made.write(
            "update visit set what = 'b'", "update visit set code = code + 70", "insert into visit values (3, 2, 9)"
        )
        made.write("update visit set id = id + 10", "delete from visit where id = 12")
        whole(made, made.carry())


@BOTH
def test_a_partition_with_capitals_and_a_dot_in_its_name_is_emptied(database: Target, tmp_path: Path, how: How) -> None:
    before = """
    create table "a.B" (id int primary key) partition by range (id);
    create table "a.B_1" partition of "a.B" for values from (0) to (10);
    create table "a.B_2" partition of "a.B" default;
    create table "Loose" (id int) partition by range (id);
    create table "Loose.1" partition of "Loose" for values from (0) to (10);
    create table "Loose.2" partition of "Loose" default;
    insert into "a.B" select generate_series(1, 20);
    insert into "Loose" select generate_series(1, 20);
    """
    with ground(database, tmp_path, before, 'alter table "a.B" add t text', how=how) as made:
        made.write('truncate "a.B_1", "Loose.1"', 'insert into "a.B" values (5)')
        whole(made, made.carry())
        assert made.old('select count(*) from "a.B"') == [(12,)] and made.old('select count(*) from "Loose"') == [(11,)]


ACROSS = """
create table event (id int, year int, what varchar(9), legacy text default 'd', primary key (id, year))
    partition by range (year);
create table event_old partition of event for values from (0) to (2000);
create table event_new partition of event for values from (2000) to (3000) partition by list (id);
create table event_new_1 partition of event_new for values in (1, 2, 3);
create table event_new_2 partition of event_new default;
insert into event select n, 1990, 'e' || n, 'l' || n from generate_series(1, 5) n;
"""


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_a_row_that_goes_to_another_partition_is_the_same_row(database: Target, tmp_path: Path, how: How) -> None:
    """What is captured is a deletion and an insertion: it keeps what only the twin has, and is put aside whole."""
    change = "alter table event drop legacy; alter table event alter what type text"
    found = operations(("column-removed", "event", "event", "legacy", None))
    with ground(database, tmp_path, ACROSS, change, found, how=how) as made:
        made.write("update event set year = 2001 where id in (1, 4)", "update event set what = 'x' where id = 1")
        made.write("update event set year = 2001 where id = 2", "update event set year = 1980, id = 20 where id = 2")
        made.write("update event set year = 2003, what = 'far too long' where id = 3")
        made.write("delete from event where id = 5", "insert into event values (6, 2001, 'new')")
        outcome = made.carry()
        assert made.old("select id, year, what, legacy from event order by id") == [
            (1, 2001, "x", "l1"),
            (3, 1990, "e3", "l3"),
            (4, 2001, "e4", "l4"),
            (6, 2001, "new", "d"),
            (20, 1980, "e2", "d"),
        ]
        assert sorted(one["key"]["year"] for one in lines(outcome, "put_aside")) == ["1990", "2003"]
