"""`safepoint plan --way-back` says which mappers make a rollback read a whole table with the site closed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from schemas_by_hand import DATA
from test_mapping_table import MAPPERS, SCHEMAS, plan_file

from safepoint.launch.report.mapping import mapping_table
from safepoint.launch.wayback.waybacks import keep_way_back, newest_way_back
from safepoint.launch.whose import own_mark
from safepoint.wayback.trial.roundtrip import ANYTHING, RoundTrip, TableTrip


def notes(tmp_path: Path, *reads: str, mapped: bool = True) -> list[str]:
    plan = plan_file(tmp_path)
    trip = RoundTrip((TableTrip("public.line", 300_000, 0, 0, {}, reads=reads),), 0.1)
    keep_way_back(
        plan.state / "rehearsals/r", release="2.0", by="rehearsal", source=own_mark(plan), schemas=SCHEMAS, trip=trip
    )
    made = mapping_table(newest_way_back(plan), MAPPERS if mapped else {}, "1.0", datetime.now(UTC))
    return [note for note in made.notes if "besides" in note]


def test_a_mapper_that_reads_another_table_is_named_with_what_that_costs(tmp_path: Path) -> None:
    (note,) = notes(tmp_path, "public.price", "shop.rate")
    assert note.startswith("line: a mapper reads price, shop.rate besides its row.")
    assert note.endswith("all rows of line while the site is closed: 300,000 on the copy.")
    assert notes(tmp_path) == [] and notes(tmp_path, "public.price", mapped=False) == []


def test_one_that_may_read_anything_says_that_any_write_counts(tmp_path: Path) -> None:
    (note,) = notes(tmp_path, ANYTHING)
    assert "what nobody can tell" in note


def test_a_migration_that_runs_sql_twice_is_noted_once() -> None:
    twice = replace(SCHEMAS.operations, operations=(*SCHEMAS.operations.operations, DATA, DATA))
    told = [note for note in replace(SCHEMAS, operations=twice).mapping(MAPPERS).notes if "Raw Python" in note]
    assert len(told) == 1
