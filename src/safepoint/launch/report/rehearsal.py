"""The rehearsal as a page: verdict, forecast, when which migration held which table, what changed, the way to undo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from safepoint.config.durations import format_bytes, format_duration
from safepoint.launch.report.costs import sql_of_migrations, statements, written
from safepoint.launch.report.page import page
from safepoint.launch.report.rehearsal_charts import made_of, over_time, share, window

Data = Mapping[str, Any]

_TONES = {"go": "good", "no-go": "bad"}
_LINT = {"breaks": "fail", "locks": "interrupted", "risk": "interrupted", "hint": "running"}
_CHIPS = {"pass": "pass", "fail": "fail", "warning": "interrupted", "not rehearsed": "running", **_LINT}
_CHIPS |= {"exact": "pass", "loses": "interrupted", "fails": "fail", "not tried": "running"}


def rehearsal_page(data: Data) -> str:
    """The whole page; everything that was read from a database is escaped. Pure."""
    sections = (
        _head,
        _numbers,
        window,
        made_of,
        over_time,
        written,
        _checks,
        _lint,
        _changes,
        _way_back,
        _undo,
        statements,
        sql_of_migrations,
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


def _expected(found: Data, what: str) -> tuple[str, str]:
    span = f"{format_duration(found['low'])} to {format_duration(found['high'])}"
    return f"≈ {format_duration(found['expected'])}", f"{what}: {span}"


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
    picture = share(Counter(change["kind"] for change in sorted(data["changes"], key=_by_kind)), _KINDS)
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
        f"{share(Counter(sorted(table['verdict'] for table in undo['tables'])), _CHIPS)}"
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
