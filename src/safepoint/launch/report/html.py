"""The report of a launch as one self-contained page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from itertools import groupby
from typing import Any
from urllib.parse import quote

from safepoint.config.durations import format_bytes
from safepoint.launch.report.chart import LABELS, PHASES, ROW, WIDTH, chart
from safepoint.launch.report.facts import in_zone, listing, shown
from safepoint.launch.report.page import page
from safepoint.launch.report.standing import clock, span

Report = Mapping[str, Any]

_TELLING = (("page", "who is affected"), ("letters", "a text for each"))
LEGEND = (
    ("pass", "passed"),
    ("fail", "failed"),
    ("waiting", "in doubt, a person decides"),
    ("interrupted", "interrupted"),
    ("running", "running"),
    ("pass diamond", "gate"),
    ("canary", "let in: only the canary's clients"),
)


def render(report: Report) -> str:
    """The page. Everything that comes from the ledger is escaped."""
    launch = report["launch"]
    body = [
        _verdict(report),
        _numbers(report),
        _timeline(report),
        _foreseen(report),
        _rollback(report),
        _writers(report),
        _checkpoints(report),
        _gates(report),
        _steps(report),
        _people(report),
        _footer(report),
    ]
    return page(
        f"{launch['application']} {launch['new']}: {launch['status']}", "\n".join(part for part in body if part)
    )


def _verdict(report: Report) -> str:
    launch, standing = report["launch"], report["standing"]
    began = clock(report, launch["started"], date=True)
    latest = clock(report, launch["latest"], date=True)
    reason = f"<dt>Why</dt><dd>{escape(launch['reason'])}</dd>" if launch["reason"] else ""
    return (
        f'<div class="over"><span>Launch <code>{escape(launch["id"])}</code> · begun by {escape(launch["by"])}, '
        f"{began}</span><span>as of {latest} · times are {escape(launch['timezone'])}</span></div>\n"
        f'<section class="verdict {standing["tone"]}"><div class="word">{escape(launch["status"])}</div>'
        f"<h1>{escape(standing['headline'])}</h1><dl>"
        f"<dt>Let in</dt><dd>{escape(standing['open'])}</dd>"
        f"<dt>Safe</dt><dd>{escape(standing['safe'])}</dd>{reason}"
        f"<dt>Next</dt><dd>{_code(standing['next'])}</dd></dl></section>"
    )


def _code(text: str) -> str:
    """Escaped text in which `words in backticks` are set as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if odd % 2 else part for odd, part in enumerate(parts))


def _numbers(report: Report) -> str:
    tiles = [
        f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for value, label in _tiles(report) if value
    ]
    return f'<section class="numbers">{"".join(tiles)}</section>' if tiles else ""


def _tiles(report: Report) -> Iterator[tuple[str, str]]:
    window, rollback = report["window"], report["rollback"]
    if window["started"]:
        taken_back = rollback is not None and rollback["downtime_seconds"] is not None
        unfinished = "taken back" if taken_back else "not over"
        total = span(window["seconds"]) if window["seconds"] is not None else unfinished
        yield total, "window: from closing the site to green"
        if window["migrate_seconds"] is not None:
            yield span(window["migrate_seconds"]), "of it the migration itself"
        if report["forecast"] and report["forecast"]["took"] is not None:
            foreseen = report["forecast"]
            other = "it took less" if foreseen["took"] < foreseen["low"] else "it took longer"
            kept = "as foreseen" if foreseen["held"] else other
            yield f"{span(foreseen['low'])} to {span(foreseen['high'])}", f"foreseen for the migration: {kept}"
        if window["minus_migrate_seconds"] is not None:
            yield span(window["minus_migrate_seconds"]), "of it everything else, canary and people included"
    if rollback is not None and rollback["downtime_seconds"] is not None:
        yield span(rollback["downtime_seconds"]), "downtime of the way back"
    proofs = [row for row in report["steps"] if row["verb"] == "proof" and row["verdict"] == "pass"]
    if proofs:
        rows = _fact(proofs[-1], "rows")
        yield f"{rows:,}" if rows is not None else str(len(proofs)), "rows proven equal by restoring the snapshot"
    snapshots = [row for row in report["steps"] if row["verb"] == "snapshot" and _fact(row, "bytes") is not None]
    if snapshots:
        several = f" (the last of {len(snapshots)})" if len(snapshots) > 1 else ""
        yield format_bytes(_fact(snapshots[-1], "bytes") or 0), f"snapshot, compressed{several}"


def _foreseen(report: Report) -> str:
    """Each step of the window as it was foreseen, and as it went; a pair of bars for each."""
    steps = [step for step in (report["forecast"] or {}).get("steps", ()) if step["took"] is not None]
    if not steps:
        return ""
    scale = (WIDTH - LABELS - 90) / max(0.001, *(max(step["foreseen"], step["took"]) for step in steps))
    parts = []
    for place, step in enumerate(steps):
        y = 4 + place * ROW
        told = f"{span(step['took'])}, foreseen {span(step['foreseen'])}"
        end = LABELS + max(1.5, max(step["foreseen"], step["took"]) * scale)
        parts.append(
            f'<text class="step" x="0" y="{y + 13}">{escape(step["title"][:44])}</text>'
            f"{_bar(y + 3, step['foreseen'] * scale, 'waiting')}{_bar(y + 10, step['took'] * scale, 'pass')}"
            f'<text class="took" x="{end + 5:.1f}" y="{y + 13}">{told}</text>'
        )
    return (
        '<h2>Foreseen, and what it took</h2><div class="frame">'
        f'<svg class="chart" viewBox="0 0 {WIDTH + 60} {ROW * len(steps) + 8}" role="img" '
        f'aria-label="Steps of the window, foreseen and taken" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
        '</div><div class="legend"><span><i class="waiting"></i>foreseen by the rehearsal</span>'
        '<span><i class="pass"></i>taken</span></div>'
    )


def _bar(y: float, width: float, tone: str) -> str:
    return f'<rect class="bar {tone}" x="{LABELS}" y="{y}" width="{max(1.5, width):.1f}" height="6" rx="1.5"/>'


def _fact(row: Mapping[str, Any], name: str) -> int | None:
    value = (row["evidence"] or {}).get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _timeline(report: Report) -> str:
    legend = "".join(f'<span><i class="{kind}"></i>{text}</span>' for kind, text in LEGEND)
    return (
        f'<h2>What happened when</h2>\n<div class="frame">\n{chart(report)}\n</div>\n<div class="legend">{legend}'
        "<span>Each stretch between two breaks has its own scale.</span></div>"
    )


def _rollback(report: Report) -> str:
    rollback = report["rollback"]
    if rollback is None:
        return ""
    by = rollback["by"] or ""
    by = f" (by {escape(by)})" if by not in rollback["reason"] else ""
    facts = [
        ("Result", escape(rollback["status"])),
        ("Reason", escape(rollback["reason"]) + by),
        ("Downtime", span(rollback["downtime_seconds"])),
        ("Carried back", f"{shown('carried', rollback['carried'])} transactions"),
        ("Not carried", f"{shown('listed', rollback['listed'])} transactions"),
        ("The list", _list(rollback)),
    ]
    facts += [("Not in the list", escape(one)) for one in rollback.get("missing") or ()]
    if affected := rollback.get("affected"):
        page_, letters = (f'<a href="{escape(quote(affected[name]))}">{text}</a>' for name, text in _TELLING)
        facts.append(("To be told", f"{affected['users']:,} users: {page_}, {letters}"))
        facts.append(("Their changes", _fates(affected, rollback["housekeeping_rows"])))
    users, count = rollback["users"], rollback["user_count"]
    if count is not None:
        facts.append(("Users who wrote", f"{count:,}"))
    rows = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in facts)
    parts = [f'<h2>The way back</h2>\n<div class="frame pairs"><table>{rows}</table></div>']
    if isinstance(users, Mapping) and users:
        named = [{"user": user, "rows": rows} for user, rows in users.items()]
        parts.append(listing("Changed rows by user", named, count=count))
    if isinstance(rollback["transactions"], list) and rollback["transactions"]:
        parts.append(listing("Transactions", rollback["transactions"]))
    return "\n".join(parts)


def _list(rollback: Mapping[str, Any]) -> str:
    """How much the file has: everything that was written, with what became of it."""
    count = rollback["transactions"]
    told = [f"{count:,} transactions"] if isinstance(count, int) else []
    told += [f"{rollback['rows']:,} changes of rows"] if isinstance(rollback["rows"], int) else []
    file = rollback["file"]
    told += [f'in <a href="{escape(quote(file))}">{escape(file)}</a>'] if file else []
    return ", ".join(told) or "–"


def _fates(affected: Mapping[str, Any], housekeeping: int | None) -> str:
    own = f"; and {housekeeping:,} of Django's own (sessions and the like)" if housekeeping else ""
    return (
        f"{affected['carried']:,} carried back as they were, {affected['part']:,} in part, {affected['stashed']:,} put "
        f"away for the next launch, {affected['lost']:,} lost{own}"
    )


def _writers(report: Report) -> str:
    writers = report["writers"]
    if not writers:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(name).replace('_', ' '))}</td><td>{shown(name, value)}</td></tr>"
        for name, value in writers.items()
    )
    return (
        '<h2>Writers during the launch</h2>\n<p class="quiet">Entries that the application acknowledged while the '
        f"launch ran, counted by those who wrote them.</p>\n<div class='frame pairs'><table>{rows}</table></div>"
    )


def _checkpoints(report: Report) -> str:
    if not report["checkpoints"]:
        return ""
    titles = {row["id"]: row["title"] for row in report["steps"]}
    parts = ["<h2>Checkpoints</h2>", '<div class="frame"><table>']
    parts.append(
        "<tr><th>Verdict</th><th>Checkpoint</th><th class='num'>Baseline</th><th class='num'>Value</th>"
        "<th class='num'>Limit</th><th>Detail</th></tr>"
    )
    for step, points in groupby(report["checkpoints"], key=lambda point: point["step"]):
        parts.append(f'<tr><td colspan="6"><h3 style="margin:8px 0 0">{escape(titles.get(step, step))}</h3></td></tr>')
        parts.extend(_checkpoint(point) for point in points)
    return "\n".join([*parts, "</table></div>"])


def _checkpoint(point: Mapping[str, Any]) -> str:
    unit = str(point.get("unit") or "")
    values = "".join(
        f'<td class="num">{escape(quantity(point.get(name), unit))}</td>' for name in ("baseline", "value", "limit")
    )
    name = escape(str(point.get("title") or point.get("name")))
    remedy = f"<br><b>Next:</b> {escape(point['remedy'])}" if point.get("remedy") else ""
    detail = escape(str(point.get("detail") or ""))
    return f'<tr><td>{_chip(point["verdict"])}</td><td>{name}</td>{values}<td class="long">{detail}{remedy}</td></tr>'


def quantity(value: Any, unit: str) -> str:
    """A measured value with its unit, as a person reads it; a dash where there is none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if unit == "bytes":
            return format_bytes(value)
        if unit == "s":
            return span(float(value))
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
        return f"{text} {unit}".strip()
    return str(value)


def _gates(report: Report) -> str:
    if not report["gates"]:
        return ""
    rows = "".join(
        f"<tr><td>{_chip(gate['verdict'])}</td><td>{escape(gate['title'])}</td><td>{escape(gate['by'] or '–')}</td>"
        f'<td class="num">{clock(report, gate["at"], date=True) if gate["at"] else "–"}</td>'
        f'<td class="long">{escape(gate["summary"])}</td></tr>'
        for gate in report["gates"]
    )
    head = "<tr><th>Verdict</th><th>Gate</th><th>Decided by</th><th class='num'>When</th><th>On what evidence</th></tr>"
    return f'<h2>Gates</h2>\n<div class="frame"><table>{head}{rows}</table></div>'


def _steps(report: Report) -> str:
    parts = ["<h2>Every step and what it proved</h2>"]
    ordered = sorted(report["steps"], key=lambda row: list(PHASES).index(row["phase"]) if row["phase"] in PHASES else 0)
    for phase, rows in groupby(ordered, key=lambda row: row["phase"]):
        parts.append(f'<h3>{escape(PHASES.get(phase, phase))}</h3>\n<div class="frame">')
        parts.extend(_step(report, row) for row in rows)
        parts.append("</div>")
    return "\n".join(parts)


def _step(report: Report, row: Mapping[str, Any]) -> str:
    evidence = row["evidence"] or {}
    at = clock(report, row["started"]) if row["started"] else ""
    took = span(row["seconds"]) if row["started"] else ""
    summary = (
        f'<summary><span>{_chip(row["verdict"])}</span><span class="num at">{at}</span>'
        f'<span>{escape(str(row["title"]))}</span><span class="num">{took}</span>'
        f'<span class="sum">{escape(str(evidence.get("summary", "")))}</span></summary>'
    )
    opened = " open" if row["verdict"] in ("fail", "waiting", "inconclusive") else ""
    return (
        f'<details class="step"{opened}>{summary}<div class="proof">{_error(row)}{_facts(report, row)}</div></details>'
    )


def _error(row: Mapping[str, Any]) -> str:
    error = row["error"]
    if not error:
        return ""
    lines = [f"<p><b>{escape(str(error.get('message', '')))}</b></p>"]
    lines += [
        f"<p>{label}: {escape(str(error[name]))}</p>"
        for name, label in (("subject", "On"), ("expected", "Expected"), ("found", "Found"), ("remedy", "Next"))
        if error.get(name)
    ]
    return f'<div class="error">{"".join(lines)}</div>'


def _facts(report: Report, row: Mapping[str, Any]) -> str:
    facts: list[tuple[str, str]] = [("step", f"<code>{escape(row['id'])}</code>")]
    if row["commands"]:
        facts.append(("runs", "<br>".join(f"<code>{escape(command)}</code>" for command in row["commands"])))
    if row["already"]:
        facts.append(("note", "was found done already, and proven again"))
    if row["decided"]:
        at = clock(report, row["decided"]["at"], date=True)
        facts.append(("decided", f"go by {escape(row['decided']['by'])}, {at}"))
    if len(row["attempts"]) > 1:
        facts.append(("attempts", "<br>".join(_attempt(report, attempt) for attempt in row["attempts"])))
    for name, value in in_zone(row["evidence"] or {}, report["launch"]["timezone"]).items():
        if name not in ("summary", "verdict"):
            facts.append((escape(str(name).replace("_", " ")), shown(name, value)))
    return "<table>" + "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in facts) + "</table>"


def _attempt(report: Report, attempt: Mapping[str, Any]) -> str:
    told = f" · {escape(attempt['summary'])}" if attempt["summary"] else ""
    at = clock(report, attempt["started"], date=True)
    return f"{_chip(attempt['verdict'])} run {attempt['run']}, {at}, {span(attempt['seconds'])}{told}"


def _chip(verdict: str) -> str:
    return f'<span class="chip {escape(verdict.replace(" ", "-"))}">{escape(verdict)}</span>'


def _people(report: Report) -> str:
    happened = [
        (order["at"], order["order"], order["by"], order["fate"], order["step"] or "") for order in report["orders"]
    ]
    happened += [
        (run["at"], "began" if run["kind"] == "run" else "resumed", run["by"], _conducted(run), "")
        for run in report["conductors"]
    ]
    if not happened:
        return ""
    rows = "".join(
        f'<tr><td class="num">{clock(report, at, date=True)}</td><td>{escape(what)}</td><td>{escape(by)}</td>'
        f'<td>{escape(step)}</td><td class="long">{escape(told)}</td></tr>'
        for at, what, by, told, step in sorted(happened)
    )
    head = "<tr><th class='num'>When</th><th>What</th><th>Who</th><th>At step</th><th>What became of it</th></tr>"
    return f'<h2>Orders and conductors</h2>\n<div class="frame"><table>{head}{rows}</table></div>'


def _conducted(run: Mapping[str, Any]) -> str:
    where = f"run {run['run']}: process {run['pid']} on {run['machine']}"
    return f"{where}, after {run['after']}" if run.get("after") else f"{where}, {run.get('course', '')}"


def _footer(report: Report) -> str:
    ledger, launch = report["ledger"], report["launch"]
    checked = "its hash chain was checked from the first line" if ledger["verified"] else "its hash chain is BROKEN"
    return (
        f"<footer><p>Made from the ledger of {ledger['entries']} entries; {checked}. The hash of its last line:</p>"
        f'<p class="hash"><code>{escape(ledger["head"])}</code></p><p>A ledger whose last line has this hash '
        "says what this page says: every line's hash covers the line before it. "
        f"Safepoint {escape(launch['safepoint'])}.</p></footer>"
    )
