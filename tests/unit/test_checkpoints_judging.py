"""The verdicts of the checkpoints, apart from all measuring."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.checkpoints.backup import backup
from safepoint.checkpoints.browser import flags
from safepoint.checkpoints.checkpoint import Checkpoint, timed, worst
from safepoint.checkpoints.database import Connections, judge_connections, judge_size
from safepoint.checkpoints.login import Outcome, Visit, judge_visit, plan_visit
from safepoint.checkpoints.logs import LogMark, advance, judge_log
from safepoint.checkpoints.pages import judge_health
from safepoint.config import Checkpoints, Login
from safepoint.errors import DatabaseError, PlanFileError

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
MB = 1024**2


@pytest.mark.parametrize(
    ("value", "baseline", "verdict"),
    [
        (100 * MB, 100 * MB, "pass"),
        (125 * MB, 100 * MB, "pass"),
        (125 * MB + 1, 100 * MB, "fail"),
        (75 * MB, 100 * MB, "pass"),
        (74 * MB, 100 * MB, "inconclusive"),
        (100 * MB, None, "inconclusive"),
        (100 * MB, 0, "inconclusive"),
    ],
)
def test_growth_beyond_the_share_fails_and_shrinking_as_much_is_open(
    value: int, baseline: int | None, verdict: str
) -> None:
    found = judge_size(value, baseline=baseline, growth=0.25)
    assert found.verdict == verdict
    assert (found.remedy is None) == (verdict == "pass")


@given(value=st.integers(0, 10**13), baseline=st.integers(1, 10**13), growth=st.floats(0.01, 10))
def test_a_size_beyond_its_shown_limit_never_passes(value: int, baseline: int, growth: float) -> None:
    found = judge_size(value, baseline=baseline, growth=growth)
    assert isinstance(found.limit, int)
    assert (found.verdict == "fail") == (value > found.limit)


def test_connections_fail_above_the_share_and_none_at_all_is_no_pass() -> None:
    assert judge_connections(Connections({"active": 50, "idle": 30}, 100, 3), share=0.8).verdict == "pass"
    over = judge_connections(Connections({"active": 50, "idle": 31}, 100, 3), share=0.8)
    assert (over.verdict, over.value, over.limit) == ("fail", 81, 80)
    assert "50 active, 31 idle" in over.detail
    assert judge_connections(Connections({}, 100, 3), share=0.8).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({}, "pass", "proven by a restore"),
        ({"size_bytes": 1}, "pass", "1 bytes"),
        ({"proven": False, "size_bytes": 10**12}, "fail", "not proven"),
        ({"taken_at": None}, "fail", "no snapshot"),
        ({"size_bytes": 0}, "fail", "empty"),
        ({"taken_at": NOW - timedelta(hours=2, seconds=1)}, "fail", "old"),
        ({"taken_at": NOW + timedelta(minutes=1)}, "inconclusive", "future"),
        ({"previous_bytes": 500 * MB}, "inconclusive", "before it were 500 MB"),
        ({"previous_bytes": 400 * MB}, "pass", ""),
    ],
)
def test_a_backup_passes_by_proof_and_age_and_never_by_its_size(
    changes: dict[str, object], verdict: str, words: str
) -> None:
    facts = {"taken_at": NOW - timedelta(hours=1), "size_bytes": 200 * MB, "proven": True}
    found = backup(**{**facts, **changes}, now=NOW, max_age=timedelta(hours=2))  # type: ignore[arg-type]
    assert found.verdict == verdict and words in found.detail
    assert (found.remedy is None) == (verdict == "pass")


@pytest.mark.parametrize(
    ("status", "verdict"), [(200, "pass"), (302, "pass"), (404, "fail"), (503, "fail"), (None, "fail")]
)
def test_a_page_passes_up_to_399(status: int | None, verdict: str) -> None:
    found = judge_health("http://x/", status, "refused", 0.1)
    assert found.verdict == verdict and (found.remedy is None) == (verdict == "pass")


PATTERN = re.compile(Checkpoints().error_pattern)


@pytest.mark.parametrize(
    ("mark", "verdict"),
    [
        (LogMark("e.log", 7, 10, matched=2), "pass"),
        (LogMark("e.log", 7, 10, matched=3), "fail"),
        (LogMark("e.log", 7, 10, tracebacks=3), "fail"),
        (LogMark("e.log", 7, 10, matched=1, gap=True), "inconclusive"),
        (LogMark("e.log", 7, 10, matched=3, gap=True), "fail"),
        (LogMark("e.log", 0, 0), "inconclusive"),
    ],
)
def test_error_lines_are_judged_against_the_limit_and_a_gap_is_open(mark: LogMark, verdict: str) -> None:
    assert judge_log(mark, limit=2).verdict == verdict


@given(st.lists(st.sampled_from(["ERROR a", "INFO b", "", "é CRITICAL"]), max_size=12), st.data())
def test_a_log_read_in_any_pieces_counts_the_same(lines: list[str], data: st.DataObject) -> None:
    text = "".join(line + "\n" for line in lines).encode()
    mark, ends = LogMark("e.log", 7, 0), sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    for end in [*ends, len(text)]:
        mark, _more = advance(mark, "same", 7, end, text[mark.offset : end], PATTERN)
    assert mark.offset == len(text)
    assert mark.matched == sum("ERROR" in line or "CRITICAL" in line for line in lines)


def test_a_file_that_was_moved_away_is_read_to_its_end_before_the_new_one_begins() -> None:
    mark, more = advance(LogMark("e.log", 7, 4), "moved", 9, 10, b"ERROR\n", PATTERN)
    assert (mark.inode, mark.offset, mark.matched, mark.gap, more) == (9, 0, 1, False, True)


def test_a_mark_can_be_kept_as_json() -> None:
    mark = LogMark("e.log", 7, 4, 2, 1, True, ("ERROR a",))
    assert LogMark.from_json(json.loads(json.dumps(mark.as_json()))) == mark


def found(verdict: str) -> Checkpoint:
    return Checkpoint("x", "X", verdict)  # type: ignore[arg-type]


def test_together_one_failure_decides_then_one_that_is_open_and_nothing_is_no_pass() -> None:
    assert worst([found("pass"), found("inconclusive"), found("fail")]) == "fail"
    assert worst([found("pass"), found("inconclusive")]) == "inconclusive"
    assert worst([found("pass")]) == "pass"
    assert worst([]) == "inconclusive"


def test_a_check_that_could_not_look_has_failed() -> None:
    def look() -> Checkpoint:
        raise DatabaseError("gone", remedy="look")

    checkpoint = timed("size", "Size", look)
    assert (checkpoint.verdict, checkpoint.detail, checkpoint.remedy) == ("fail", "could not look: gone", "look")


LOGIN = Login(
    username="tess", password_env="PW", form_path="/new/", fields={"memo": "test {stamp}"}, expect="test {stamp}"
)


def test_each_visit_looks_for_its_own_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", "s3cret")
    first = plan_visit("http://a", LOGIN, now=NOW)
    second = plan_visit("http://a", LOGIN, now=NOW + timedelta(microseconds=1))
    assert first.fields["memo"] == first.expect == "test 20260301-093000-000000"
    assert first.expect != second.expect
    assert "s3cret" not in repr(first)


def test_a_password_that_is_not_set_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PW", raising=False)
    with pytest.raises(PlanFileError, match="PW"):
        plan_visit("http://a", LOGIN, now=NOW)


def test_the_detail_says_in_which_way_and_never_the_password() -> None:
    task = Visit("http://a", "http://a", "/login/", "tess", "s3cret", form_path="/new/", expect="yes")
    good = judge_visit(task, Outcome(True, "Chromium", "", ""), "", 1.0)
    assert good.detail == "tess logged in, sent the form at /new/ and found 'yes', by Chromium"
    bad = judge_visit(task, Outcome(False, "HTTP session", "logging in", "s3cret is wrong"), "no browser", 1.0)
    assert bad.verdict == "fail" and bad.detail == "logging in: *** is wrong, by HTTP session (no browser)"
    assert "s3cret" not in json.dumps([good.as_json(), bad.as_json()])


def test_a_visit_that_failed_names_the_address_that_was_tried_and_not_the_site_that_is_closed() -> None:
    failed, task = Outcome(False, "HTTP session", "logging in", "no"), Visit("http://a", "http://a", "/in/", "t", "p")
    assert "at http://a/in/, and" in str(judge_visit(task, failed, "", 1.0).remedy)
    task = Visit("http://127.0.0.1:8002", "https://shop.test", "/in/", "t", "p")
    assert "at http://127.0.0.1:8002/in/ (with the header Host: shop.test), and" in str(
        judge_visit(task, failed, "", 1.0).remedy
    )


def test_chromium_goes_without_its_sandbox_only_as_root_and_is_led_to_the_release() -> None:
    assert "--no-sandbox" in flags("http://a", "http://a", root=True)
    assert "--no-sandbox" not in flags("http://a", "http://a", root=False)
    led = flags("http://127.0.0.1:8002", "http://shop.test", root=False)
    assert "--host-resolver-rules=MAP shop.test 127.0.0.1:8002" in led


@pytest.mark.parametrize(
    ("line", "alarms"),
    [
        ("2026-03-01 [7] PANIC:  could not write to file", True),
        ("LOG:  server process (PID 8) was terminated by signal 11: Segmentation fault", True),
        ("ERROR:  invalid page in block 3 of relation base/5/16384", True),
        ('ERROR:  could not extend file "base/5/1": No space left on device', True),
        ("FATAL:  terminating connection due to administrator command", False),
        ('FATAL:  role "shop" is not permitted to log in', False),
        ("ERROR:  duplicate key value violates unique constraint", False),
        ("LOG:  duration: 12 ms  statement: INSERT INTO memo VALUES ('out of memory, corrupt')", False),
    ],
)
def test_of_the_servers_log_only_what_is_nobodys_own_mistake_is_an_alarm(line: str, alarms: bool) -> None:
    assert bool(re.search(Checkpoints().database_error_pattern, line)) == alarms
