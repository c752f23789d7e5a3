"""The pictures of a rehearsal's page: the window and its parts, migrations and locks over time, shares. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from safepoint.config.durations import format_duration
from safepoint.launch.report.chart import LABELS, ROW, WIDTH

Data = Mapping[str, Any]

_RIGHT = WIDTH - 70
_COLOURS = {"readers and writers": "fail", "writers": "interrupted", "": "running"}
_LEGEND = (
    ("pass", "migration"),
    ("fail", "lock that keeps readers and writers out"),
    ("interrupted", "lock that keeps writers out"),
    ("running", "weaker lock"),
)


def window(data: Data) -> str:
    """The window as it is planned, and beneath it what the migration and all of it are foreseen to take."""
    foreseen = data["forecast"]
    if not foreseen or not foreseen["planned"]:
        return ""
    longest = max(foreseen["planned"], foreseen["window"]["high"], 0.001)
    scale = (_RIGHT - LABELS) / longest
    lines: list[tuple[str, float, float | None, str]] = [
        ("planned: stop to green", foreseen["planned"], None, "running")
    ]
    for name, label in (("migrate", "migrate, foreseen"), ("window", "all of it, as far as known")):
        found = foreseen[name]
        tone = "pass" if found["high"] <= foreseen["planned"] else "fail"
        lines.append((label, found["expected"], found["high"], tone))
    parts = [_ticks(longest, scale, ROW * len(lines) + 34)]
    for place, (label, expected, high, tone) in enumerate(lines):
        y = 30 + place * ROW
        if high is not None:  # how much longer it may take
            width = max(1.5, high * scale)
            parts.append(
                f'<rect class="bar {tone}" x="{LABELS}" y="{y + 3}" width="{width:.1f}" height="{ROW - 7}" rx="1.5" '
                'opacity="0.35"/>'
            )
        parts.append(_row(y, label, [(0.0, expected, f"bar {tone}")], scale, expected, high))
    height = ROW * len(lines) + 34
    return (
        '<h2>Does it fit into the window?</h2><div class="frame">'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Forecast against the window" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg></div>'
    )


_SOURCES = {"migrate": ("pass", "foreseen"), "rehearsed": ("running", "as long as on the copy")}
_LAUNCHED = ("waiting", "as long as in an earlier launch, or as the plan says")


def made_of(data: Data) -> str:
    """The window's steps of which anything is known, one after the other, with where the time is from."""
    foreseen = data["forecast"]
    if not foreseen or not foreseen["fixed"]:
        return ""
    parts, y, at = [], 30, 0.0
    steps = _in_order(foreseen)
    total = sum(seconds for _, seconds in steps)
    scale = (_RIGHT - LABELS) / max(total, 0.001)
    for name, seconds in steps:
        tone, _ = _source(foreseen, name)
        parts.append(_row(y, name, [(at, seconds, f"bar {tone}")], scale, seconds))
        at, y = at + seconds, y + ROW
    height = ROW * len(steps) + 34
    shown = dict(_source(foreseen, name) for name, _ in steps)
    legend = "".join(f'<span><i class="{tone}"></i>{words}</span>' for tone, words in shown.items())
    return (
        '<h2>What the window is made of</h2><div class="frame">'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Steps of the window" '
        f'xmlns="http://www.w3.org/2000/svg">{_ticks(total, scale, height)}{"".join(parts)}</svg></div>'
        f'<div class="legend">{legend}</div>'
    )


def _in_order(foreseen: Data) -> list[tuple[str, float]]:
    """The known steps with their seconds; the migrations stand where they run."""
    found: list[tuple[str, float]] = []
    migrate = ("migrate", float(foreseen["migrate"]["expected"]))
    for name, seconds in foreseen["fixed"].items():
        if name == "migrate-check":
            found.append(migrate)
        found.append((name, float(seconds)))
    return found if migrate in found else [*found, migrate]


def _source(foreseen: Data, name: str) -> tuple[str, str]:
    return (
        _SOURCES["migrate"]
        if name == "migrate"
        else (_SOURCES["rehearsed"] if name in foreseen["rehearsed"] else _LAUNCHED)
    )


def share(counts: Mapping[str, int], tones: Mapping[str, str]) -> str:
    """One bar for how many tables ended how."""
    total = sum(counts.values())
    if not total:
        return ""
    x, parts, words = 0.0, [], []
    for name, count in counts.items():
        width = (WIDTH - 4) * count / total
        wide, tone = max(1.5, width - 1), tones.get(name, "running")
        parts.append(f'<rect class="bar {tone}" x="{x:.1f}" y="2" width="{wide:.1f}" height="14" rx="2"/>')
        words.append(f'<span><i class="{tone}"></i>{count} {escape(name)}</span>')
        x += width
    return (
        f'<svg class="chart share" viewBox="0 0 {WIDTH} 18" role="img" aria-label="Tables by what became of them" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg><div class="legend">{"".join(words)}</div>'
    )


def over_time(data: Data) -> str:
    """Bars of the migrations, and below them a line for each table that was locked hard enough to keep people out."""
    migrate = data["migrate"]
    locks = [lock for lock in migrate["locks"] if lock["seconds"] > 0 or lock["blocks"]]
    hard = {lock["table"] for lock in locks if lock["blocks"]}
    tables = sorted(hard, key=lambda name: -max(lock["seconds"] for lock in locks if lock["table"] == name))
    rows = len(migrate["migrations"]) + len(tables) + 2
    height = ROW * rows + 34
    scale = (_RIGHT - LABELS) / max(migrate["seconds"], 0.001)
    parts = [_ticks(migrate["seconds"], scale, height)]
    y = 30
    for run in migrate["migrations"]:
        tone = "bar" if run["ok"] else "bar fail"
        parts.append(_row(y, run["label"], [(run["began"], run["seconds"], tone)], scale, run["seconds"]))
        y += ROW
    y += ROW
    for name in tables:
        bars = [
            (one["began"], one["seconds"], f"bar {_COLOURS[one['blocks']]}") for one in locks if one["table"] == name
        ]
        held = sum(one["seconds"] for one in locks if one["table"] == name and one["blocks"])
        parts.append(_row(y, name, bars, scale, held))
        y += ROW
    legend = "".join(f'<span><i class="{kind}"></i>{text}</span>' for kind, text in _LEGEND)
    every = migrate["looks_every_seconds"]
    return (
        '<h2>What ran when, and what it kept out</h2><div class="frame">'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Migrations and locks over time" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg></div><div class="legend">{legend}'
        f"<span>Locks were looked at every {every * 1000:.0f} ms: shorter ones may be missing.</span></div>"
    )


def _ticks(seconds: float, scale: float, height: float) -> str:
    step = next((one for one in (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600) if seconds / one <= 10), 7200)
    marks = []
    for number in range(int(seconds / step) + 1):
        x = LABELS + number * step * scale
        marks.append(
            f'<line class="grid" x1="{x:.1f}" y1="20" x2="{x:.1f}" y2="{height}"/>'
            f'<text class="tick" x="{x:.1f}" y="14" text-anchor="middle">{number * step:g} s</text>'
        )
    return "".join(marks)


def _row(
    y: float,
    label: str,
    bars: Sequence[tuple[float, float, str]],
    scale: float,
    took: float,
    most: float | None = None,
) -> str:
    """A line with its bars and, behind them, how long it took; `most` is how long it may take."""
    cut = label if len(label) <= 44 else f"{label[:43]}…"
    parts = [f'<text class="step" x="0" y="{y + 13}"><title>{escape(label)}</title>{escape(cut)}</text>']
    end, told = LABELS + 0.0, format_duration(took) if took > 0 else "hardly"
    for began, seconds, kind in bars:
        x, width = LABELS + max(0.0, began) * scale, max(1.5, seconds * scale)
        end = max(end, x + width)
        parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 7}" rx="1.5"/>')
    if most is not None:
        end, told = max(end, LABELS + most * scale), f"{told}, at most {format_duration(most)}"
    parts.append(f'<text class="took" x="{end + 5:.1f}" y="{y + 13}">{told}</text>')
    return "".join(parts)
