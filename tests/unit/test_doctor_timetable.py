"""The doctor's judgement of the timetable, and what becomes of checks that cannot look."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from least_plan import LEAST

from safepoint.config import PlanFile
from safepoint.config.load import parse
from safepoint.errors import PlanFileError, StoreError
from safepoint.launch.doctor.doctor import failures, rehearsal, timetable
from safepoint.launch.doctor.finding import Finding, guarded, ok

NOW = datetime(2026, 2, 20, tzinfo=UTC)


def plan(day: str, moments: str = "") -> PlanFile:
    return parse(f"{LEAST.replace('2026-03-01', day)}[timetable]\n{moments}\n", Path("launch.toml"))


def verdicts(day: str, moments: str = "", now: datetime = NOW) -> list[tuple[str, str]]:
    return [(one.check, one.verdict) for one in timetable(plan(day, moments), now)]


def test_a_timetable_ahead_is_well() -> None:
    assert verdicts("2026-03-01") == [("timetable", "ok")]


def test_a_first_phase_that_is_over_is_a_warning_because_a_launch_may_go_without_waiting() -> None:
    assert verdicts("2026-02-20", now=datetime(2026, 2, 19, 17, 1, tzinfo=UTC)) == [("timetable", "warning")]
    assert verdicts("2026-02-20", now=datetime(2026, 2, 19, 16, 59, tzinfo=UTC)) == [("timetable", "ok")]


def test_a_change_of_the_clocks_during_the_launch_is_a_warning() -> None:
    assert verdicts("2026-03-28") == [("timetable", "ok"), ("timetable", "warning")]


def test_a_snapshot_that_would_be_too_old_at_the_gate_is_a_warning() -> None:
    assert verdicts("2026-03-01", 'freeze = "T 07:00"') == [("timetable", "ok")]
    assert verdicts("2026-03-01", 'freeze = "T 06:59"') == [("timetable", "ok"), ("timetable", "warning")]
    early = [one.message for one in timetable(plan("2026-03-03", 'prepare = "T-2 18:00"'), NOW)]
    assert len(early) == 2 and early[1].startswith("The rehearsal's snapshot will be 39 h old"), early


def test_a_time_that_does_not_exist_is_a_failure_that_names_it() -> None:
    with pytest.raises(PlanFileError, match="does not exist"):
        verdicts("2026-03-29", 'freeze = "T 01:00"\nstop = "T 02:30"')
    (finding,) = guarded(
        "timetable", lambda: timetable(plan("2026-03-29", 'freeze = "T 01:00"\nstop = "T 02:30"'), NOW)
    )
    assert finding.verdict == "failure" and "stop" in f"{finding.message} {finding.remedy}"


def test_a_window_without_length_is_a_failure() -> None:
    assert ("timetable", "failure") in verdicts("2026-03-01", 'green = "T 09:00"\nmigrate = "T 09:00"')


def test_a_clock_from_long_ago_is_a_failure() -> None:
    assert ("clock", "failure") in verdicts("2026-03-01", now=datetime(1970, 1, 1, tzinfo=UTC))


def test_a_check_that_cannot_look_fails_and_keeps_what_it_had_seen() -> None:
    def look() -> Iterator[Finding]:
        yield ok("stores", "one is fine")
        raise StoreError("two is not", found="403", remedy="ask")

    seen = guarded("stores", look)
    assert [one.verdict for one in seen] == ["ok", "failure"]
    assert seen[1].message == "two is not Found: 403" and failures(seen) == seen[1:]


def test_a_check_that_looked_at_nothing_and_one_with_a_fault_of_its_own_have_failed() -> None:
    assert [one.verdict for one in guarded("x", lambda: ())] == ["failure"]

    def faulty() -> Iterator[Finding]:
        yield from []
        raise KeyError("oops")

    (finding,) = guarded("x", faulty)
    assert finding.verdict == "failure" and "KeyError" in finding.message


IN_A_CONTAINER = (
    '[application]\nurl_env = "X"\nhost = "web"\n[hosts.web]\nkind = "compose"\nservice = "web"\nproject = "."'
)


@pytest.mark.parametrize(
    ("more", "verdict", "said"),
    [
        ('[application]\nhost = "far"\n[hosts.far]\nkind = "ssh"\naddress = "far"', "failure", "application.url_env"),
        ("[rehearsal]\nrequired = false", "ok", "by the plan's choice"),
        ('[application]\nurl_env = "DATABASE_URL"', "ok", "data of the day before"),
        (
            IN_A_CONTAINER,
            "failure",
            "[scratch]",
        ),
        (
            IN_A_CONTAINER + '\n[scratch]\nhost = "scratch.internal"\nuser = "postgres"',
            "warning",
            "scratch.internal:5432",
        ),
    ],
)
def test_a_plan_that_cannot_rehearse_has_to_say_that_it_does_without(more: str, verdict: str, said: str) -> None:
    first = next(rehearsal(parse(LEAST + more, Path("launch.toml")), NOW))
    assert first.verdict == verdict and said in f"{first.message} {first.remedy}"
