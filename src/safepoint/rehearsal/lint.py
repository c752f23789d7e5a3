"""What is wrong with the migrations' operations, knowing the mode and what the rehearsal has seen. Pure.

The operations say what the old code will miss; the data and the locks that were seen say what it costs. A rule that
could only guess (how long would that lock be held?) asks what was measured instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from safepoint.config.rules import RULES, Mode
from safepoint.django.operations import Effect, Operation, Operations, StateColumn
from safepoint.django.pending import Pending
from safepoint.rehearsal.changes import TableChange
from safepoint.rehearsal.findings import Finding
from safepoint.rehearsal.observation import Lock, Observed

LONG = 0.25
"""Seconds on the copy from which on a lock is worth a line."""

_INTEGERS = ("smallint", "integer", "bigint")
_CONCURRENTLY = ("AddIndexConcurrently", "RemoveIndexConcurrently")
_RESTRICTING = ("AddConstraint", "AddConstraintNotValid", "AlterUniqueTogether")
_STRUCTURE = (*_CONCURRENTLY, *_RESTRICTING, "AddIndex", "RemoveIndex", "RemoveConstraint", "ValidateConstraint")
_SIZED = re.compile(r"^(?P<name>[a-z ]+?)(?:\((?P<size>\d+)(?:, ?(?P<scale>\d+))?\))?$")


@dataclass
class _New:
    """Tables and columns that this very launch makes: no old code knows them."""

    tables: set[str] = field(default_factory=set)
    columns: set[tuple[str, str]] = field(default_factory=set)

    def learn(self, effect: Effect) -> None:
        """Follow what an effect makes and renames."""
        if effect.what == "table-created":
            self.tables.add(effect.after)
        if effect.what == "table-renamed":
            if effect.before in self.tables:
                self.tables.add(effect.after)
            self.columns |= {(effect.after, name) for table, name in self.columns if table == effect.before}
        if effect.what == "column-added" and effect.name:
            self.columns.add((effect.after, effect.name))
        if effect.what == "column-renamed" and (effect.before, effect.name) in self.columns and effect.now:
            self.columns.add((effect.after, effect.now))

    def has(self, effect: Effect) -> bool:
        """Whether an effect is about something new."""
        return effect.before in self.tables or (effect.before, effect.name or "") in self.columns


def lint(
    operations: Operations,
    pending: Pending,
    mode: Mode,
    seen: Observed | None = None,
    changes: Iterable[TableChange] = (),
) -> tuple[Finding, ...]:
    """All findings of our own rules.

    Args:
        seen: the observed run; None leaves out what only a run can tell.
        changes: what became of the columns of the copy.
    """
    lost = _lost(changes)
    new = _New()
    found: list[Finding] = []
    for operation in operations.operations:
        found += _operation(operation, operations, new, lost)
        for effect in operation.changes:
            new.learn(effect)
    found += _half_applied(operations, pending)
    if seen is not None:
        found += _locks(operations, seen, new)
    return tuple(one for one in found if mode in RULES[one.rule].modes)


def new_tables(operations: Operations) -> frozenset[str]:
    """The tables that these migrations make, by each name that they have for a while."""
    new = _New()
    for operation in operations.operations:
        for effect in operation.changes:
            new.learn(effect)
    return frozenset(new.tables)


def former_names(operations: Operations) -> dict[str, str]:
    """What renamed tables are called today, by each name that they will have."""
    found: dict[str, str] = {}
    for operation in operations.operations:
        for effect in operation.changes:
            if effect.what == "table-renamed":
                found[effect.after] = found.get(effect.before, effect.before)
    return found


def _finding(rule: str, operation: Operation, table: str | None, why: str, safer: str | None = None) -> Finding:
    return Finding(rule, operation.migration, operation.text, why, safer or RULES[rule].safer, table=table)


def _operation(
    operation: Operation, operations: Operations, new: _New, lost: Mapping[tuple[str, str], str]
) -> Iterator[Finding]:
    for effect in operation.changes:
        if effect.what == "table-created":
            yield from _created(operation, effect, operations)
        elif not new.has(effect):
            yield from _effect(operation, effect, lost)
    restricts = operation.kind in _RESTRICTING and not operation.loosens
    if restricts and operation.table is not None and operation.table not in new.tables:
        why = f"the old code does not know of it: what it writes to {operation.table} may be refused"
        yield _finding("restricts-rows", operation, operation.table, why)
    if operation.kind in _CONCURRENTLY:
        why = "it scans the table twice, waits for every transaction, and leaves an invalid index when it breaks off"
        yield _finding("concurrently-in-window", operation, operation.table, why)
    if operation.hides:
        yield _finding(
            "hides-schema", operation, None, "SQL that changes tables of which the models' state hears nothing"
        )


def _created(operation: Operation, effect: Effect, operations: Operations) -> Iterator[Finding]:
    table = operations.after.get(effect.after)
    columns = {} if table is None else table.columns
    keys = [column for column in columns.values() if column.primary_key and not column.references]
    if len(keys) == 1 and keys[0].type in ("smallint", "integer", "serial", "smallserial"):
        yield _finding("small-key", operation, effect.after, f"the key of {effect.after} is {keys[0].type}")


def _effect(operation: Operation, effect: Effect, lost: Mapping[tuple[str, str], str]) -> Iterator[Finding]:
    table, name = effect.before, effect.name
    if effect.what == "table-deleted":
        yield _finding("removes-table", operation, table, f"the old code still reads and writes {table}")
    elif effect.what == "table-renamed":
        yield _finding("renames-table", operation, table, f"the old code asks for {table}, now {effect.after}")
    elif effect.what == "column-removed":
        why = f"every query of the old code for {table} names {name}"
        yield _finding("removes-column", operation, table, why)
    elif effect.what == "column-renamed":
        why = f"the old code asks {table} for {name}, now {effect.now}"
        yield _finding("renames-column", operation, table, why)
    elif effect.what == "column-added" and effect.becomes is not None and _required(effect.becomes):
        why = (
            f"{table}.{name} is NOT NULL and the database has no default for it (Django takes its own away again): "
            "an INSERT of the old code fails"
        )
        yield _finding("requires-column", operation, table, why)
    elif effect.what == "column-altered" and effect.was is not None and effect.becomes is not None:
        yield from _altered(operation, effect, effect.was, effect.becomes, lost)


def _required(column: StateColumn) -> bool:
    return not column.null and not column.db_default


def _altered(
    operation: Operation,
    effect: Effect,
    was: StateColumn,
    becomes: StateColumn,
    lost: Mapping[tuple[str, str], str],
) -> Iterator[Finding]:
    table, name = effect.before, str(effect.name)
    if was.null and _required(becomes):
        yield _finding("requires-column", operation, table, f"the old code may still write NULL to {table}.{name}")
    if becomes.unique and not was.unique:
        yield _finding("restricts-rows", operation, table, f"the old code may write a value of {name} twice")
    if was.type == becomes.type:
        return
    change = f"{table}.{name}: {was.type} → {becomes.type}"
    if narrows(was.type, becomes.type):
        rounds = was.type.startswith(("numeric", "double", "real"))
        seen = lost.get((table, name)) or lost.get((effect.after, name))
        later = "would be rounded without a word" if rounds else "would make the migration fail"
        said = seen or f"all values of the snapshot fit; a later one that does not {later}"
        yield _finding("narrows-column", operation, table, f"{change}; {said}")
    elif not widens(was.type, becomes.type):
        yield _finding("retypes-column", operation, table, f"{change}: the old code reads and writes the former type")


def _half_applied(operations: Operations, pending: Pending) -> Iterator[Finding]:
    for migration in pending.migrations:
        if migration.atomic:
            continue
        work = [
            one
            for one in operations.operations
            if one.migration == migration.label and (one.changes or one.opaque or one.kind in _STRUCTURE)
        ]
        if len(work) > 1:
            why = (
                f"not atomic, with {len(work)} operations: where one fails, those before it stay, the migration is not "
                "recorded, and the next try stumbles over them"
            )
            yield Finding("half-applied", migration.label, f"{len(work)} operations", why, RULES["half-applied"].safer)


def _locks(operations: Operations, seen: Observed, new: _New) -> Iterator[Finding]:
    for run in seen.migrations:
        for lock in run.locks:
            table = relation(lock.table)
            if not lock.blocks or lock.seconds < LONG or table in new.tables:
                continue
            work = [one for one in operations.operations if one.migration == run.label]
            why = f"kept {lock.blocks} out of {table} for {lock.seconds:.1f} s on the copy"
            yield Finding("holds-lock", run.label, lock.mode, why, _shorter(work, lock), table=table)


def _shorter(work: list[Operation], lock: Lock) -> str:
    """How the lock would be held for less long, by what stands in the migration."""
    kinds = {one.kind for one in work}
    if any(one.opaque for one in work) and len(work) > 1 and lock.blocks == "readers and writers":
        return "Put the data migration into a migration of its own: the schema change's lock is held until it ends."
    if "AddIndex" in kinds:
        return "AddIndexConcurrently, in a migration that is not atomic."
    if kinds.intersection(_RESTRICTING):
        return "AddConstraintNotValid, then ValidateConstraint in a migration of its own."
    return RULES["holds-lock"].safer


def relation(name: str) -> str:
    """The table's bare name of before from `schema.table` or `schema.table → schema.other`."""
    return name.split(" → ")[0].rsplit(".", 1)[-1].strip('"')


def _lost(changes: Iterable[TableChange]) -> dict[tuple[str, str], str]:
    """What the copy says of narrowed columns, by each name of table and column."""
    found = {}
    for change in changes:
        for column in change.columns:
            if column.kind == "narrowed" and column.rows:
                said = f"{column.rows:,} values of the snapshot do not come back"
                for table in (change.before, change.after):
                    for name in (column.before, column.after):
                        found[(relation(table or ""), name or "")] = said
    return found


def narrows(was: str, becomes: str) -> bool:
    """Whether a value of the one type may not fit into the other of the same kind."""
    one, two = _SIZED.match(was), _SIZED.match(becomes)
    if one is None or two is None:
        return False
    if one["name"] in _INTEGERS and two["name"] in _INTEGERS:
        return _INTEGERS.index(two["name"]) < _INTEGERS.index(one["name"])
    if _texts(one, two):
        return two["size"] is not None and (one["size"] is None or int(two["size"]) < int(one["size"]))
    if one["name"] == two["name"] == "numeric" and two["size"] is not None:
        if one["size"] is None:
            return True
        scales = int(one["scale"] or 0), int(two["scale"] or 0)
        return scales[1] < scales[0] or int(two["size"]) - scales[1] < int(one["size"]) - scales[0]
    return one["name"] in ("numeric", "double precision", "real") and two["name"] in _INTEGERS


def widens(was: str, becomes: str) -> bool:
    """Whether every value of the one type is one of the other, and is written alike."""
    one, two = _SIZED.match(was), _SIZED.match(becomes)
    if one is None or two is None:
        return was == becomes
    alike = one["name"] == two["name"] or _texts(one, two)
    integers = one["name"] in _INTEGERS and two["name"] in _INTEGERS
    return (alike or integers) and not narrows(was, becomes)


def _texts(one: re.Match[str], two: re.Match[str]) -> bool:
    names = ("varchar", "character varying", "text", "citext")
    return one["name"] in names and two["name"] in names
