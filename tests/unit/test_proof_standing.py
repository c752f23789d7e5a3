"""May a window begin by the proof of its way back? Not without one, nor by one of something else. Nothing runs here."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from schemas_by_hand import catalogue, column, effect, operations, table
from stories import PLAN_FILE

from safepoint.config import PlanFile
from safepoint.config.load import parse
from safepoint.errors import PlanFileError, Refused
from safepoint.launch.judging import judge
from safepoint.launch.ledger import Ledger
from safepoint.launch.rehearsal.notes import reasons
from safepoint.launch.wayback.following import standby_of
from safepoint.launch.wayback.proof_standing import capture_reasons, other_tables, refuse_unproven, way_back_reasons
from safepoint.launch.wayback.proving import unproven
from safepoint.rehearsal.observation import Observed
from safepoint.wayback.capture.capture import CaptureFacts
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.mapping.deriving import plan_mapping
from safepoint.wayback.mapping.mapping import WayBack, changed_rules, untouched_as_now

WAIVER = '\n[wayback.waiver]\nrelease = "{}"\nby = "Ada Stone"\nreason = "nobody writes until Monday"\n'
NEEDED = {"proven": False, "reasons": ["item.price needs a mapper.", "item.code needs a mapper."]}

ITEM = table("item", column("id"), column("price"))
CENTS = table("item", column("id"), column("cents", "bigint"))
NOTE = table("note", column("id"), column("what", "text"))
RENAMED = operations(effect("column-renamed", "item", "item", "price", "cents"))
LIVE = catalogue(ITEM, NOTE)


def plan(more: str = "") -> PlanFile:
    return parse(PLAN_FILE.format(date="2026-03-01", zone="UTC", more=more), Path("launch.toml"))


def mapping(old: Catalogue = LIVE, *new: Table) -> WayBack:
    return plan_mapping(old, catalogue(*(new or (CENTS, NOTE))), RENAMED)


def proof(**other: Any) -> dict[str, Any]:
    return {"proven": True, "mapping": mapping().as_json(), "mappers": {}, "digest": "d", **other}


def test_a_way_back_that_is_not_proven_is_a_no_go_that_says_what_to_do() -> None:
    ((verdict, why),) = way_back_reasons(NEEDED, plan(), None, None)
    assert verdict == "fail" and "carry nothing (item.price needs a mapper, and 1 more)" in why
    assert "safepoint plan --way-back" in why and "[wayback.waiver]" in why
    with pytest.raises(Refused) as refused:
        refuse_unproven(plan(), tuple(NEEDED["reasons"]), "prove-way-back")
    assert "item.price needs a mapper" in refused.value.message and "[wayback.waiver]" in str(refused.value.remedy)


def test_that_nothing_was_tried_is_a_no_go_too() -> None:
    assert way_back_reasons(None, plan(), None, None)[0][0] == "fail"


def test_who_accepts_it_of_this_release_and_why_is_said_to_whoever_decides() -> None:
    accepted = plan(WAIVER.format("2.0"))
    refuse_unproven(accepted, ("item.price needs a mapper.",), "prove-way-back")
    reasons = way_back_reasons(NEEDED, accepted, None, None)
    said = judge([*reasons, ("pass", "the code is as it was frozen")], by_person=False)
    assert said.verdict == "pass" and said.facts["reasons"][0]["verdict"] == "waived"
    asked = judge(reasons, by_person=True)
    assert asked.verdict == "inconclusive"
    for one in (said, asked):
        assert "NOT proven" in one.summary and "nobody writes until Monday (Ada Stone)" in one.summary


def test_what_was_accepted_of_another_release_holds_for_this_one_no_more() -> None:
    earlier = plan(WAIVER.format("1.9"))
    ((verdict, why),) = way_back_reasons(NEEDED, earlier, None, None)
    assert verdict == "fail" and "is of release 1.9, and 2.0 is launched" in why
    with pytest.raises(Refused):
        refuse_unproven(earlier, ("item.price needs a mapper.",), "prove-way-back")


def test_a_waiver_without_a_name_or_a_reason_is_none() -> None:
    for more in (WAIVER.format("2.0").replace("Ada Stone", ""), WAIVER.format("2.0").partition("reason")[0]):
        with pytest.raises(PlanFileError):
            plan(more)


def test_a_plan_that_leaves_the_proof_out_says_so_where_somebody_decides() -> None:
    ((verdict, why),) = way_back_reasons(None, plan("\n[wayback]\nprove = false\n"), None, None)
    assert verdict == "waived" and "carry nothing" in why


def test_a_proof_of_these_migrations_by_these_mappers_on_this_schema_has_nothing_against_it() -> None:
    assert way_back_reasons(proof(), plan(), "d", LIVE) == []
    assert way_back_reasons({"proven": True, "mapping": mapping().as_json()}, plan(), "d", LIVE) == []  # of before


def test_a_proof_of_other_migrations_by_other_mappers_or_on_another_schema_is_a_no_go() -> None:
    mapper = '\n[wayback.tables.item]\ncolumns = { price = "cents / 100" }\n'
    wider = catalogue(table("item", column("id"), column("price"), column("vat")), NOTE)
    for what, found in {
        "other migrations": way_back_reasons(proof(), plan(), "e", LIVE),
        "other mappers": way_back_reasons(proof(), plan(mapper), "d", LIVE),
        "another schema: item came": way_back_reasons(proof(), plan(), "d", wider),
    }.items():
        ((verdict, why),) = found
        assert verdict == "fail" and what in why and "`safepoint launch` begins anew" in why


def test_tables_that_the_migrations_leave_alone_may_have_come_gone_or_changed_since() -> None:
    """A report of each night, say: the rollback carries them as they are."""
    wider = table("note", column("id"), column("what", "text"), column("at", "date"))
    nightly, tenant = table("report_0301", column("id")), replace(ITEM, schema="tenant")
    for since in ((NOTE, nightly), (), (wider,)):
        assert other_tables(mapping(), catalogue(ITEM, *since)) == []
        old = catalogue(ITEM, *since)
        now = mapping(old, CENTS, *since)
        assert changed_rules(mapping(), now) != ()
        assert untouched_as_now(mapping(), now, old).feeds == now.feeds
        assert changed_rules(untouched_as_now(mapping(), now, old), now) == ()
    assert other_tables(mapping(), catalogue(ITEM, NOTE, tenant)) == ["tenant.item"]
    assert other_tables(mapping(), catalogue(NOTE)) == ["public.item"]


def test_what_was_touched_is_not_taken_as_it_is_now() -> None:
    wider = table("item", column("id"), column("price"), column("vat"))
    old = catalogue(wider, NOTE)
    now = mapping(old, table("item", column("id"), column("cents"), column("vat")), NOTE)
    assert changed_rules(untouched_as_now(mapping(), now, old), now) == ("public.item",)
    made = mapping(LIVE, CENTS, NOTE, table("made", column("id")))  # after the launch: stashed, as before
    assert untouched_as_now(mapping(), made, LIVE) == mapping()


def test_that_nothing_will_be_captured_is_a_no_go_unless_it_is_accepted() -> None:
    none = ("none", "wal_level is replica; no triggers either")
    ((verdict, why),) = capture_reasons(*none, plan())  # type: ignore[arg-type]
    assert verdict == "fail" and "wal_level is replica" in why and "carries nothing" in why
    assert capture_reasons(*none, plan(WAIVER.format("2.0")))[0][0] == "waived"  # type: ignore[arg-type]
    assert capture_reasons("triggers", "wal_level is replica", plan()) == capture_reasons("logical", None, plan()) == []
    assert capture_reasons(*none, plan("\n[wayback]\nprove = false\n")) == []  # type: ignore[arg-type]  # said already


def test_a_rehearsal_says_no_go_where_the_launch_would() -> None:
    seen = Observed.__new__(Observed)
    object.__setattr__(seen, "error", None)
    found = unproven("item.price needs a mapper.", "item.code needs a mapper.")
    (why,) = reasons(seen, (), found, None, waived=False)
    assert why.startswith("the way back is not proven (item.price needs a mapper, and 1 more)")
    assert reasons(seen, (), found, None, waived=True) == reasons(seen, (), None, None, waived=False) == ()


def test_a_rollback_goes_by_the_mappers_of_the_proof_whatever_the_plan_file_has_by_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be at the next launch by now, or somebody mends a mapper too late."""
    now = plan('\n[wayback]\nfollow = "live"\n\n[wayback.tables.item]\ncolumns = { price = "cents / 100" }\n')
    monkeypatch.setenv("SAFEPOINT_DB_PASSWORD", "x")
    known, mappers = proof(operations=RENAMED.as_json()), {"item": {"price": "cents"}}
    facts = CaptureFacts("l", "shop", "logical", None, "s", "p", "0/1", 1, True)
    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        ledger.append("fact", "fact:0:capture", facts.as_json())
        ledger.append("fact", "fact:0:way-back", known)
        found = standby_of(now, "l", ledger.entries)
        ledger.append("fact", "fact:1:way-back", {**known, "mappers": mappers})
        assert found is not None and found.mappers == {} and found.mapping == mapping()
        assert (again := standby_of(now, "l", ledger.entries)) and again.mappers == mappers
