"""The rehearsed rollback: generated writes of every kind are captured, replayed and compared; what differs is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import RELAX, RELAXED, SHOP, Ground, ground
from test_replay_equals import BEFORE, MIGRATION, OPERATIONS, SAME

from safepoint.postgres.target import Target
from safepoint.wayback.capture import How, arm, disarm
from safepoint.wayback.trial import LAUNCH, Trial, try_replay
from safepoint.wayback.writes import KINDS


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
