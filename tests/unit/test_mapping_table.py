"""`safepoint plan --way-back`: the mapping as a table that a person can check, from what a copy has shown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stories import PLAN_FILE
from test_mapping import DATA, catalogue, column, effect, operations, table

from safepoint.backup.manifest import mark_of
from safepoint.config import PlanFile
from safepoint.config.load import parse
from safepoint.errors import Refused
from safepoint.launch.report.mapping import MappingTable, brief, mapping_page, mapping_table, markdown
from safepoint.launch.wayback.waybacks import NAME, keep_way_back, newest_way_back
from safepoint.launch.whose import own_mark
from safepoint.wayback.mapping.mapping import SAME, Line
from safepoint.wayback.mapping.schemas import Schemas
from safepoint.wayback.trial.roundtrip import Accepted, RoundTrip, TableTrip, doubtful

OLD = catalogue(
    table("line", column("id"), column("debit", "numeric(8,2)", not_null=True), column("memo", "text"), column("no")),
    table("log", column("id"), column("a|b", "text")),
)
NEW = catalogue(
    table("posting", column("id"), column("cents", "bigint"), column("note", "text")),
    table("log", column("id"), column("a|b", "text")),
    table("tag", column("id")),
)
FOUND = operations(
    effect("table-renamed", "line", "posting"),
    effect("column-renamed", "posting", None, "memo", "note"),
    effect("column-added", "posting", None, "cents"),
    DATA,
    effect("column-removed", "posting", None, "debit"),
    effect("column-removed", "posting", None, "no"),
    effect("table-created", "tag"),
)
SCHEMAS = Schemas(OLD, NEW, FOUND)


MAPPERS = {"line": {"debit": "greatest(cents, 0) / 100.0", "no": "NULL"}}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def plan_file(tmp_path: Path) -> PlanFile:
    return parse(PLAN_FILE.format(date="2026-03-01", zone="UTC", more=""), tmp_path / "launch.toml")


def rehearsed(plan: PlanFile, trip: RoundTrip, doubts: Sequence[str]) -> None:
    """A rehearsal has left what it found out of the way back."""
    keep_way_back(
        plan.state / "rehearsals" / "r",
        release="2.0",
        by="rehearsal",
        source=own_mark(plan),
        schemas=SCHEMAS,
        trip=trip,
        doubts=doubts,
    )


def test_both_schemas_come_back_from_json_as_they_were() -> None:
    assert Schemas.from_json(json.loads(json.dumps(SCHEMAS.as_json()))) == SCHEMAS


def test_each_line_says_where_its_value_comes_from_and_what_the_round_trip_found(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    wrong = TableTrip("public.line", 9, 0, 0, {"memo": 3})
    folder = plan.state / "launches" / "an-earlier-one"
    keep_way_back(
        folder,
        release="2.0",
        by="proof",
        source=own_mark(plan),
        schemas=SCHEMAS,
        trip=RoundTrip((wrong,), 0.1),
        doubts=("memo!",),
    )
    known = newest_way_back(plan)
    made = mapping_table(known, {}, "1.0", known.made_at + timedelta(hours=2))
    lines = {(line.table, line.column): line for line in made.lines}
    assert lines["line", "memo"].kind == "renamed" and "column-renamed memo" in lines["line", "memo"].source
    assert lines["line", "memo"].doubt == "3 values did not come back"
    assert lines["line", "debit"].kind == "none" and lines["tag", "*"].kind == "stashed"
    assert "proof" in made.made and "2 h" in made.made and "launches/an-earlier-one" in made.made
    assert 'columns = { debit = "SQL", memo = "SQL", no = "SQL" }' in made.to_write
    assert len(made.problems) == 2 and made.doubts == ("memo!",) and "need a mapper" in made.verdict


def test_what_is_to_be_written_has_the_rows_that_come_or_go_as_well(tmp_path: Path) -> None:
    plan, trip = (
        plan_file(tmp_path),
        RoundTrip((TableTrip("public.line", 9, 1, 3, {}), TableTrip("public.log", 9, 0, 8, {})), 0.1),
    )
    doubts = doubtful(SCHEMAS.mapping({}), trip)
    assert [one.partition(". ")[0] for one in doubts if "Where" in one] == [
        "line: 1 row is missing after the migration, 3 are new",
        "log: 8 rows are new after the migration",
    ]
    rehearsed(plan, trip, doubts)
    assert mapping_table(newest_way_back(plan), {}, "1.0", NOW).to_write.splitlines() == [
        "# SQL over the new row; coalesce(old.x, x): a row that was there keeps its x of the safe point",
        "[wayback.tables.line]",
        'columns = { debit = "SQL", no = "SQL" }',
        "added_rows = true  # where that may be so: 1 row is missing after the migration, 3 are new",
        "removed_rows = true  # where that may be so: 1 row is missing after the migration, 3 are new",
        "[wayback.tables.log]",
        "added_rows = true  # where that may be so: 8 rows are new after the migration",
    ]


def test_a_removed_table_is_among_what_is_to_be_written_by_its_name(tmp_path: Path) -> None:
    plan, old = plan_file(tmp_path), catalogue(table("gone", column("id")), table("log", column("id")))
    found = operations(DATA, effect("table-deleted", "gone"))
    keep_way_back(
        plan.state / "rehearsals" / "r",
        release="2.0",
        by="rehearsal",
        source=own_mark(plan),
        schemas=Schemas(old, catalogue(table("log", column("id"))), found),
        trip=RoundTrip((), 0.1),
        doubts=(),
    )
    made = mapping_table(newest_way_back(plan), {}, "1.0", NOW)
    assert len(made.problems) == 1
    assert made.to_write == "[wayback.tables.gone]  # where that may be so"
    assert mapping_table(newest_way_back(plan), {"gone": {}}, "1.0", NOW).to_write == ""


def test_a_column_that_has_its_mapper_by_now_is_not_asked_for_because_one_of_its_name_is_stashed(
    tmp_path: Path,
) -> None:
    plan, trip = plan_file(tmp_path), RoundTrip((TableTrip("public.log", 9, 0, 0, {"a|b": 3}),), 0.1)
    rehearsed(plan, trip, doubtful(SCHEMAS.mapping(MAPPERS), trip))
    made = mapping_table(newest_way_back(plan), {**MAPPERS, "log": {"a|b": 'lower("a|b")'}}, "1.0", NOW)
    assert {line.kind for line in made.lines if line.column == "a|b"} == {"mapped", "stashed"}
    assert made.to_write == ""


def test_a_column_that_may_be_empty_from_then_on_is_told(tmp_path: Path) -> None:
    """No row of the copy has a NULL there yet, so the round trip is whole."""
    plan = plan_file(tmp_path)
    names = ("memo", "why", "code")
    old = table("line", column("id", not_null=True), *(column(one, "text", not_null=one != "why") for one in names))
    new = table("line", column("id", not_null=True), *(column(one, "text", not_null=one == "code") for one in names))
    schemas, own = Schemas(catalogue(old), catalogue(new), operations()), own_mark(plan)
    keep_way_back(plan.state / "rehearsals" / "r", release="2.0", by="rehearsal", source=own, schemas=schemas)
    notes = mapping_table(newest_way_back(plan), {}, "1.0", NOW).notes
    assert [one.partition(" may be NULL")[0] for one in notes if "may be NULL" in one] == ["line.memo"]


def test_a_mapper_that_was_written_since_is_in_the_table_at_once(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    keep_way_back(
        plan.state / "rehearsals" / "r", release="2.0", by="rehearsal", source=own_mark(plan), schemas=SCHEMAS
    )
    made = mapping_table(newest_way_back(plan), MAPPERS, "1.0", datetime.now(UTC), ("tag", "public.posting", "tga"))
    assert [note for note in made.notes if "affected" in note] == [
        "wayback.affected.tga: the new schema has no such table."
    ]
    (debit,) = [line for line in made.lines if line.column == "debit"]
    assert (debit.kind, debit.value) == ("mapped", "(greatest(cents, 0) / 100.0)")
    assert debit.source == "launch.toml: wayback.tables.line.columns.debit"
    assert made.problems == () and made.proven is None and "not proven yet" in made.verdict
    assert made.as_json()["counts"]["mapped"] == 2


def test_what_a_mapper_has_answered_since_is_no_problem_any_more_and_each_is_told_once(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    asked = SCHEMAS.mapping({}).problems

    def keep(folder: Path, doubts: tuple[str, ...]) -> None:
        mark, trip = own_mark(plan), RoundTrip((), 0.1)
        keep_way_back(folder, release="2.0", by="rehearsal", source=mark, schemas=SCHEMAS, trip=trip, doubts=doubts)

    for doubts in (asked, (*asked, "memo!")):
        folder = plan.state / "rehearsals" / "r"
        keep(folder, doubts)
        known = newest_way_back(plan)
        without, mapped = (mapping_table(known, mappers, "1.0", NOW) for mappers in ({}, MAPPERS))
        assert (*without.problems, *without.doubts) == doubts
        assert (*mapped.problems, *mapped.doubts) == doubts[2:]
    answered = mapping_table(known, MAPPERS, "1.0", NOW)
    assert "not every value came back" in answered.verdict
    keep(folder, asked)
    answered = mapping_table(newest_way_back(plan), MAPPERS, "1.0", NOW)
    assert "not proven yet" in answered.verdict and "safepoint rehearse" in answered.verdict


@pytest.mark.parametrize(
    ("missing", "extra", "answers", "proven"),
    [
        (0, 8, {"added": {"log"}}, None),
        (0, 8, {"removed": {"log"}}, False),
        (0, 8, {"added": {"line"}}, False),
        (5, 8, {"added": {"log"}}, False),
        (5, 8, {"added": {"log"}, "removed": {"log"}}, None),
        (5, 0, {"added": {"log"}, "removed": {"log"}}, None),
    ],
)
def test_rows_that_may_come_or_go_by_what_the_plan_file_says_now_are_no_problem_any_more(
    tmp_path: Path, missing: int, extra: int, answers: dict[str, set[str]], proven: bool | None
) -> None:
    plan, trip = plan_file(tmp_path), RoundTrip((TableTrip("public.log", 9, missing, extra, {}),), 0.1)
    rehearsed(plan, trip, doubtful(SCHEMAS.mapping(MAPPERS), trip))
    accepted = Accepted.of(OLD, answers.get("added", set()), answers.get("removed", set()))
    made = mapping_table(newest_way_back(plan), MAPPERS, "1.0", NOW, accepted=accepted)
    assert made.proven is proven and (made.doubts == ()) is (proven is None)
    assert proven is False or any("only another proof tells" in note for note in made.notes)


def test_a_mapper_is_shown_as_it_is_written_into_the_plan_file(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    keep_way_back(
        plan.state / "rehearsals" / "r", release="2.0", by="rehearsal", source=own_mark(plan), schemas=SCHEMAS
    )
    made = mapping_table(newest_way_back(plan), {}, "1.0", NOW)
    for text in (markdown(made), mapping_page(made).replace("&quot;", '"')):
        assert "[wayback.tables.line]" in text and 'columns = { debit = "SQL", no = "SQL" }' in text


def test_the_page_and_the_markdown_let_no_name_end_a_cell(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    keep_way_back(
        plan.state / "rehearsals" / "r", release="2.0", by="rehearsal", source=own_mark(plan), schemas=SCHEMAS
    )
    made = mapping_table(newest_way_back(plan), {"line": {"memo": "'<b>|' || note"}}, "1.0", NOW)
    assert "<b>|" not in mapping_page(made) and "&lt;b&gt;" in mapping_page(made)
    rows = [line for line in markdown(made).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {6}


def test_without_a_proof_or_a_rehearsal_of_this_release_the_command_to_run_is_said(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    keep_way_back(
        plan.state / "rehearsals" / "old", release="1.9", by="rehearsal", source=own_mark(plan), schemas=SCHEMAS
    )
    (plan.state / "rehearsals" / "torn").mkdir()
    (plan.state / "rehearsals" / "torn" / NAME).write_text('{"format": 1')
    with pytest.raises(Refused) as refused:
        newest_way_back(plan)
    assert "safepoint rehearse" in str(refused.value.remedy)


def test_one_of_another_database_that_shares_the_state_folder_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    other = mark_of("db.example:5432", "other")
    keep_way_back(plan.state / "rehearsals" / "r", release="2.0", by="rehearsal", source=other, schemas=SCHEMAS)
    with pytest.raises(Refused):
        newest_way_back(plan)


def test_a_person_is_told_first_what_migrations_have_touched(tmp_path: Path) -> None:
    plan = plan_file(tmp_path)
    rehearsed(plan, RoundTrip((), 0.0), ())
    whole = mapping_table(newest_way_back(plan), MAPPERS, "1.0", NOW)
    told, left = brief(whole)
    assert left == ("log",) and {line.table for line in whole.lines} - {line.table for line in told.lines} == {"log"}
    assert [(line.column, line.kind, line.value) for line in told.lines if line.table == "line"][:2] == [
        ("*", "renamed", "posting"),
        ("id", "same", 'new."id"'),
    ]
    assert [line for line in whole.lines if not line.plain] == [line for line in told.lines if not line.plain]


def test_columns_that_stay_as_they_are_share_a_line() -> None:
    same = [Line("t", name, "same", f"new.{name}", SAME) for name in "ab"]
    doubted = Line("t", "c", "same", "new.c", SAME, "2 values did not come back")
    told, left = brief(MappingTable("1", "2", "", None, (*same, doubted), (), (), ()))
    assert left == () and [(line.column, line.doubt) for line in told.lines] == [("a, b", ""), ("c", doubted.doubt)]
