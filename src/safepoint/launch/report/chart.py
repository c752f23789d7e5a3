"""The launch on a time axis, as inline SVG: who was let in, the window, each step, gates, orders, kills. Pure.

A launch has steps of tenths of a second, and a night between two phases. So each stretch of work has a linear
scale of its own (its width grows with the square root of its length), and the idle time between is a marked break.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from safepoint.config.durations import format_duration
from safepoint.launch.report.standing import clock, span

Report = Mapping[str, Any]

WIDTH = 1180
LABELS = 292  # the column of the steps' titles
RIGHT = WIDTH - 62  # room for the duration behind the last bar
ROW = 21
TOP = 84  # the lanes above the steps: marks, who is let in, the clock
BREAK = 34  # the width of a break in the axis
IDLE = 30.0  # seconds without any step after which the axis breaks, at the least
_CLOCK = 58.0  # room for a time of the day
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
PHASES = {
    "prepare": "Prepare",
    "freeze": "Freeze",
    "stop": "Stop",
    "migrate": "Migrate",
    "green": "Green",
    "watch": "Watch",
    "retire": "Retire",
    "rollback": "Way back",
}
LET_IN = {"old": "{old} open", "closed": "closed", "canary": "canary", "new": "{new} open"}


@dataclass(frozen=True)
class Stretch:
    """Times from `start` to `end` (POSIX seconds) drawn from `left` to `right` (SVG units)."""

    start: float
    end: float
    left: float
    right: float

    def x(self, at: float) -> float:
        """Where a time of this stretch is drawn."""
        share = (at - self.start) / (self.end - self.start) if self.end > self.start else 0.0
        return self.left + min(1.0, max(0.0, share)) * (self.right - self.left)


@dataclass(frozen=True)
class Axis:
    """Time to x, over stretches with breaks between them."""

    stretches: tuple[Stretch, ...]

    def x(self, at: float) -> float:
        """Where a time is drawn; a time within a break is drawn in the middle of the break."""
        before = self.stretches[0]
        for stretch in self.stretches:
            if at < stretch.start:
                return (before.right + stretch.left) / 2 if before is not stretch else stretch.left
            if at <= stretch.end:
                return stretch.x(at)
            before = stretch
        return before.right


def posix(at: str) -> float:
    """An ISO time as POSIX seconds."""
    return datetime.fromisoformat(at).timestamp()


def make_axis(spans: Sequence[tuple[float, float]]) -> Axis:
    """Fold spans of work into stretches and give each its width."""
    merged: list[list[float]] = []
    total = sum(end - start for start, end in spans)
    idle = max(IDLE, total * 0.15)
    for start, end in sorted(spans):
        if merged and start - merged[-1][1] <= idle:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    weights = [math.sqrt(max(end - start, 0.5)) for start, end in merged]
    room = RIGHT - LABELS - BREAK * (len(merged) - 1)
    least = min(70.0, room / len(merged) / 2)
    share = (room - least * len(merged)) / sum(weights)
    stretches, x = [], float(LABELS)
    for (start, end), weight in zip(merged, weights, strict=True):
        stretches.append(Stretch(start, end, x, x + least + weight * share))
        x = stretches[-1].right + BREAK
    return Axis(tuple(stretches))


def chart(report: Report) -> str:
    """The chart as an `<svg>` element; a sentence where nothing has happened yet."""
    rows = [row for row in report["steps"] if row["attempts"]]
    if not rows:
        return '<p class="quiet">No step has begun, so there is nothing to draw.</p>'
    latest = posix(report["launch"]["latest"])
    axis = make_axis([span for row in rows for span in _spans(row, latest)])
    height = TOP + ROW * len(rows) + ROW * len({row["phase"] for row in rows}) + 12
    parts = [
        *_window(report, axis, height, latest),
        *_ticks(report, axis, height),
        *_breaks(axis, height),
        *_lane(report, axis, latest),
        *_rows(report, rows, axis, latest),
        *_marks(report, axis, height),
    ]
    label = f"Timeline of {report['launch']['id']}: {len(rows)} steps"
    head = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )
    hatch = (
        '<defs><pattern id="hatch" width="6" height="6" patternTransform="rotate(45)" patternUnits="userSpaceOnUse">'
        '<rect width="6" height="6" class="hatch-ground"/><rect width="2.4" height="6" class="hatch-line"/>'
        "</pattern></defs>"
    )
    return "\n".join([head, hatch, *parts, "</svg>"])


def _spans(row: Mapping[str, Any], latest: float) -> Iterator[tuple[float, float]]:
    for attempt in row["attempts"]:
        yield posix(attempt["started"]), posix(attempt["ended"]) if attempt["ended"] else latest


def _window(report: Report, axis: Axis, height: float, latest: float) -> Iterator[str]:
    window, way = report["window"], report["rollback"] or {}
    if window["started"]:
        end = window["ended"] or way.get("ended")
        seconds = f" {span(window['seconds'])}" if window["seconds"] is not None else ""
        yield _band("window", f"window{seconds}", posix(window["started"]), end, axis, height, latest)
    if way.get("started") and way["started"] != window["started"] and window["ended"]:
        text = f"downtime {span(way['downtime_seconds'])}"
        yield _band("downtime", text, posix(way["started"]), way["ended"], axis, height, latest)


def _band(kind: str, text: str, start: float, end: str | None, axis: Axis, height: float, latest: float) -> str:
    left, right = axis.x(start), axis.x(posix(end) if end else latest)
    x, anchor = (left + 4, "start") if left + 7 * len(text) < WIDTH else (right - 2, "end")
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="16" width="{max(2.0, right - left):.1f}" height="{height - 18}"/>'
        f'<text class="{kind}-label" x="{x:.1f}" y="28" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _ticks(report: Report, axis: Axis, height: float) -> Iterator[str]:
    """Round times of the wall clock; the first time of a stretch in any case, with its day where a new one begins."""
    day = ""
    for stretch, following in zip(axis.stretches, (*axis.stretches[1:], None), strict=True):
        first = datetime.fromtimestamp(stretch.start, ZoneInfo(report["launch"]["timezone"]))
        text = f"{first:%H:%M:%S}"
        if f"{first:%d %b}" != day:
            day = f"{first:%d %b}"
            text = f"{day} {text}"
        yield _tick(stretch.left, text, height)
        end = WIDTH if following is None else following.left
        for at in _round_times(stretch, clear=8.0 + 6.4 * len(text)):
            if stretch.x(at) + _CLOCK > end:  # its words would run into those of the next stretch
                continue
            yield _tick(stretch.x(at), clock(report, datetime.fromtimestamp(at, UTC).isoformat()), height)


def _round_times(stretch: Stretch, *, clear: float) -> Iterator[float]:
    """Multiples of the smallest step whose labels have room, from `clear` units after the stretch's beginning."""
    length, room = stretch.end - stretch.start, stretch.right - stretch.left
    step = next((s for s in STEPS if length / s * 66 <= room), None)
    at = math.ceil(stretch.start / step) * step if step else math.inf
    while step and at <= stretch.end:
        if stretch.x(at) - stretch.left > clear:
            yield at
        at += step


def _tick(x: float, text: str, height: float) -> str:
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 4}"/>'
        f'<text class="tick" x="{x:.1f}" y="{TOP - 13}">{text}</text>'
    )


def _breaks(axis: Axis, height: float) -> Iterator[str]:
    for earlier, later in pairwise(axis.stretches):
        middle = (earlier.right + later.left) / 2
        text = format_duration(later.start - earlier.end)
        yield (
            f'<line class="break" x1="{middle:.1f}" x2="{middle:.1f}" y1="{TOP - 6}" y2="{height - 4}"/>'
            f'<text class="break-label" transform="translate({middle + 3.5:.1f} {height - 10}) rotate(-90)">'
            f"{escape(text)}</text>"
        )


def _lane(report: Report, axis: Axis, latest: float) -> Iterator[str]:
    """Who is let in, as a band above the steps."""
    yield f'<text class="lane-label" x="{LABELS - 10}" y="51" text-anchor="end">who is let in</text>'
    for let_in in report["site"]:
        left = axis.x(posix(let_in["from"]))
        right = axis.x(posix(let_in["to"]) if let_in["to"] else latest)
        if let_in["to"] is None:
            right = max(right, RIGHT)
        text = LET_IN[let_in["open"]].format(**report["launch"])
        since = clock(report, let_in["from"], date=True)
        yield (
            f"<g><title>{escape(f'{text} since {since}')}</title>"
            f'<rect class="site {let_in["open"]}" x="{left:.1f}" y="38" '
            f'width="{max(1.5, right - left):.1f}" height="18"/>'
        )
        if right - left > 6.6 * len(text) + 6:
            x = (left + right) / 2
            yield f'<text class="site-label {let_in["open"]}" x="{x:.1f}" y="51">{escape(text)}</text>'
        yield "</g>"


def _rows(report: Report, rows: Sequence[Mapping[str, Any]], axis: Axis, latest: float) -> Iterator[str]:
    y, phase = float(TOP), None
    for row in sorted(rows, key=lambda row: list(PHASES).index(row["phase"]) if row["phase"] in PHASES else 0):
        if row["phase"] != phase:
            phase = row["phase"]
            yield f'<text class="phase" x="0" y="{y + 15:.1f}">{escape(PHASES.get(phase, phase))}</text>'
            yield f'<line class="rule" x1="0" x2="{WIDTH}" y1="{y + 1:.1f}" y2="{y + 1:.1f}"/>'
            y += ROW
        yield from _row(report, row, axis, latest, y)
        y += ROW


def _row(report: Report, row: Mapping[str, Any], axis: Axis, latest: float, y: float) -> Iterator[str]:
    title, verdict = str(row["title"]), str(row["verdict"])
    shown = title if len(title) <= 44 else title[:43].rstrip() + "…"
    told = f"{title}: {verdict}, {span(row['seconds'])}, from {clock(report, row['started'], date=True)}"
    yield f"<g><title>{escape(told)}</title>"
    yield f'<text class="step" x="{LABELS - 10}" y="{y + 14.5:.1f}" text-anchor="end">{escape(shown)}</text>'
    end = float(LABELS)
    for attempt in row["attempts"]:
        left = axis.x(posix(attempt["started"]))
        end = axis.x(posix(attempt["ended"]) if attempt["ended"] else latest)
        kind = "waiting" if verdict == "waiting" and attempt is row["attempts"][-1] else attempt["verdict"]
        yield _diamond(kind, left, y) if row["gate"] else _bar(kind, left, end, y)
        end = max(end, left + (7 if row["gate"] else 3))
    if row["decided"]:
        waited = axis.x(posix(row["decided"]["at"]))
        yield f'<line class="waited" x1="{end:.1f}" x2="{waited:.1f}" y1="{y + 10.5:.1f}" y2="{y + 10.5:.1f}"/>'
        end = max(end, waited)
    text = _verdict_word(row) if row["gate"] else span(row["seconds"])
    yield f'<text class="took" x="{end + 5:.1f}" y="{y + 14.5:.1f}">{escape(text)}</text></g>'


def _verdict_word(row: Mapping[str, Any]) -> str:
    if row["decided"]:
        return f"go by {row['decided']['by']}"
    return {"pass": "go", "fail": "no-go"}.get(row["verdict"], str(row["verdict"]))


def _bar(kind: str, left: float, right: float, y: float) -> str:
    return (
        f'<rect class="bar {_class(kind)}" x="{left:.1f}" y="{y + 4:.1f}" width="{max(3.0, right - left):.1f}" '
        'height="13" rx="2"/>'
    )


def _diamond(kind: str, x: float, y: float) -> str:
    middle = y + 10.5
    points = f"{x:.1f},{middle - 7} {x + 7:.1f},{middle} {x:.1f},{middle + 7} {x - 7:.1f},{middle}"
    return f'<polygon class="bar {_class(kind)}" points="{points}"/>'


def _class(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _marks(report: Report, axis: Axis, height: float) -> Iterator[str]:
    """Orders of people, and conductors that died and were resumed, as flags over the whole chart."""
    flags = [(order["at"], "order", order["order"], _told_order(order)) for order in report["orders"]]
    flags += [
        (run["at"], "resumed", "resumed", f"resumed by {run['by']}: {run.get('after', '')}")
        for run in report["conductors"]
        if run["kind"] == "resumed"
    ]
    flags.sort()
    places = [axis.x(posix(at)) for at, *_ in flags]
    labels = flag_labels([(x, text) for x, (_, _, text, _) in zip(places, flags, strict=True)])
    for (at, kind, _, told), x, (label_x, label) in zip(flags, places, labels, strict=True):
        yield (
            f"<g><title>{escape(f'{clock(report, at, date=True)} {told}')}</title>"
            f'<line class="mark {kind}" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{height - 4}"/>'
            f'<circle class="mark {kind}" cx="{x:.1f}" cy="12" r="3"/>'
            f'<text class="mark-label {kind}" x="{label_x:.1f}" y="12">{escape(label)}</text></g>'
        )


def flag_labels(flags: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Where each flag's word begins, and the word: beside its line, none over another or over the edge. Pure.

    Of flags that stand too near to each other the first has its word, and how many more there are: all of them have
    their title, and their line in the report's tables.

    Args:
        flags: where each stands, from left to right, and its word.
    """
    labels, free, place = [(x, "") for x, _ in flags], float(LABELS), 0
    while place < len(flags):
        x, _ = flags[place]
        near = [flags[place]]
        while place + len(near) < len(flags) and flags[place + len(near)][0] < x + _wide(_together(near)):
            near.append(flags[place + len(near)])
        label = _together(near)
        right, left = x + 6, x - _wide(label)
        begins = right if right + _wide(label) <= WIDTH else left
        if begins >= free:
            labels[place], free = (begins, label), begins + _wide(label)
        place += len(near)
    return labels


def _together(flags: Sequence[tuple[float, str]]) -> str:
    word, more = flags[0][1], len(flags) - 1
    same = {other for _, other in flags} == {word}
    return word + (f" \u00d7{more + 1}" if same and more else f" +{more}" if more else "")


def _wide(word: str) -> float:
    """How much room a flag's word takes, with what parts it from the next."""
    return 7.0 * len(word) + 8


def _told_order(order: Mapping[str, Any]) -> str:
    return f"{order['order']} by {order['by']}: {order['fate']}"
