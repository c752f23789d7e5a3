"""What the migrations changed in rows although none of their operations names it: found by content. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from safepoint.config.rules import RULES
from safepoint.django.operations import Operation, Operations
from safepoint.rehearsal.changes import TableChange
from safepoint.rehearsal.costs import Cost
from safepoint.rehearsal.findings import Finding
from safepoint.rehearsal.lint import new_tables, relation

RULE: Final = "unexpected-change"

_DJANGOS: Final = frozenset({"django_migrations", "django_content_type", "auth_permission"})
"""What `migrate` itself writes to, whatever the migrations are."""
_HANDLERS: Final = "post_migrate"
"""In place of a migration's name: what was written after all of them had ended, as roles and permissions are."""
_WRITES: Final = r"\b(?:{verbs})\b[^;]*?(?<![\w$]){table}(?![\w$])"
_CHANGES: Final = "update"
_ADDS: Final = "into|copy"
_REMOVES: Final = r"delete\s+from|truncate"
_ANY: Final = "|".join((_CHANGES, _ADDS, _REMOVES))


def unexpected(
    operations: Operations,
    changes: Iterable[TableChange],
    costs: Sequence[Cost] = (),
    said: Mapping[str, Collection[str]] | None = None,
    *,
    added_rows: Collection[str] = (),
    removed_rows: Collection[str] = (),
) -> Iterator[Finding]:
    """Columns with other values that no operation names, and rows that came or went in a table that was there.

    Args:
        costs: the statements of the run, as far as they were counted: they tell which migration it was.
        said: columns of which the plan file itself says how they change, by their old tables.
        added_rows, removed_rows: the old tables of which it says that a migration adds, or removes, rows.
    """
    named, new = _named(operations), new_tables(operations)
    for change in changes:
        if change.before is None or change.after is None:
            continue  # what came and went as a whole is an operation's, or hidden SQL's
        tables = (relation(change.before), relation(change.after))
        if _DJANGOS.intersection(tables) or new.intersection(tables):
            continue
        known = {name for table in tables for name in (said or {}).get(table, ())}
        columns = [
            column.before
            for column in change.columns
            if column.kind == "re-expressed"
            and column.before is not None
            and column.before not in known
            and not named.intersection((table, name) for table in tables for name in (column.before, column.after))
        ]
        what = [f"other values in {', '.join(columns)}"] if columns else []
        added = 0 if set(tables).intersection(added_rows) else change.added
        removed = 0 if set(tables).intersection(removed_rows) else change.removed
        if added or removed:
            what.append(f"{change.added:,} rows more and {change.removed:,} gone")
        if what:
            seen = ((_ADDS, added), (_REMOVES, removed), (_CHANGES, columns))
            verbs = "|".join(verb for verb, so in seen if so)
            yield _finding(operations, _writing(costs, tables, verbs), tables, "; ".join(what))


def _named(operations: Operations) -> set[tuple[str, str | None]]:
    """The columns that operations make, change, rename and remove, by each name of table and column."""
    return {
        (table, name)
        for operation in operations.operations
        for effect in operation.changes
        if effect.what.startswith("column-")
        for table in (effect.before, effect.after)
        for name in (effect.name, effect.now)
        if name
    }


def _writing(costs: Sequence[Cost], tables: tuple[str, str], verbs: str) -> list[tuple[str, ...]]:
    """By which migrations each of the statements ran that did so to the table; else of those that wrote to it at all:
    rows may go by another way, such as a key that cascades."""
    wrote = [one for one in costs if one.rows and _writes(one.text, tables, _ANY)]
    return [one.migrations for one in wrote if _writes(one.text, tables, verbs)] or [one.migrations for one in wrote]


def _finding(operations: Operations, wrote: Sequence[tuple[str, ...]], tables: tuple[str, str], what: str) -> Finding:
    if wrote and not any(wrote):
        why = f"{tables[0]}: {what}, and that was none of these migrations"
        return Finding(RULE, _HANDLERS, "handlers of that signal", why, RULES[RULE].safer, table=tables[0])
    label = next((labels[0] for labels in wrote if labels), None)
    opaque = _writers(operations, label)
    migration = opaque[-1].migration if opaque else (label or "")
    where = ", ".join(dict.fromkeys(one.text for one in opaque)) or "no operation that writes rows"
    why = f"{tables[0]}: {what}, and no operation of these migrations says so"
    return Finding(RULE, migration, where, why, RULES[RULE].safer, table=tables[0])


def _writers(operations: Operations, wrote: str | None) -> list[Operation]:
    """The operations that may have written it, those of one migration where its statement was counted.

    On a busy machine several migrations may end between two looks, and what was counted is taken for the longest one's.
    Where that has no operation that writes rows, it was the last one before it that has; else the first one after it.
    """
    opaque = [one for one in operations.operations if one.opaque]
    if wrote is None or wrote not in operations.migrations:
        return opaque
    place = operations.migrations.index(wrote) + 1
    near = (*reversed(operations.migrations[:place]), *operations.migrations[place:])
    writer = next((name for name in near if any(one.migration == name for one in opaque)), None)
    return [one for one in opaque if one.migration == writer]


def _writes(text: str, tables: tuple[str, str], verbs: str) -> bool:
    patterns = (_WRITES.format(verbs=verbs, table=re.escape(table)) for table in dict.fromkeys(tables))
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in patterns)
