"""The report: the launch as data and as a page, from its ledger alone."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stories import CHECKPOINTS, PLAN, STEPS, WAY_BACK, Story, launched, migrated, planned_step, prepared, rolled_back

from safepoint.launch.ledger import GENESIS
from safepoint.launch.report import build, render
from safepoint.launch.report.chart import LABELS, RIGHT, _ticks, make_axis


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def report_of(story: Story, **extra: Any) -> dict[str, Any]:
    report = build(story.entries, extra)
    assert json.loads(json.dumps(report)) == report  # what `--json` gives is all there is
    return report


def step_of(report: dict[str, Any], step_id: str) -> dict[str, Any]:
    return next(row for row in report["steps"] if row["id"] == step_id)


# -- the data --------------------------------------------------------------------------------------------------------


def test_a_launch_with_nothing_wrong(path: Path) -> None:
    report = report_of(launched(path))
    assert report["launch"]["status"] == "launched"
    assert {row["verdict"] for row in report["steps"]} == {"pass"}
    assert [row["id"] for row in report["steps"]] == [row[0] for row in STEPS]
    assert report["rollback"] is None
    assert report["writers"] is None
    assert step_of(report, "migrate")["started"] == "2026-03-01T08:00:01.430000+00:00"
    assert step_of(report, "migrate")["seconds"] == 6.3
    assert step_of(report, "migrate")["evidence"]["summary"] == "11 migrations applied"


def test_the_window_is_from_closing_the_site_to_green(path: Path) -> None:
    story = launched(path)
    window = report_of(story)["window"]
    by_key = {entry.key: entry.when for entry in story.entries}
    seconds = (by_key["1:green:1:done"] - by_key["1:stop-traffic:1:begun"]).total_seconds()
    assert window["seconds"] == pytest.approx(seconds)
    assert window["migrate_seconds"] == 6.3
    assert window["minus_migrate_seconds"] == pytest.approx(seconds - 6.3)


def test_a_rollback_has_its_downtime_and_what_it_listed(path: Path) -> None:
    story = rolled_back(path)
    report = report_of(story, writers={"acknowledged": 9, "failed_requests": 1, "present_after": 9})
    by_key = {entry.key: entry.when for entry in story.entries}
    downtime = (by_key["1:back-open:1:done"] - by_key["1:back-stop-traffic:1:begun"]).total_seconds()
    rollback = report["rollback"]
    assert rollback["status"] == "rolled back"
    assert rollback["downtime_seconds"] == pytest.approx(downtime)
    assert (rollback["carried"], rollback["listed"]) == (0, 31)
    assert rollback["file"] == "affected.csv"
    assert report["writers"]["acknowledged"] == 9
    assert step_of(report, "watch")["verdict"] == "interrupted"
    assert [row["id"] for row in report["steps"] if row["phase"] == "rollback"] == [row[0] for row in WAY_BACK]


def test_who_was_let_in_when(path: Path) -> None:
    spans = report_of(rolled_back(path))["site"]
    assert [span["open"] for span in spans] == ["old", "closed", "canary", "new", "closed", "old"]
    assert all(earlier["to"] == later["from"] for earlier, later in pairwise(spans))
    assert spans[-1]["to"] is None


def test_gates_say_who_decided(path: Path) -> None:
    gates = {gate["id"]: gate for gate in report_of(rolled_back(path))["gates"]}
    assert (gates["gate-stop"]["verdict"], gates["gate-stop"]["by"]) == ("go", "rule")
    assert (gates["gate-canary"]["verdict"], gates["gate-canary"]["by"]) == ("go", "grace@laptop")
    assert step_of(report_of(rolled_back(path)), "gate-canary")["verdict"] == "inconclusive"


def test_checkpoints_are_there_by_the_step_that_looked(path: Path) -> None:
    points = report_of(launched(path))["checkpoints"]
    assert [point["step"] for point in points] == ["checkpoints"] * 2 + ["canary"] * 2 + ["watch"] * 2
    assert points[0] == {**CHECKPOINTS[0], "step": "checkpoints"}


def test_the_report_names_the_ledger_that_it_was_made_from(path: Path) -> None:
    story = prepared(path)
    assert report_of(story)["ledger"] == {
        "entries": len(story.entries),
        "head": story.entries[-1].hash,
        "verified": True,
    }


def test_before_anything_happened_there_is_a_report_too() -> None:
    report = build([])
    assert report["launch"]["status"] == "not begun"
    assert report["ledger"]["head"] == GENESIS
    assert report["steps"] == []
    assert "has not begun" in render(report)


def test_a_step_under_way_is_running_and_the_rest_is_not_reached(path: Path) -> None:
    report = report_of(prepared(path).begun("gate-stop"))
    assert report["launch"]["status"] == "running"
    assert step_of(report, "gate-stop")["verdict"] == "running"
    assert step_of(report, "gate-stop")["seconds"] is None
    assert step_of(report, "migrate")["verdict"] == "not reached"
    assert report["window"]["seconds"] is None


def test_an_open_question_is_seen_until_it_is_answered(path: Path) -> None:
    story = migrated(path).failed("checkpoints", 1.0, "fail", "the login does not work")
    assert step_of(report_of(story), "checkpoints")["verdict"] == "fail"
    story.ask("checkpoints", "the login does not work", "retry", "abort")
    report = report_of(story)
    assert report["launch"]["status"] == "waiting"
    assert report["question"]["choices"] == ["retry", "abort"]
    assert step_of(report, "checkpoints")["verdict"] == "waiting"
    story.order("checkpoints", "go", "ignored: no gate is open")
    assert report_of(story)["launch"]["status"] == "waiting"
    story.order("checkpoints", "retry")
    assert report_of(story)["question"] is None


def test_a_step_tried_again_counts_by_its_last_attempt_and_keeps_the_others(path: Path) -> None:
    story = migrated(path).failed("checkpoints", 1.0, "fail", "no answer", remedy="Start the cache.")
    story.ask("checkpoints", "no answer", "retry", "abort").order("checkpoints", "retry")
    report = report_of(story.done("checkpoints", 2.0, "2 of 2 pass", attempt=2))
    row = step_of(report, "checkpoints")
    assert (row["verdict"], row["seconds"], row["error"]) == ("pass", 2.0, None)
    assert [attempt["verdict"] for attempt in row["attempts"]] == ["fail", "pass"]


def test_a_launch_begun_again_is_judged_by_its_newest_run(path: Path) -> None:
    story = prepared(path).failed("gate-stop", 0.1, "fail", "the code changed").end("failed", "the code changed")
    report = report_of(story)
    assert (report["launch"]["status"], report["launch"]["reason"]) == ("failed", "the code changed")
    story.wait(60).begin().done("gate-stop", 0.1, "go")
    report = report_of(story)
    assert report["launch"]["status"] == "running"
    assert step_of(report, "gate-stop")["verdict"] == "pass"
    assert [attempt["run"] for attempt in step_of(report, "gate-stop")["attempts"]] == [1, 2]


def test_the_window_is_the_newest_runs(path: Path) -> None:
    story = migrated(path).way_back("abort").end("aborted")
    story.wait(3600).begin().done("stop-traffic", 1.0).done("migrate", 2.0).done("green", 1.0)
    window = report_of(story)["window"]
    assert window["seconds"] == pytest.approx(4.04)
    assert window["migrate_seconds"] == 2.0


def test_each_step_is_told_as_it_was_foreseen_and_as_it_went(path: Path) -> None:
    rehearse = planned_step(("rehearse", "rehearse", "Rehearse", "prepare", None))
    story = Story(path, {**PLAN, "steps": [rehearse, *PLAN["steps"]]}).begin()
    foreseen = {"low": 2.0, "expected": 3.0, "high": 4.0}
    story.done("rehearse", 9.0, forecast=foreseen, steps={"fence": 0.2, "twin": 0.5, "canary": 1.0})
    story.done("stop-traffic", 0.1).done("fence", 0.25).done("twin", 0.4).done("migrate", 5.0)
    found = report_of(story)["forecast"]
    told = [(step["id"], step["foreseen"], step["took"]) for step in found["steps"]]
    assert told == [("fence", 0.2, 0.25), ("twin", 0.5, 0.4), ("migrate", 3.0, 5.0), ("canary", 1.0, None)]
    assert found["took"] == 5.0 and not found["held"] and found["off_by"] == -0.4
    page = render(report_of(story))
    assert "foreseen for the migration: it took longer" in page
    assert "Foreseen, and what it took" in page and "5.0 s, foreseen 3.0 s" in page
    assert "Foreseen, and what it took" not in render(report_of(launched(path.with_name("other.jsonl"))))


def test_an_aborted_window_counts_as_down_from_the_closing_of_the_site(path: Path) -> None:
    story = prepared(path).done("stop-traffic", 0.2).done("fence", 0.1).way_back("abort ordered by ada")
    story.done("back-open", 0.3).end("aborted", "abort ordered by ada")
    page = render(report_of(story))
    assert "<b>taken back</b><span>window" in page and "not over" not in page
    assert report_of(story)["rollback"]["downtime_seconds"] == pytest.approx(0.2 + 0.02 + 0.1 + 0.02 + 0.3)


# -- where it stands, in words ---------------------------------------------------------------------------------------


def test_before_the_window_the_old_release_serves_and_nothing_is_touched(path: Path) -> None:
    standing = report_of(prepared(path))["standing"]
    assert standing["open"] == "1.0 serves everyone."
    assert standing["safe"].startswith("Nothing of the live system has been touched")
    assert [choice["command"] for choice in standing["commands"]] == ["safepoint hold", "safepoint abort"]


def test_within_the_window_the_safe_point_is_named(path: Path) -> None:
    standing = report_of(migrated(path))["standing"]
    assert standing["open"] == "Nobody: the site has been closed since 09:00:00."
    assert standing["safe"].startswith("The safe point of 09:00:01 stands")
    assert "safepoint rollback" in [choice["command"] for choice in standing["commands"]]


def test_after_a_return_the_site_counts_as_open_on_the_new_release(path: Path) -> None:
    story = launched(path).begin("rollback").way_back("rollback ordered by grace@laptop")
    story.done("back-ahead", 0.1).done("back-stop-traffic", 0.1).begun("back-stop-new")
    steps = [
        {**planned_step((name, verb, name, "rollback", None)), "params": {"release": "new"}}
        for name, verb in (("forth-swap", "swap-forth"), ("forth-open", "open-traffic"))
    ]
    data = {"run": story.run, "reason": "return ordered by grace@laptop", "by": "grace@laptop", "steps": steps}
    story.ledger.append("wayforth", f"wayforth:{story.run}", data)
    story.titles.update({step["id"]: (step["title"], "rollback") for step in steps})
    assert step_of(report_of(story), "forth-open")["verdict"] == "not reached"
    assert step_of(report_of(story), "back-stop-new")["verdict"] == "interrupted"
    report = report_of(story.done("forth-swap", 0.1).done("forth-open", 0.1).end("launched"))
    assert [span["open"] for span in report["site"]][-2:] == ["closed", "new"]
    assert report["standing"]["open"].startswith("2.0 serves everyone")


def test_a_retired_launch_offers_no_way_back(path: Path) -> None:
    story = launched(path)
    assert "rollback" in report_of(story)["standing"]["commands"][0]["command"]
    story.ledger.append("retiring", "retiring", {"by": "ada@ops"})  # a kill came before `retired`
    offered = ["safepoint watch", "safepoint report"]
    commands = [one["command"] for one in report_of(story)["standing"]["commands"]]
    assert commands == ["safepoint retire --now", *offered]
    story.ledger.append("retired", "retired", {"done": []})
    standing = report_of(story)["standing"]
    assert [one["command"] for one in standing["commands"]] == offered
    assert "no way back" in standing["safe"] and "rollback" not in standing["next"]


def test_a_question_says_exactly_what_to_type(path: Path) -> None:
    story = migrated(path).ask("gate-canary", "in doubt: no login is configured", "go", "abort")
    standing = report_of(story)["standing"]
    assert standing["tone"] == "ask"
    assert "`safepoint go` or `safepoint abort`" in standing["next"]


def test_a_failed_launch_says_the_remedy(path: Path) -> None:
    story = prepared(path).failed("gate-stop", 0.1, "fail", "old", remedy="Take a new snapshot.").end("failed", "old")
    standing = report_of(story)["standing"]
    assert standing["next"] == "Take a new snapshot. Then `safepoint launch` goes on."
    assert standing["headline"].endswith("1.0 was not touched.")


def test_a_plan_file_of_another_name_stands_in_the_commands(path: Path) -> None:
    story = launched(path)
    report = build(story.entries)
    report["launch"]["plan_file"] = "my plans/launch.toml"
    from safepoint.launch.report.standing import standing

    assert "safepoint rollback --plan 'my plans/launch.toml'" in standing(report)["next"]


# -- the page --------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Checks that every element is closed, and gathers what the page refers to."""

    VOID = frozenset({"meta", "br", "link", "img", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.words = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("href", "src")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("tell", [prepared, migrated, launched, rolled_back])
def test_the_page_is_whole_and_loads_nothing(path: Path, tell: Any) -> None:
    page = Page(render(report_of(tell(path), writers={"acknowledged": 4})))
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    assert page.references in ([], ["affected.csv"])
    assert "svg" in page.tags


def test_the_page_shows_the_verdict_the_numbers_and_the_hash(path: Path) -> None:
    story = rolled_back(path)
    words = Page(render(report_of(story))).words
    for expected in ("accounting was rolled back to 1.0.", "412,377", "31 transactions", story.entries[-1].hash):
        assert expected in words
    assert "resumed" in words  # the killed conductor leaves its mark


def test_moments_that_a_step_proved_are_those_of_the_zone_that_the_page_names(path: Path) -> None:
    story = prepared(path)
    copied = [{"from": "2026-03-01T07:55:32+00:00"}]
    words = Page(
        render(report_of(story.done("gate-stop", 0.1, held_at="2026-03-01 07:55:31.893808+00", copied=copied)))
    )
    assert "times are Europe/Berlin" in words.words
    assert "2026-03-01 08:55:31" in words.words and "2026-03-01 08:55:32" in words.words
    assert "07:55:3" not in words.words


def test_every_step_is_on_the_chart_with_its_name_however_short_it_was(path: Path) -> None:
    report = report_of(rolled_back(path))
    svg = re.search(r"<svg.*?</svg>", render(report), re.DOTALL)
    assert svg is not None
    names = re.findall(r'class="step"[^>]*>([^<]+)<', svg[0])
    assert len(names) == len(report["steps"])
    widths = [float(width) for width in re.findall(r'class="bar [^"]*"[^>]*?width="([\d.]+)"', svg[0])]
    assert min(widths) >= 3.0
    edges = [float(x) for x in re.findall(r'class="bar [^"]*" x="([\d.]+)"', svg[0])]
    assert min(edges) >= LABELS and max(edges) <= RIGHT


def test_a_hostile_word_from_anywhere_is_shown_and_not_run(path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    steps = [{**step, "title": evil, "commands": [evil]} for step in PLAN["steps"]]
    names = ("launch_id", "application", "old", "new")
    story = Story(path, {**PLAN, "steps": steps, **dict.fromkeys(names, evil)}).begin()
    story.done("survey", 1.0, evil, **{evil: evil, "nested": [{evil: evil}]})
    points = [{**CHECKPOINTS[0], "title": evil, "detail": evil, "unit": evil, "remedy": evil}]
    story.done("stop-traffic", 1.0, evil, checkpoints=points)
    story.failed("gate-stop", 1.0, "fail", evil, found=evil, expected=evil, subject=evil, remedy=evil)
    story.ask("gate-stop", evil, "go").order("gate-stop", "go", "taken", by=evil).decided("gate-stop", by=evil)
    story.way_back(evil).done("back-list", 1.0, evil, transactions=[{evil: evil}], users={evil: 3}, file=f"{evil}.csv")
    page = render(report_of(story.end("rolled back", evil), writers={evil: evil}))
    assert "<script" not in page.lower()
    assert page.count("&lt;script&gt;") > 20
    Page(page)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(1, 400)), min_size=1, max_size=5))
def test_no_time_on_the_axis_runs_into_another(spans: list[tuple[float, float]]) -> None:
    axis = make_axis([(start, start + seconds) for start, seconds in spans])
    ticks = "".join(_ticks({"launch": {"timezone": "UTC"}}, axis, 100.0))
    found = re.findall(r'class="tick" x="([\d.]+)" y="[\d.]+">([^<]+)<', ticks)
    places = [(float(x), float(x) + 5.6 * len(text)) for x, text in found if len(text) <= 8]
    assert all(end <= start for (_, end), (start, _) in pairwise(places))


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e5)).map(lambda s: (s[0], s[0] + s[1])), min_size=1, max_size=9)
)
def test_time_never_runs_backwards_on_the_axis(spans: list[tuple[float, float]]) -> None:
    axis = make_axis(spans)
    moments = sorted(moment for span in spans for moment in span)
    places = [axis.x(moment) for moment in moments]
    assert places == sorted(places)
    assert places[0] >= LABELS - 0.01 and places[-1] <= RIGHT + 0.01
