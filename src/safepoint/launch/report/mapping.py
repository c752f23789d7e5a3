"""The way back as a table that a person can check: rows for a terminal, Markdown, a page, JSON. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from html import escape
from itertools import groupby
from typing import Any

from safepoint.config import format_duration
from safepoint.launch.report.page import page
from safepoint.launch.report.timetable import cell
from safepoint.launch.wayback.waybacks import Known
from safepoint.wayback.mapping.deriving import keyed
from safepoint.wayback.mapping.mapping import SAME, Line, Mappers, WayBack, short
from safepoint.wayback.trial.roundtrip import ANYTHING, NOTHING, Accepted, asked

MEANINGS = {
    "same": "taken as it is",
    "renamed": "taken from its new name",
    "retyped": "cast back; the twin's own value where it says the same",
    "remapped": "an id matched by what it names: content types, permissions",
    "restored": "the value of the safe point; a new row gets the default",
    "mapped": "by your own SQL in the plan file",
    "generated": "computed by PostgreSQL itself",
    "none": "nobody knows: write a mapper, SQL over the new row (old.x is what x was at the safe point)",
    "stashed": "no home in the old schema: kept, and re-attached by the next launch",
    "kept": "stays as it was at the safe point",
}
SQL_MEANS = "# SQL over the new row; coalesce(old.x, x): a row that was there keeps its x of the safe point"
SO = "where that may be so"
_NAMED = re.compile(r"put \[(wayback\.tables\..+?)\] into the plan\.")  # what is answered by the table's name alone
_TONES = {"none": "fail", "restored": "interrupted", "stashed": "running", "mapped": "pass", "kept": "running"}


@dataclass(frozen=True)
class MappingTable:
    """The table with what it was made of. `problems` keep a rollback from carrying; `doubts` a proof has found."""

    old: str
    new: str
    made: str
    proven: bool | None
    lines: tuple[Line, ...]
    problems: tuple[str, ...]
    doubts: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What a rollback would do, in a sentence."""
        if self.problems:
            return f"A rollback would list instead of carrying: {len(self.problems)} columns or tables need a mapper."
        if self.proven:
            return "Proven: every migrated row of the copy came back as it was. A rollback carries by this table."
        if self.proven is None:
            return (
                "Derived, not proven yet: `safepoint rehearse`, or the launch's prove-way-back, tries it on every row."
            )
        return "Not proven: on the copy not every value came back, so a rollback would list instead of carrying."

    @property
    def to_write(self) -> str:
        """What a person writes into the plan file where nobody knows a value; empty where nothing is missing."""
        missing = [line for line in self.lines if line.doubt and line.kind != "mapped"]
        text: dict[str, list[str]] = {}
        for table, lines in groupby(missing, key=lambda line: line.table):
            columns = ", ".join(f'{keyed(line.column)} = "SQL"' for line in lines)
            text.setdefault(f"wayback.tables.{keyed(table)}", []).append(f"columns = {{ {columns} }}")
        begin = [SQL_MEANS] if text else []
        for table, keys, said in filter(None, map(asked, self.doubts)):
            text.setdefault(table, []).extend(f"{key}  # {SO}: {said}" for key in keys)
        for table in _NAMED.findall("\n".join((*self.problems, *self.doubts))):
            text.setdefault(table, [])
        tables = (([f"[{table}]", *found] if found else [f"[{table}]  # {SO}"]) for table, found in text.items())
        return "\n".join([*begin, *(line for lines in tables for line in lines)])

    @property
    def counts(self) -> dict[str, int]:
        """How many lines there are of each kind."""
        found = Counter(line.kind for line in self.lines)
        return {kind: found[kind] for kind in MEANINGS if found[kind]}

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "verdict": self.verdict, "counts": self.counts}


def mapping_table(
    known: Known,
    mappers: Mappers,
    old: str,
    now: datetime,
    affected: Collection[str] = (),
    accepted: Accepted = NOTHING,
) -> MappingTable:
    """Work the table out by the plan file's mappers as they are now.

    Args:
        affected: the tables of which the plan file says whose their rows are.
        accepted: the tables to which rows may come, or of which they may go, as it says now.
        old: the old release's version.
        now: for the age of what is known.
    """
    mapping = known.schemas.mapping(mappers)
    before = known.schemas.mapping({})
    # A proof tells what had no mapper then among what did not come back.
    found = [one for one in known.doubts if one not in (*before.problems, *mapping.problems)]
    doubts = tuple(one for one in found if not accepted.answers(one))
    proven = None if known.proven is False and not doubts and not known.wrong else known.proven
    changed = known.proven is not None and _mapped(mapping) and known.wrong
    age = format_duration(max(0.0, (now - known.made_at).total_seconds()))
    made = f"from the {known.by} of {known.made_at:%Y-%m-%d %H:%M} UTC ({age} ago, {known.where})"
    notes = list(mapping.notes)
    notes += [
        f"wayback.affected.{name}: the new schema has no such table."
        for name in affected
        if known.schemas.new.find(name) is None
    ]
    notes += _may_be_null(known, mapping)
    notes += _rereading(known, mapping)
    if changed:
        notes.append("What did not come back was counted with the mappers as they were then.")
    if known.proven is False and (mapping.problems != before.problems or len(doubts) < len(found)):
        notes.append("The plan file answers by now what was a problem; only another proof tells whether rightly.")
    return MappingTable(
        old=old,
        new=known.release,
        made=made,
        proven=proven,
        lines=tuple(_told(line, known) for line in mapping.lines()),
        problems=mapping.problems,
        doubts=doubts if known.proven is False else (),
        notes=tuple(notes),
    )


def _may_be_null(known: Known, mapping: WayBack) -> list[str]:
    """Columns from which a migration takes NOT NULL: no row of the day shows what people may leave empty after it."""
    old, new = known.schemas.old.tables, known.schemas.new.tables
    return [
        f"{short(rule.old)}.{column.column} may be NULL after the launch, and not in the old schema: a rollback cannot "
        "carry a row that has none there; it waits for the next launch."
        for rule in mapping.tables
        for column in rule.columns
        if column.new is not None
        and column.kind in ("same", "renamed", "retyped")
        and old[rule.old].by_name[column.column].not_null
        and not new[rule.new].by_name[column.new].not_null
    ]


def _rereading(known: Known, mapping: WayBack) -> list[str]:
    """Which mappers make a rollback read a whole table, and that with the site closed."""
    mapped = {rule.old for rule in mapping.tables if any(column.kind == "mapped" for column in rule.columns)}
    return [
        f"{short(table)}: a mapper reads {_named(reads)} besides its row. Where that was written to since the launch, "
        f"a rollback computes it anew for all rows of {short(table)} while the site is closed: {rows:,} on the copy."
        for table, (rows, reads) in known.rereads.items()
        if table in mapped
    ]


def _named(reads: Collection[str]) -> str:
    if ANYTHING in reads:
        return "what nobody can tell (any write counts)"
    return ", ".join(map(short, reads))


def _mapped(mapping: WayBack) -> bool:
    return any(column.kind == "mapped" for rule in mapping.tables for column in rule.columns)


def _told(line: Line, known: Known) -> Line:
    """The line with what the round trip found of an old column; what is stashed of a new one may have its name."""
    if line.kind == "stashed":
        return line
    name = line.table if "." in line.table else f"public.{line.table}"
    wrong = known.wrong.get(f"{name}.{line.column}")
    if not wrong:
        return line
    said = f"{wrong:,} values did not come back"
    return replace(line, doubt=f"{line.doubt}; {said}" if line.doubt else said)


def title(table: MappingTable) -> str:
    """What the table is about, in a line."""
    return f"The way back: {table.new} -> {table.old}"


def _value(line: Line) -> str:
    """The expression as a person writes it: quotes only where they are needed."""
    words = line.value.split('"')
    plain = all(word.isidentifier() and word.islower() for word in words[1::2])
    return "".join(words) if plain else line.value


def rows(table: MappingTable) -> Iterator[tuple[str, Line, str]]:
    """The lines, each with its table where that is another than before, and with its expression."""
    for name, lines in groupby(table.lines, key=lambda line: line.table):
        for number, line in enumerate(lines):
            yield ("" if number else name), line, _value(line)


def brief(table: MappingTable) -> tuple[MappingTable, tuple[str, ...]]:
    """The same with what a person has to check, and the tables that are left out: all of their columns are plainly the
    same. In other tables such columns share a line."""
    lines: list[Line] = []
    left: list[str] = []
    for name, found in groupby(table.lines, key=lambda line: line.table):
        one = list(found)
        same = [line for line in one if line.plain]
        if len(same) == len(one):
            left.append(name)
            continue
        if len(same) > 1:
            shared = Line(name, ", ".join(line.column for line in same), "same", "", SAME)
            heading = [line for line in one if line.column == "*"]
            one = [*heading, shared, *(line for line in one if not line.plain and line.column != "*")]
        lines += one
    return replace(table, lines=tuple(lines)), tuple(left)


def markdown(table: MappingTable) -> str:
    """A Markdown table, with the sentences around it."""
    lines = [f"# {cell(title(table))}", "", table.verdict, "", f"Made {cell(table.made)}.", ""]
    lines += [f"- **Problem**: {cell(one)}" for one in (*table.problems, *table.doubts)]
    lines += ["", "To be written into the plan file:", "", "```toml", table.to_write, "```"] if table.to_write else []
    lines += ["", "| table | column | how | value | where it comes from |", "|---|---|---|---|---|"]
    for name, line, value in rows(table):
        doubt = f" **{cell(line.doubt)}**" if line.doubt else ""
        shown = f"`{cell(value)}`" if value else ""
        lines.append(f"| {cell(name)} | {cell(line.column)} | {line.kind} | {shown} | {cell(line.source)}{doubt} |")
    lines += ["", *(f"- **{kind}**: {MEANINGS[kind]}" for kind in table.counts)]
    lines += [f"- {cell(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def mapping_page(table: MappingTable) -> str:
    """The table as a self-contained page."""
    tone = "bad" if table.problems or table.proven is False else "good" if table.proven else "ask"
    word = "proven" if tone == "good" else "not proven" if tone == "bad" else "not proven yet"
    facts = "".join(f"<dt>Problem</dt><dd>{escape(one)}</dd>" for one in (*table.problems, *table.doubts))
    facts += f"<dt>Write</dt><dd><pre>{escape(table.to_write)}</pre></dd>" if table.to_write else ""
    facts += "".join(f"<dt>Note</dt><dd>{escape(one)}</dd>" for one in table.notes)
    head = (
        f'<div class="over"><span>{escape(table.made)}</span></div>'
        f'<section class="verdict {tone}"><div class="word">{word}</div><h1>{escape(title(table))}</h1>'
        f"<dl><dt>Means</dt><dd>{escape(table.verdict)}</dd>{facts}</dl></section>"
    )
    tiles = "".join(f"<div><b>{count:,}</b><span>{kind}</span></div>" for kind, count in table.counts.items())
    columns = "<tr><th>Table</th><th>Column</th><th>How</th><th>Value</th><th>Where it comes from</th></tr>"
    body = "".join(_page_row(*row) for row in rows(table))
    legend = "".join(f"<span><b>{kind}</b>: {MEANINGS[kind]}</span>" for kind in table.counts)
    return page(
        title(table),
        f'{head}<section class="numbers">{tiles}</section><h2>Each column of {escape(table.old)}</h2>'
        f'<div class="frame"><table>{columns}{body}</table></div><div class="legend">{legend}</div>',
    )


def _page_row(name: str, line: Line, value: str) -> str:
    tone = "fail" if line.doubt else _TONES.get(line.kind, "")
    doubt = f"<br><b>{escape(line.doubt)}</b>" if line.doubt else ""
    shown = f"<code>{escape(value)}</code>" if value else ""
    return (
        f"<tr><td><b>{escape(name)}</b></td><td>{escape(line.column)}</td>"
        f'<td><span class="chip {tone}">{line.kind}</span></td><td class="long">{shown}</td>'
        f'<td class="long">{escape(line.source)}{doubt}</td></tr>'
    )
