"""The rehearsal as a page: verdict, forecast, when which migration held which table, what changed, the way to undo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from safepoint.config.durations import format_bytes, format_duration
from safepoint.launch.report.chart import LABELS, ROW, WIDTH
from safepoint.launch.report.costs import statements, written
from safepoint.launch.report.html import page

Data = Mapping[str, Any]

_RIGHT = WIDTH - 70
_COLOURS = {"readers and writers": "fail", "writers": "interrupted", "": "running"}
_LEGEND = (
    ("pass", "migration"),
    ("fail", "lock that keeps readers and writers out"),
    ("interrupted", "lock that keeps writers out"),
    ("running", "weaker lock"),
)
_TONES = {"go": "good", "no-go": "bad"}
_LINT = {"breaks": "fail", "locks": "interrupted", "risk": "interrupted", "hint": "running"}
_CHIPS = {"pass": "pass", "fail": "fail", "warning": "interrupted", "not rehearsed": "running", **_LINT}
_CHIPS |= {"exact": "pass", "loses": "interrupted", "fails": "fail", "not tried": "running"}


def rehearsal_page(data: Data) -> str:
    """The whole page; everything that was read from a database is escaped. Pure."""
    sections = (
        _head,
        _numbers,
        _window,
        _parts,
        _chart,
        written,
        _checks,
        _lint,
        _changes,
        _way_back,
        _undo,
        statements,
    )
    parts = [part for section in sections if (part := section(data))]
    return page(f"Rehearsal of {data['release']}: {data['verdict']}", "\n".join(parts))


def _head(data: Data) -> str:
    migrate = data["migrate"]
    said = (
        f"{len(migrate['migrations'])} migrations ran in {format_duration(migrate['seconds'])}"
        if not migrate["error"]
        else "The migration failed"
    )
    reasons = "".join(f"<dt>Why</dt><dd>{escape(reason)}</dd>" for reason in data["reasons"])
    notes = "".join(f"<dt>Note</dt><dd>{escape(note)}</dd>" for note in data["notes"])
    listed = f"<dl>{reasons}{notes}</dl>" if reasons or notes else ""
    snapshot = data["snapshot"]
    return (
        f'<div class="over"><span>Rehearsal of release {escape(data["release"])} on snapshot <code>'
        f"{escape(snapshot['id'])}</code>, taken {escape(snapshot['taken_at'][:16])}</span>"
        f"<span>made {escape(data['made_at'][:16])} UTC · migrations <code>{escape(data['digest'][:16])}</code></span>"
        f'</div><section class="verdict {_TONES[data["verdict"]]}"><div class="word">{escape(data["verdict"])}</div>'
        f"<h1>{said} on the restored copy</h1>{listed}</section>"
    )


def _numbers(data: Data) -> str:
    migrate, foreseen = data["migrate"], data["forecast"]
    tiles = [(format_duration(migrate["seconds"]), "migrate on the scratch server")]
    if foreseen:
        tiles.append(_expected(foreseen["migrate"], "migrate on the live database"))
        window = "the window" if not foreseen["unknown"] else "the window, as far as it is known"
        tiles.append(_expected(foreseen["window"], window))
    tiles += [
        (format_bytes(migrate["wal_bytes"]), "write-ahead log, at the least"),
        *_disk(migrate, foreseen),
        (str(len(migrate["rewrites"])), "tables rewritten"),
    ]
    shown = "".join(f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in tiles)
    unknown = "".join(f"<li>{escape(one)}</li>" for one in foreseen["unknown"]) if foreseen else ""
    honest = f'<p class="quiet">What the forecast does not know:</p><ul class="quiet">{unknown}</ul>' if unknown else ""
    return f'<section class="numbers">{shown}</section>{_corrections(foreseen)}{honest}'


def _corrections(foreseen: Data | None) -> str:
    """By what the times of the scratch server were multiplied."""
    if not foreseen or not foreseen["speeds"]:
        return ""
    ratio, speeds = foreseen["ratio"], foreseen["speeds"]
    found = {"scanning": ratio and ratio["warm"], "writing": speeds["write"], "a small sync of the log": speeds["sync"]}
    told = ", ".join(f"{name} {'not corrected' if by is None else f'× {by:.2f}'}" for name, by in found.items())
    return f'<p class="quiet">Live against the scratch server, as measured just before and after: {told}.</p>'


def _disk(migrate: Data, foreseen: Data | None) -> list[tuple[str, str]]:
    """What was needed here, and what will be needed there, against what is free."""
    disk = None if foreseen is None else foreseen["disk"]
    if disk is None:
        return [(format_bytes(migrate["peak_bytes"]), "more disk at the peak")]
    free = "free there: not seen" if disk["free"] is None else f"{format_bytes(disk['free'])} free"
    return [(format_bytes(disk["needed"]), f"more disk at the peak, twin included; {free}")]


def _window(data: Data) -> str:
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
        parts.append(_row(y, label, [(0.0, expected, f"bar {tone}")], scale, high or expected))
    height = ROW * len(lines) + 34
    return (
        '<h2>Does it fit into the window?</h2><div class="frame">'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Forecast against the window" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg></div>'
    )


_SOURCES = {"migrate": ("pass", "foreseen"), "rehearsed": ("running", "as long as on the copy")}
_LAUNCHED = ("waiting", "as long as in an earlier launch, or as the plan says")


def _parts(data: Data) -> str:
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


def _share(counts: Mapping[str, int], tones: Mapping[str, str]) -> str:
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


def _expected(found: Data, what: str) -> tuple[str, str]:
    span = f"{format_duration(found['low'])} to {format_duration(found['high'])}"
    return f"≈ {format_duration(found['expected'])}", f"{what}: {span}"


def _chart(data: Data) -> str:
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


def _row(y: float, label: str, bars: Sequence[tuple[float, float, str]], scale: float, took: float) -> str:
    cut = label if len(label) <= 44 else f"{label[:43]}…"
    parts = [f'<text class="step" x="0" y="{y + 13}"><title>{escape(label)}</title>{escape(cut)}</text>']
    end, told = LABELS + 0.0, format_duration(took) if took > 0 else "hardly"
    for began, seconds, kind in bars:
        x, width = LABELS + max(0.0, began) * scale, max(1.5, seconds * scale)
        end = max(end, x + width)
        parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 7}" rx="1.5"/>')
    parts.append(f'<text class="took" x="{end + 5:.1f}" y="{y + 13}">{told}</text>')
    return "".join(parts)


def _checks(data: Data) -> str:
    if not data["checks"]:
        return ""
    rows = "".join(
        f"<tr><td>{_chip(check['verdict'])}</td><td>{escape(check['name'])}</td>"
        f'<td class="long">{escape(check["summary"])}</td></tr>'
        for check in data["checks"]
    )
    return f'<h2>What must hold</h2><div class="frame"><table>{rows}</table></div>'


_MODES = {
    "window": "In the window nobody else is at work: locks and what old code would miss are not told.",
    "rolling": "The old code goes on running: what it would miss is told, and what it would wait for.",
}


def _lint(data: Data) -> str:
    lint = data["lint"]
    rows = "".join(
        f"<tr><td>{_chip(one['grade'] if one['waived'] is None else 'waived')}</td>"
        f"<td><b>{escape(one['rule'])}</b><br>{escape(one['migration'])}</td>"
        f'<td class="long">{escape(one["why"])}<br><span class="quiet">{escape(one["where"])}</span></td>'
        f'<td class="long">{escape(one["waived"] or one["safer"])}</td></tr>'
        for one in lint["findings"]
    )
    head = "<tr><th>Grade</th><th>Rule</th><th>Why</th><th>The safer way, or why it is accepted</th></tr>"
    listing = f'<div class="frame"><table>{head}{rows}</table></div>' if rows else "<p>Nothing worth a line.</p>"
    notes = "".join(f"<li>{escape(note)}</li>" for note in lint["notes"])
    more = f'<ul class="quiet">{notes}</ul>' if notes else ""
    return f'<h2>What to look at in the migrations</h2>{listing}<p class="quiet">{_MODES[lint["mode"]]}</p>{more}'


def _changes(data: Data) -> str:
    rows = []
    for change in data["changes"]:
        columns = [column for column in change["columns"] if column["kind"] != "identical"]
        if change["kind"] == "identical":
            continue
        name = escape(_name(change))
        count = f"{change['rows_before']:,} → {change['rows_after']:,}"
        count += f" (+{change['added']:,} −{change['removed']:,})" if change["added"] or change["removed"] else ""
        told = "<br>".join(
            f"<b>{escape(_name(column))}</b> {escape(column['kind'])}"
            + (f" · {escape(column['detail'])}" if column["detail"] else "")
            for column in columns
        )
        kind = escape(change["kind"])
        rows.append(f'<tr><td>{name}</td><td>{kind}</td><td class="num">{count}</td><td class="long">{told}</td></tr>')
    same = sum(change["kind"] == "identical" for change in data["changes"])
    head = '<tr><th>Table</th><th>Became</th><th class="num">Rows</th><th>Columns</th></tr>'
    if not data["changes"]:
        return ""
    picture = _share(Counter(change["kind"] for change in sorted(data["changes"], key=_by_kind)), _KINDS)
    return (
        f'<h2>What changed</h2>{picture}<div class="frame"><table>{head}{"".join(rows)}</table></div>'
        f'<p class="quiet">{same} more tables have every row as it was, by content.</p>'
    )


_KINDS = {"identical": "pass", "changed": "interrupted", "renamed": "interrupted", "removed": "fail"}


def _by_kind(change: Data) -> str:
    return str(change["kind"])


def _name(found: Data) -> str:
    before, after = found["before"], found["after"]
    return f"{before} → {after}" if before and after and before != after else str(before or after)


def _way_back(data: Data) -> str:
    proven, trial = data["way_back"], data["trial"]
    if proven is None:
        return ""
    title = "<h2>The way back, keeping what people write</h2>"
    if not proven["proven"]:
        doubts = "".join(f"<li>{escape(doubt)}</li>" for doubt in proven["doubts"])
        return f"{title}<p>Not proven: a rollback will list what was written, and carry nothing.</p><ul>{doubts}</ul>"
    said = f"<p>Proven: {proven['rows']:,} rows of {proven['tables']} tables come back as they were.</p>"
    return title + said + (_trial(trial) if trial is not None else "")


def _trial(trial: Data) -> str:
    reasons = "".join(f"<li>{escape(one)}</li>" for one in trial["reasons"])
    if trial["verdict"] == "not tried":
        return f"<p>A rollback was not rehearsed:</p><ul>{reasons}</ul>"
    bars = "".join(
        f"<tr><td>{escape(kind)}</td><td>{_chip('pass' if count else 'not tried')}</td>"
        f'<td class="num">{count} table{"" if count == 1 else "s"}</td></tr>'
        for kind, count in trial["writes"].items()
    )
    good = "and every row is what it should be" if trial["verdict"] == "equal" else "and this differs:"
    refused = "".join(f"<li>{escape(one)}</li>" for one in trial["refused"])
    more = f'<p class="quiet">What the schema refused, and was not tried:</p><ul class="quiet">{refused}</ul>'
    return (
        f"<p>A rollback was rehearsed in {format_duration(trial['seconds'])}: {trial['carried']} of "
        f"{trial['transactions']} generated transactions were carried back, {good}</p><ul>{reasons}</ul>"
        f'<div class="frame"><table><tr><th>Write</th><th>Tried</th><th class="num">In</th></tr>{bars}</table></div>'
        + (more if refused else "")
    )


def _undo(data: Data) -> str:
    undo = data["undo"]
    if undo is None:
        return ""
    fails = undo["verdict"] == "fails"
    rows = [
        f"<tr><td>{_chip(table['verdict'])}</td><td>{escape(table['name'])}</td><td>{table['rows']:,}</td>"
        f'<td class="long">{escape("; ".join(table["lost"]))}{_examples(table["examples"])}</td></tr>'
        for table in undo["tables"]
        if table["verdict"] != "exact"
    ]
    structure = "".join(f"<li>{escape(one)}</li>" for one in undo["structure"])
    lost = "What was not as before when it stopped" if fails else "What does not come back"
    head = f"<tr><th>Verdict</th><th>Table</th><th>Rows before</th><th>{lost}</th></tr>"
    listing = f'<div class="frame"><table>{head}{"".join(rows)}</table></div>' if rows else ""
    more = f"<p>Definitions that are not as they were:</p><ul>{structure}</ul>" if structure else ""
    return (
        "<h2>Can it be undone by migrating backwards?</h2>"
        f"{_share(Counter(sorted(table['verdict'] for table in undo['tables'])), _CHIPS)}"
        f"{_undone(undo)}{listing}{more}"
    )


def _undone(undo: Data) -> str:
    """How it ended, in a sentence."""
    exact = sum(table["verdict"] == "exact" for table in undo["tables"])
    said = f"{exact} of {len(undo['tables'])} tables are exactly as they were"
    if undo["verdict"] != "fails":
        return f"<p>It ran in {format_duration(undo['seconds'])}; {said}.</p>"
    where = f" at {escape(undo['migration'])}" if undo["migration"] else ""
    error = f'<div class="frame"><div class="error">It fails{where}: {escape(undo["error"] or "")}</div></div>'
    return f"{error}<p>Where it stopped, {said}.</p>" if undo["tables"] else error


def _examples(examples: Sequence[Data]) -> str:
    """Some rows, each with what was there and what is there after undoing."""
    if not examples:
        return ""
    lines = "".join(f"<li>{_named_row(one)}{escape(_became(one))}</li>" for one in examples)
    return f'<ul class="quiet">{lines}</ul>'


def _named_row(example: Data) -> str:
    return f"<code>{escape(example['key'])}</code> " if example["key"] else ""


def _became(example: Data) -> str:
    told = [f"{one['column']}: {one['before']} → {one['after']}" for one in example["values"]]
    return "; ".join(told) or str(example["fate"])


def _chip(verdict: str) -> str:
    return f'<span class="chip {_CHIPS.get(verdict, "fail")}">{escape(verdict)}</span>'
