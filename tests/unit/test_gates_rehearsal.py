"""May a window begin? Only after a rehearsal of these very migrations, on data of the day. Nothing runs here."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stories import PLAN_FILE

from safepoint.backup.manifest import mark_of
from safepoint.config import PlanFile
from safepoint.config.load import parse
from safepoint.django.pending import Pending, PendingMigration
from safepoint.launch.judging import Reason
from safepoint.launch.plan import make_plan
from safepoint.launch.rehearsal.rehearsals import FORMAT, rehearsals_of
from safepoint.launch.verbs.gates import lateness_reasons, rehearsal_reasons, rehearsed_way_back
from safepoint.launch.whose import own_mark

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
COMMAND = "safepoint rehearse --plan launch.toml"


def pending(*contents: str) -> Pending:
    return Pending("1@1", (), tuple(PendingMigration(f"shop.{one[0]}", one, True, True, ()) for one in contents))


def rehearsal(of: Pending, verdict: str = "go", hours: float = 15) -> dict[str, Any]:
    return {
        "digest": of.digest,
        "verdict": verdict,
        "reasons": [] if verdict == "go" else ["tags: before 1, after 2"],
        "made_at": "2026-02-28T19:00:00+00:00",
        "snapshot": {"id": "s", "taken_at": (NOW - timedelta(hours=hours)).isoformat()},
        "migrations": [one.as_json() for one in of.migrations],
    }


def reasons(found: list[dict[str, Any]], now: Pending) -> list[Reason]:
    return rehearsal_reasons(found, now, NOW, timedelta(hours=36), COMMAND)


def test_these_very_migrations_rehearsed_on_young_data_are_a_go() -> None:
    assert reasons([rehearsal(pending("aa", "bb"))], pending("aa", "bb"))[0][0] == "pass"
    assert reasons([], pending())[0][0] == "pass"


def test_no_rehearsal_or_one_of_other_migrations_is_a_no_go_with_the_command() -> None:
    cases = {
        "not rehearsed": ([], pending("aa")),
        "shop.b": ([rehearsal(pending("aa", "bb"))], pending("aa", "b2")),
        "shop.c": ([rehearsal(pending("aa"))], pending("aa", "cc")),
        "shop.a (no longer pending)": ([rehearsal(pending("aa", "bb"))], pending("bb")),
        "their order": ([rehearsal(pending("aa", "bb"))], pending("bb", "aa")),
    }
    for what, (found, now) in cases.items():
        ((verdict, why),) = reasons(found, now)
        assert verdict == "fail" and what in why and f"`{COMMAND}`" in why


def test_a_bad_verdict_old_data_and_a_clock_that_went_back_are_each_told() -> None:
    now = pending("aa")
    ((verdict, why),) = reasons([rehearsal(now, "no-go")], now)
    assert verdict == "fail" and "tags: before 1, after 2" in why
    assert [one[0] for one in reasons([rehearsal(now, "no-go", 40)], now)] == ["fail", "fail"]
    assert "36 h" in reasons([rehearsal(now, hours=40)], now)[0][1]
    assert reasons([rehearsal(now, hours=-1)], now)[0][0] == "fail"


def test_the_newest_rehearsal_of_these_migrations_counts_also_behind_one_of_others() -> None:
    now = pending("aa")
    assert reasons([rehearsal(pending("xx")), rehearsal(now), rehearsal(now, "no-go")], now)[0][0] == "pass"


def test_the_launch_rehearses_before_it_proves_unless_the_plan_leaves_it_out() -> None:
    def steps(more: str = "") -> list[str]:
        plan: PlanFile = parse(PLAN_FILE.format(date="2026-03-01", zone="UTC", more=more), Path("launch.toml"))
        return [step.id for step in make_plan(plan).steps]

    assert steps()[3:6] == ["store", "rehearse", "prove-way-back"]
    assert "rehearse" not in steps("\n[rehearsal]\nrequired = false\n")


def test_a_window_that_would_begin_much_later_than_people_were_told_is_a_persons_to_begin() -> None:
    at = "2026-03-01T09:00:00+01:00"
    assert [one for minutes in (-5, 0, 14) for one in lateness_reasons(at, then(minutes))] == []
    assert lateness_reasons(None, then(300)) == []
    ((verdict, why),) = lateness_reasons(at, then(300))
    assert verdict == "inconclusive" and at in why and "5" in why


def then(minutes: float) -> datetime:
    return datetime(2026, 3, 1, 8, tzinfo=UTC) + timedelta(minutes=minutes)


def test_a_rehearsal_on_the_copy_of_another_database_is_none_of_this_one(tmp_path: Path) -> None:
    """The same code is launched on several databases, by plan files that share a state folder."""
    plan = parse(PLAN_FILE.format(date="2026-03-01", zone="UTC", more=""), tmp_path / "launch.toml")
    other = rehearsal(pending("aa"))
    other["snapshot"]["source"] = mark_of("db.example:5432", "other")
    silent = rehearsal(pending("aa"))  # of an earlier version, and its snapshot is not here any more
    own = rehearsal(pending("aa"))
    own["snapshot"]["source"] = own_mark(plan)
    for name, one in (("other", other), ("silent", silent)):
        folder = plan.state / "rehearsals" / name
        folder.mkdir(parents=True)
        (folder / "rehearsal.json").write_text(json.dumps({**one, "format": FORMAT, "release": "2.0"}))
    assert rehearsals_of(plan) == []
    (folder / "rehearsal.json").write_text(json.dumps({**own, "format": FORMAT, "release": "2.0"}))
    assert [one["snapshot"]["source"] for one in rehearsals_of(plan)] == [own_mark(plan)]


def test_a_rehearsal_of_other_mappers_says_nothing_of_the_way_back_by_these() -> None:
    more = '[wayback.tables.invoice]\ncolumns = { total = "new.net + 1" }\n'
    plan = parse(PLAN_FILE.format(date="2026-03-01", zone="UTC", more=more), Path("launch.toml"))
    own: dict[str, Any] = {"proven": True, "mappers": json.loads(json.dumps(plan.wayback.mappers))}
    other = {**own, "mappers": {"invoice": {"total": "new.net"}}}
    for fine in (None, own, {"proven": True}, {**other, "proven": False}):  # what is not proven has its verdict
        assert rehearsed_way_back(fine, plan, COMMAND) == []
    ((verdict, why),) = rehearsed_way_back(other, plan, COMMAND)
    assert verdict == "fail" and "other mappers" in why and f"`{COMMAND}`" in why
