"""The lint of a rehearsal: our own rules and squawk's, in the plan's mode, with the plan's waivers."""

from __future__ import annotations

from collections.abc import Sequence

from safepoint.config import PlanFile
from safepoint.django.intent import Intent
from safepoint.errors import CommandFailed
from safepoint.launch.rehearsal.rehearsals import Lint
from safepoint.rehearsal import squawk
from safepoint.rehearsal.catalogue import Picture
from safepoint.rehearsal.changes import TableChange
from safepoint.rehearsal.findings import Finding, ordered, waive
from safepoint.rehearsal.lint import former_names, lint, new_tables
from safepoint.rehearsal.observation import Observed
from safepoint.rehearsal.unexpected import unexpected


def linted(
    plan: PlanFile,
    intent: Intent,
    seen: Observed,
    changes: Sequence[TableChange],
    before: Picture,
    version: int,
) -> Lint:
    """Everything worth saying about the migrations.

    Args:
        before: the catalogue before the migrations.
        version: of the live server, as `server_version_num`.
    """
    mode = plan.rehearsal.mode
    notes = [f"not looked at: {fault}" for fault in intent.faults]
    findings: list[Finding] = []
    if intent.operations is not None:
        findings += lint(intent.operations, intent.pending, mode, seen, changes)
        known = plan.wayback
        rows = {"added_rows": known.added_rows, "removed_rows": known.removed_rows}
        findings += unexpected(intent.operations, changes, seen.costs, known.mappers, **rows)
    more, said = _squawk(plan, intent, findings, before, version)
    findings += more
    notes += said
    found, idle = waive(ordered(findings, intent.pending.labels), plan.rehearsal.waivers)
    return Lint(mode, found, (*notes, *idle))


def breaking(lint: Lint) -> tuple[str, ...]:
    """What makes a launch a no-go: old code that still runs would fail, and nobody has accepted it."""
    found = [one for one in lint.findings if one.grade == "breaks" and one.waived is None]
    if not found:
        return ()
    rules = ", ".join(dict.fromkeys(one.rule for one in found))
    return (f"{len(found)} operations break the old code that still runs in a rolling release: {rules}",)


def _squawk(
    plan: PlanFile, intent: Intent, ours: list[Finding], before: Picture, version: int
) -> tuple[list[Finding], list[str]]:
    notes = [
        f"the SQL of {one.label} cannot be written down beforehand: {one.forward_error}"
        for one in intent.sql
        if one.forward_error
    ]
    program = squawk.program()
    if program is None:
        missing = "squawk is not installed: the SQL was looked at by our own rules only (pip install 'safepoint[lint]')"
        return [], [*notes, missing]
    try:
        said = squawk.listen(program, intent.sql, version // 10000)
    except CommandFailed as error:
        return [], [*notes, f"squawk was not heard: {error.message}"]
    new = frozenset() if intent.operations is None else new_tables(intent.operations)
    sizes = {table.relation: table.bytes for table in before.tables.values()}
    former = {} if intent.operations is None else former_names(intent.operations)
    sizes |= {name: sizes[old] for name, old in former.items() if old in sizes}
    return list(squawk.worth_saying(said, intent.sql, plan.rehearsal.mode, ours, sizes, new)), notes
