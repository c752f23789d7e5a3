"""The rehearsed rollback: generated writes of every kind are captured, replayed and compared; what differs is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import RELAX, RELAXED, SHOP, Ground, ground
from written_ground import BEFORE, MIGRATION, OPERATIONS, SAME

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How, arm, disarm
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.trial.roundtrip import Accepted
from safepoint.wayback.trial.trial import LAUNCH, Trial, try_replay
from safepoint.wayback.trial.writes import KINDS, write_everything


def tried(made: Ground, how: How = "auto") -> Trial:
    disarm(made.live, made.facts)  # the trial has a capture of its own
    facts = arm(made.live, LAUNCH, how)
    return try_replay(made.twin, made.live, made.mapping(), made.folder / "trial", facts)


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_every_kind_of_write_is_carried_back_and_the_twin_is_the_mapping_of_the_migrated_rows(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, BEFORE, MIGRATION, OPERATIONS) as made:
        trial = tried(made, how)
        assert (trial.verdict, trial.reasons, trial.aside) == ("equal", (), 0)
        # Keyed, composite, partitioned and keyless tables; who takes what is the schema's own business.
        assert set(trial.writes) == set(KINDS) and all(trial.writes.values()), (trial.writes, trial.refused)
        assert trial.writes["insert"] == trial.writes["update"] == 4
        assert trial.carried == trial.transactions >= 12
        for table in ("line", "event", "part"):  # item has copies of its columns, which are written to as well
            expected, found = SAME[table]
            assert sorted(map(repr, made.old(found))) == sorted(map(repr, made.new(expected))), table


def test_a_twin_that_is_not_level_is_found(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.old("update customer set name = 'another' returning id")
        trial = tried(made)
        assert trial.verdict == "differs" and any("customer" in one for one in trial.reasons), trial


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("part", "update part set note = '{}' where id = 50"),
        ("part", "delete from part where id = 50"),
        ("part", "insert into part values (66, 'b', null)"),
        ("line", "update line set no = 7 where item_id = 11 and no = 1"),
    ],
)
def test_a_row_that_no_write_touched_is_compared_as_well(
    database: Target, tmp_path: Path, table: str, statement: str
) -> None:
    more = "insert into part select n, 'a', null from generate_series(20, 60) n"  # not the table that is truncated
    with ground(database, tmp_path, (BEFORE, more), MIGRATION, OPERATIONS) as made:
        made.old(f"with done as ({statement} returning 1) select count(*) from done")
        trial = tried(made)
        assert trial.verdict == "differs" and all(one.startswith(table) for one in trial.reasons), trial


def test_what_the_schema_refuses_is_told_and_the_rest_is_tried(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("create function no() returns trigger language plpgsql as $$ begin raise 'never'; end $$")
        made.write("create trigger no before insert on customer for each row execute function no()")
        trial = tried(made)
        assert trial.verdict == "equal", trial.reasons
        assert any("insert in public.customer: never" in one for one in trial.refused), trial.refused
        assert trial.writes["insert"] == 2


def test_rows_that_a_migration_added_are_no_difference_where_the_plan_accepts_them(
    database: Target, tmp_path: Path
) -> None:
    before = "create table grp (id serial primary key, name text); insert into grp (name) values ('staff')"
    with ground(
        database, tmp_path, before, "insert into grp (name) select 'g' || n from generate_series(1, 3) n"
    ) as at:
        disarm(at.live, at.facts)
        accepted = Accepted(frozenset({"public.grp"}))
        facts = arm(at.live, LAUNCH)
        trial = try_replay(at.twin, at.live, at.mapping(), at.folder / "trial", facts, accepted=accepted)
        assert trial.verdict == "equal", trial


def test_a_table_of_nothing_but_a_counted_key_is_written_to(database: Target, tmp_path: Path) -> None:
    before = "create table ticket (id serial primary key); insert into ticket default values"
    with ground(database, tmp_path, before, "select 1") as made:
        trial = tried(made)
        assert (trial.verdict, trial.writes["insert"]) == ("equal", 1), trial
        assert not any("syntax" in one for one in trial.refused), trial.refused


FAMILIES = """
create table parent (id int primary key generated by default as identity, name text);
create table child (id int primary key generated by default as identity, parent_id int not null references parent);
create index on child (parent_id);
insert into parent (id, name) select n, 'n' from generate_series(1, 200) n;
alter table parent alter id restart 300;
insert into child (parent_id) select 1 from generate_series(1, 1500);
insert into child (parent_id) select n from generate_series(2, 200) n, generate_series(1, 2);
"""


def test_few_rows_are_written_however_many_children_a_row_has(database: Target) -> None:
    with connect(database) as connection:
        connection.execute(FAMILIES)
        catalogue = read_catalogue(connection)
        found = write_everything(connection, catalogue, ["public.parent"])
        left = connection.execute("select count(*), min(parent_id) from child").fetchone()
    written = {one.kind for one in found if one.rows and one.table == "public.parent"}
    assert {"insert", "update", "delete", "cascade"} <= written, found
    assert left is not None and left[0] > 1500 and left[1] == 1  # the first parent is the one with too many


def test_a_row_with_children_is_found_where_the_first_hundred_have_none(database: Target) -> None:
    with connect(database) as connection:
        connection.execute(FAMILIES)
        connection.execute("delete from child where parent_id < 150")
        found = write_everything(connection, read_catalogue(connection), ["public.parent"])
    assert [one.rows for one in found if one.kind == "cascade"] == [1], found
