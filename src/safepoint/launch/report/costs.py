"""What a rehearsal's migrations and statements cost, as tables of its page, and their SQL. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Final

from safepoint.config.durations import format_bytes, format_duration

Data = Mapping[str, Any]

# A statement that took less is counted together with others, unless it is among the first.
_WORTH: Final = 0.01
_SHOWN: Final = 5


def written(data: Data) -> str:
    """A line for each migration: what it wrote, and how much bigger the database is after it."""
    runs = data["migrate"]["migrations"]
    if not any(run["wal_bytes"] or run["rows"] for run in runs):
        return ""
    most = max(run["wal_bytes"] for run in runs) or 1
    rows = "".join(
        f'<tr><td>{escape(run["label"])}{_rebuilt(run)}</td><td class="num">{format_duration(run["seconds"])}</td>'
        f'<td class="num">{_known(run["rows"])}</td>'
        f'<td class="num metered">{_meter(run["wal_bytes"] / most)}{format_bytes(run["wal_bytes"])}</td>'
        f'<td class="num">{_known(run["temporary_bytes"], format_bytes)}</td>'
        f'<td class="num">{_signed(run["grown_bytes"])}</td></tr>'
        for run in runs
    )
    names = ("Took", "Rows written", "Log written", "Temporary disk", "Database after it")
    head = f"<tr><th>Migration</th>{''.join(map(_number, names))}</tr>"
    return f'<h2>What each migration wrote</h2><div class="frame"><table>{head}{rows}</table></div>'


def _rebuilt(found: Data) -> str:
    """The tables that were rewritten, each with its indexes, and the indexes that were built besides."""
    beside = [name for name in found["indexes"] if name.split(" on ")[-1] not in found["rewrites"]]
    told = []
    for table in found["rewrites"]:
        count = sum(name.split(" on ")[-1] == table for name in found["indexes"])
        told.append(
            f"rewrites {table}{f' and its {count} indexes' if count > 1 else ' and its index' if count else ''}"
        )
    told += [f"builds {name}" for name in beside]
    return f'<br><span class="quiet">{escape("; ".join(told))}</span>' if told else ""


def _number(name: str) -> str:
    return f'<th class="num">{name}</th>'


def _known(value: int | None, form: Callable[[int], str] = "{:,}".format) -> str:
    return "not counted" if value is None else form(value)


def _signed(value: int) -> str:
    return f"{'+' if value >= 0 else '−'}{format_bytes(abs(value))}"


def _meter(share: float) -> str:
    wide = max(1.0, 60 * share)
    return (
        '<svg class="meter" width="60" height="8" aria-hidden="true">'
        f'<rect width="{wide:.1f}" height="8" rx="1.5"/></svg>'
    )


def statements(data: Data) -> str:
    """By what they cost in all, where the server counted; else those that were seen running."""
    costs, seen = data["migrate"]["costs"], data["migrate"]["statements"]
    held = {one["text"]: _blocked(one) for one in seen}
    shown = [one for place, one in enumerate(costs) if place < _SHOWN or one["seconds"] >= _WORTH]
    rows = "".join(
        f'<tr><td class="num">{format_duration(one["seconds"])}</td><td class="num">{one["calls"]:,}</td>'
        f'<td class="long"><code>{escape(one["text"])}</code><br><span class="quiet">'
        f"{escape('; '.join([*one['migrations'], *([held[one['text']]] if one['text'] in held else [])]))}</span>"
        f"{_rebuilt(one)}</td>"
        f'<td class="num">{one["rows"]:,}</td><td class="num">{format_bytes(one["wal_bytes"])}</td>'
        f'<td class="num">{format_bytes(one["temporary_bytes"])}</td></tr>'
        for one in shown
    )
    left = costs[len(shown) :]
    if left:
        took = format_duration(sum(one["seconds"] for one in left))
        said = f"{len(left)} more statements, together"
        rows += f'<tr><td class="num">{took}</td><td></td><td class="quiet">{said}</td></tr>'
    if rows:
        before, after = ("In all", "Calls"), ("Rows written", "Log written", "Temporary disk")
        head = "".join((*map(_number, before), "<th>Statement, and whom it kept out</th>", *map(_number, after)))
        head = f"<tr>{head}</tr>"
        return f'<h2>Statements by what they cost</h2><div class="frame"><table>{head}{rows}</table></div>'
    rows = "".join(
        f'<tr><td class="num">{format_duration(one["seconds"])}</td>'
        f'<td class="long"><code>{escape(one["text"])}</code><br>'
        f'<span class="quiet">{escape(_blocked(one))}</span></td>'
        f'<td class="num">{format_bytes(one["wal_bytes"])}</td><td class="num">{format_bytes(one["temporary_bytes"])}'
        "</td></tr>"
        for one in seen
    )
    if not rows:
        return ""
    head = "<tr><th>Took</th><th>Statement, and whom it kept out</th><th>Log written</th><th>Temporary disk</th></tr>"
    return f'<h2>Slowest statements</h2><div class="frame"><table>{head}{rows}</table></div>'


def _blocked(statement: Data) -> str:
    told = (
        f"{lock['blocks']} out of {lock['table']}{f' for {format_duration(held)}' if (held := lock['seconds']) else ''}"
        for lock in statement["locks"]
    )
    return "; ".join(told) or "nobody was kept out"


def sql_of_migrations(data: Data) -> str:
    """What each migration would run, and what would undo it, as `sqlmigrate` writes it; closed at first."""
    ways = (("forward", "Forward"), ("backward", "Backward"))
    folded = "".join(
        f"<details><summary><code>{escape(one['label'])}</code></summary>"
        + "".join(f"<h3>{title}</h3>{_written_down(one[way], one[f'{way}_error'])}" for way, title in ways)
        + "</details>"
        for one in data["sql"]
    )
    return f"<h2>The SQL of the migrations</h2>{folded}" if folded else ""


def _written_down(text: str | None, error: str | None) -> str:
    if text is None:
        return f'<p class="quiet">It cannot be written down beforehand: {escape(error or "")}</p>'
    return f"<pre>{escape(text)}</pre>" if text.strip() else '<p class="quiet">Nothing.</p>'
