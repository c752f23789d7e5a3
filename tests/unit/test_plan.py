"""The plan: the timetable in the plan's own time zone, and what a person reads of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stories import PLAN_FILE

from safepoint.config import Moment, PlanFile
from safepoint.config.load import parse
from safepoint.errors import PlanFileError, Refused
from safepoint.launch import undo
from safepoint.launch.calendar import calendar, fold, text
from safepoint.launch.ledger import Ledger
from safepoint.launch.plan import Plan, make_plan, phase_starts, refuse_past
from safepoint.launch.report.timetable import markdown, timetable, timetable_page
from safepoint.launch.verbs.gates import GateGreen


def plan_file(day: str = "2026-03-01", zone: str = "Europe/Berlin", more: str = "") -> PlanFile:
    return parse(PLAN_FILE.format(date=day, zone=zone, more=more), Path("launch.toml"))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(plan_file())


def at(plan: Plan, step_id: str) -> datetime:
    begins = plan.step(step_id).at
    assert begins is not None
    return datetime.fromisoformat(begins)


def test_the_runbooks_timetable_stands_in_the_plans_time_zone(plan: Plan) -> None:
    assert plan.step("survey").at == "2026-02-28T18:00:00+01:00"
    assert plan.step("freeze").at == "2026-03-01T08:00:00+01:00"
    assert plan.step("gate-stop").at == "2026-03-01T09:00:00+01:00"
    assert plan.step("migrate").at == "2026-03-01T09:15:00+01:00"
    assert plan.step("gate-canary").at == "2026-03-01T09:30:00+01:00"
    assert plan.step("settle").at is None  # from green on, until the long watch
    assert plan.step("settle").params["until"] == plan.step("watch").at == "2026-03-01T10:00:00+01:00"


def test_the_third_day_after_the_launch_is_counted_in_local_days() -> None:
    starts = phase_starts(plan_file("2026-03-27"))  # the clocks go forward on the 29th
    assert starts["retire"].isoformat() == "2026-03-30T12:00:00+02:00"
    assert starts["stop"].isoformat() == "2026-03-27T09:00:00+01:00"


def test_a_launch_on_the_first_of_a_month_is_prepared_on_the_last_day_before_it() -> None:
    assert phase_starts(plan_file("2028-03-01"))["prepare"].date() == date(2028, 2, 29)


def test_only_the_first_step_of_a_phase_waits_for_the_clock(plan: Plan) -> None:
    seen: set[str] = set()
    for step in plan.steps:
        assert (step.at is not None) == (step.phase not in seen), step.id
        seen.add(step.phase)


@pytest.mark.parametrize(
    ("day", "moment", "fate"),
    [("2026-03-29", "T 02:30", "does not exist"), ("2026-10-25", "T 02:30", "stands twice")],
)
def test_a_moment_that_the_clock_change_makes_unclear_is_refused_by_its_key(day: str, moment: str, fate: str) -> None:
    more = f'\n[timetable]\nprepare = "T-1 18:00"\nfreeze = "{moment}"'
    with pytest.raises(PlanFileError) as raised:
        make_plan(plan_file(day, more=more))
    assert fate in raised.value.message
    assert raised.value.subject == "timetable.freeze"
    assert raised.value.remedy


def test_the_same_moment_is_fine_where_the_clocks_do_not_change() -> None:
    more = '\n[timetable]\nfreeze = "T 02:30"'
    assert at(make_plan(plan_file("2026-03-29", "Asia/Tokyo", more)), "freeze").hour == 2


@given(
    st.dates(date(2024, 1, 1), date(2030, 12, 31)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
    st.integers(-3, 3),
    st.times(),
)
def test_a_moment_shows_on_the_wall_what_the_plan_file_says_or_is_refused(
    day: date, zone: str, days: int, clock: object
) -> None:
    moment = Moment.parse(f"T{days:+d} {clock:%H:%M}")
    try:
        instant = moment.on(day, ZoneInfo(zone))
    except ValueError:
        naive = datetime.combine(day + timedelta(days=days), moment.at)
        offsets = {naive.replace(tzinfo=ZoneInfo(zone), fold=fold).utcoffset() for fold in (0, 1)}
        assert len(offsets) == 2
        return
    back = instant.astimezone(UTC).astimezone(ZoneInfo(zone))
    assert (back.date(), back.strftime("%H:%M")) == (day + timedelta(days=days), f"{clock:%H:%M}")


def test_a_plan_comes_back_from_json_as_it_was(plan: Plan) -> None:
    back = Plan.from_json(json.loads(json.dumps(plan.as_json())))
    assert back == plan
    assert back.digest == plan.digest


def test_the_digest_names_exactly_this_plan(plan: Plan) -> None:
    assert make_plan(plan_file()).digest == plan.digest
    assert make_plan(plan_file("2026-03-02")).digest != plan.digest
    assert make_plan(plan_file(), hurry=True).digest != plan.digest
    assert replace(plan, steps=plan.steps[:-1]).digest != plan.digest


def test_a_plan_holds_no_secret(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEPOINT_DB_PASSWORD", "swordfish")
    assert "swordfish" not in json.dumps(make_plan(plan_file()).as_json())


def test_a_plan_shows_no_login_of_a_store() -> None:
    text = PLAN_FILE.format(date="2026-03-01", zone="UTC", more="")
    text = text.replace("file:offsite", "sftp://bob:hunter2@nas/backups")
    made = make_plan(parse(text, Path("launch.toml")))
    assert made.step("store").commands == ("upload to offsite (sftp://nas/backups), read back, compare",)
    assert "hunter2" not in json.dumps(made.as_json()) and "bob" not in json.dumps(made.as_json())


def test_step_ids_are_unique_and_every_gate_is_marked(plan: Plan) -> None:
    ids = [step.id for step in plan.steps]
    assert len(set(ids)) == len(ids)
    assert [step.id for step in plan.steps if step.gate] == ["gate-stop", "gate-canary", "gate-green"]


def test_nothing_that_changes_the_live_system_is_left_standing_after_a_failure(plan: Plan) -> None:
    """Between closing the site and its canary a failure must lead back, or to a person; it may not just stop."""
    ids = [step.id for step in plan.steps]
    window = plan.steps[ids.index("stop-traffic") :]
    assert {step.on_failure for step in window} <= {"undo", "ask"}
    assert all(step.on_failure == "undo" for step in window[: ids.index("migrate") - ids.index("stop-traffic") + 1])


def test_the_order_of_the_window_is_the_one_that_loses_nothing(plan: Plan) -> None:
    order = [
        "final-proof",
        "stop-traffic",
        "fence",
        "twin",
        "migrate",
        "arm",
        "unfence",
        "start-new",
        "canary",
        "green",
    ]
    places = [[step.id for step in plan.steps].index(step_id) for step_id in order]
    assert places == sorted(places)


BY_COMMANDS = """kind = "command"
close = ["lb", "close"]
open_old = ["lb", "old"]
open_new = ["lb", "new"]
"""


def by_commands(split: str = "", more: str = "") -> PlanFile:
    text = PLAN_FILE.format(date="2026-03-01", zone="UTC", more="")
    return parse(text.replace('kind = "caddy"\n', f"{BY_COMMANDS}{split}\n") + more, Path("launch.toml"))


def test_a_router_that_cannot_split_has_no_canary_and_the_checkpoints_open_the_gate_for_everyone() -> None:
    whole = make_plan(by_commands('split = ["lb", "split", "{percent}"]'))
    plan = make_plan(by_commands())
    assert {step.id for step in whole.steps} - {step.id for step in plan.steps} == {"gate-canary", "canary"}
    ids = [step.id for step in plan.steps]
    assert ids[ids.index("checkpoints") :] == ["checkpoints", "gate-green", "green", "settle", "watch", "keep-logs"]
    gate = plan.step("gate-green")
    assert gate.gate and gate.at is not None and gate.params == {"of": "checkpoints"}
    assert gate.on_failure == "undo"  # nobody has been let in: it leads back, as the canary's gate does
    assert whole.step("gate-green").params == {} and whole.step("gate-green").on_failure == "ask"
    ics = calendar(plan, phase_starts(by_commands()), datetime(2026, 2, 1, 12, tzinfo=UTC))
    assert "canary" not in ics and "everyone" in ics


def test_without_a_canary_a_rollback_has_something_to_carry_from_green_on() -> None:
    plan = make_plan(by_commands())
    begun = [step.id for step in plan.steps]
    assert undo.where(begun[: begun.index("green")]) == "written"
    assert undo.where(begun[: begun.index("green") + 1]) == "open"
    assert undo.way_back(plan, begun)[0].id == undo.AHEAD


@pytest.mark.parametrize(
    ("gates", "verdict"), [("", "pass"), ('canary = "person"', "inconclusive"), ('green = "person"', "inconclusive")]
)
def test_the_first_gate_that_lets_people_in_is_a_persons_where_the_plan_says_so(gates: str, verdict: str) -> None:
    plan_file = by_commands(more=f"[gates]\n{gates}\n")
    seen = {"checkpoints": {"checkpoints": [{"verdict": "pass", "title": "Health page", "detail": "200"}]}}
    step = make_plan(plan_file).step("gate-green")
    ground: Any = SimpleNamespace(plan=plan_file, step=step, evidence=seen.get)
    assert GateGreen().apply(ground).verdict == verdict


def test_a_rollback_carries_ahead_before_it_closes_the_site_and_is_turned_round_by_what_it_has_done(plan: Plan) -> None:
    begun = [step.id for step in plan.steps]
    back = [step.id for step in undo.way_back(plan, begun)]
    assert back[:2] == [undo.AHEAD, "back-stop-traffic"] and back.index("back-drain") < back.index("back-carry")
    # At the canary not everyone had been let in: turning round opens the site, whatever was closed.
    assert [step.id for step in undo.way_forth(plan, [undo.AHEAD])] == ["forth-open"]
    forth = [step.id for step in undo.way_forth(plan, back[:2])]
    assert forth[0] == "forth-stop-traffic" and forth[-1] == "forth-open"


def test_an_abort_in_the_window_opens_the_site_before_it_removes_what_nobody_needs(plan: Plan) -> None:
    steps = [step.id for step in plan.steps]
    back = [step.id for step in undo.way_back(plan, steps[: steps.index("prove-quiet") + 1])]
    assert back[:3] == ["undo-fence", "undo-stop-old", "undo-stop-traffic"]
    assert {"undo-twin", "undo-choose-twin", "undo-migrate-plan"} <= set(back[3:])


def test_what_the_applications_workers_wrote_before_anybody_was_let_in_is_carried_too(plan: Plan) -> None:
    steps = [step.id for step in plan.steps]
    for last, carries in (("old-gone", False), ("unfence", True), ("gate-canary", True)):
        back = [step.id for step in undo.way_back(plan, steps[: steps.index(last) + 1])]
        assert undo.AHEAD not in back and "back-swap" in back  # the site is closed anyway
        assert {step in back for step in ("back-drain", "back-carry", "back-list", "back-tell")} == {carries}, last


def test_a_return_leads_only_to_a_migrated_database_that_is_whole(plan: Plan) -> None:
    steps = [step.id for step in plan.steps]
    back = [step.id for step in undo.way_back(plan, steps[: steps.index("migrate") + 1])]
    assert "nothing whole" in (undo.cannot_return(back, back[:2]) or "")
    back = [step.id for step in undo.way_back(plan, steps[: steps.index("unfence") + 1])]
    assert undo.cannot_return(back, back[:2]) is None
    assert "people write" in (undo.cannot_return(back, [*back[:2], "back-open"]) or "")


def test_after_a_return_that_let_people_in_a_rollback_carries_what_they_wrote(tmp_path: Path, plan: Plan) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    steps = [step.id for step in plan.steps]

    def begin(*names: str) -> None:
        for name in names:
            ledger.append("step.begun", f"{len(ledger.entries)}", {"run": 1}, step=name)

    begin(*steps[: steps.index("canary") + 1], "back-stop-traffic")
    assert undo.where(undo.begun(ledger.entries, plan)) == "open"
    ledger.append("wayforth", "wayforth:1", {"run": 1, "steps": []})
    begin("forth-swap")  # closed: nobody is let in, whatever the launch had done
    assert undo.where(undo.begun(ledger.entries, plan)) == "written"
    assert undo.cannot_leave([]) is not None and undo.cannot_leave(["forth-swap"]) is None
    begin("forth-open")
    back = [step.id for step in undo.way_back(plan, undo.begun(ledger.entries, plan))]
    assert back[0] == undo.AHEAD and "back-carry" in back


def test_a_plan_whose_time_is_over_is_refused_unless_it_hurries(plan: Plan) -> None:
    with pytest.raises(Refused) as raised:
        refuse_past(plan, datetime(2026, 3, 1, tzinfo=UTC))
    assert raised.value.remedy is not None and "--now" in raised.value.remedy
    refuse_past(plan, datetime(2026, 2, 28, 17, 10, tzinfo=UTC))
    refuse_past(replace(plan, hurry=True), datetime(2026, 3, 1, tzinfo=UTC))


# -- what people read ------------------------------------------------------------------------------------------------


def test_the_timetable_shows_moments_as_the_runbook_writes_them(plan: Plan) -> None:
    shown = [(row.moment, row.local) for row in timetable(plan, date(2026, 3, 1)) if row.moment]
    assert shown[0] == ("T-1 18:00", "Sat 2026-02-28 18:00")
    assert ("T 09:15", "Sun 2026-03-01 09:15") in shown


def test_what_a_rehearsal_foresees_stands_with_its_range(plan: Plan) -> None:
    text = markdown(plan, date(2026, 3, 1), {"migrate": 61.0, "fence": 0.2}, {"migrate": (45.0, 90.0)})
    assert "| 1 min 01 s (45.0 s to 1 min 30 s) |" in text and "| 0.20 s |" in text


def test_markdown_has_one_line_a_step_and_no_cell_that_ends_the_table(plan: Plan) -> None:
    hostile = replace(plan, steps=(replace(plan.steps[0], title="a | b\nc", commands=("x `y` | z",)), *plan.steps[1:]))
    lines = [line for line in markdown(hostile, date(2026, 3, 1)).splitlines() if line.startswith("| ")]
    assert len(lines) == len(plan.steps) + len(plan.standby) + 1
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in lines)


def test_the_page_escapes_what_the_plan_file_says(plan: Plan) -> None:
    hostile = replace(plan, steps=(replace(plan.steps[0], title="<script>alert(1)</script>"), *plan.steps[1:]))
    page = timetable_page(hostile, date(2026, 3, 1))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


# -- the calendar ----------------------------------------------------------------------------------------------------


@pytest.fixture
def ics(plan: Plan) -> str:
    return calendar(plan, phase_starts(plan_file()), datetime(2026, 2, 1, 12, tzinfo=UTC))


def unfolded(ics: str) -> list[str]:
    return ics.replace("\r\n ", "").split("\r\n")


def test_the_calendar_has_one_event_a_phase_in_utc(ics: str) -> None:
    lines = unfolded(ics)
    assert lines[0] == "BEGIN:VCALENDAR" and lines[-2:] == ["END:VCALENDAR", ""]
    assert lines.count("BEGIN:VEVENT") == lines.count("END:VEVENT") == 7
    starts = [line for line in lines if line.startswith("DTSTART")]
    assert starts[0] == "DTSTART:20260228T170000Z"
    assert "DTSTART:20260301T080000Z" in starts
    assert "DTSTAMP:20260201T120000Z" in lines
    uids = [line for line in lines if line.startswith("UID:")]
    assert len(set(uids)) == 7


def test_an_event_ends_when_the_next_phase_begins_but_no_night_is_a_meeting(ics: str) -> None:
    spans = list(zip(*(_times(ics, name) for name in ("DTSTART", "DTEND")), strict=True))
    assert spans[0][1] - spans[0][0] == timedelta(hours=2)
    assert spans[2][1] == spans[3][0]
    assert all(timedelta(0) < end - start <= timedelta(hours=2) for start, end in spans)


def _times(ics: str, name: str) -> list[datetime]:
    return [
        datetime.strptime(line.split(":")[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        for line in unfolded(ics)
        if line.startswith(f"{name}:")
    ]


def test_every_line_ends_with_crlf_and_has_at_most_75_octets(ics: str) -> None:
    assert "\n" not in ics.replace("\r\n", "")
    assert max(len(line.encode()) for line in ics.split("\r\n")) <= 75


def test_every_step_of_a_phase_is_named_in_its_event(plan: Plan, ics: str) -> None:
    whole = "\n".join(unfolded(ics))
    assert all(text(step.title) in whole for step in plan.steps)


@given(st.text(max_size=200).filter(lambda value: "\r" not in value and "\n" not in value))
def test_folding_loses_nothing_and_splits_no_character(value: str) -> None:
    folded = fold(value)
    assert folded.replace("\r\n ", "") == value
    assert all(len(line.encode()) <= 75 for line in folded.split("\r\n"))


@given(st.text(alphabet="a\\;,\n:", max_size=30))
def test_an_escaped_text_can_be_read_back(value: str) -> None:
    parts: Callable[[re.Match[str]], str] = lambda m: "\n" if m[1] in "nN" else m[1]  # noqa: E731
    assert re.sub(r"\\(.)", parts, text(value)) == value
    assert "\n" not in text(value)
