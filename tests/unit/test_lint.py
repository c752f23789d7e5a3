"""The lint: what it says in which mode, what it leaves unsaid, and how a finding is accepted. Nothing runs here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.config.load import parse
from safepoint.config.rehearsal import Waiver
from safepoint.config.rules import RULES, Mode
from safepoint.django.operations import Effect, Operation, Operations, StateColumn, StateTable, What
from safepoint.django.pending import Pending, PendingMigration
from safepoint.django.sqlmigrate import MigrationSQL
from safepoint.errors import PlanFileError
from safepoint.rehearsal import squawk
from safepoint.rehearsal.changes import ColumnChange, TableChange
from safepoint.rehearsal.costs import Cost
from safepoint.rehearsal.findings import Finding, ordered, waive
from safepoint.rehearsal.lint import LONG, lint, narrows, widens
from safepoint.rehearsal.observation import Lock, MigrationRun, Observed
from safepoint.rehearsal.unexpected import unexpected

M = "shop.0002_next"


def column(kind: str = "integer", *, null: bool = True, db_default: bool = False, unique: bool = False) -> StateColumn:
    return StateColumn(kind, null, False, unique, None, None, db_default)


def effect(what: What, name: str | None = None, now: str | None = None, **words: StateColumn) -> Effect:
    after = now if what == "table-renamed" and now else "item"
    return Effect(what, "shop.item", "item", after, name, now if name else None, **words)


def operation(
    *effects: Effect, kind: str = "AlterField", table: str | None = "item", opaque: bool = False
) -> Operation:
    return Operation(M, kind, kind, opaque, effects, table)


def said(*done: Operation, mode: Mode = "rolling", atomic: bool = True, seen: Observed | None = None) -> list[str]:
    operations = Operations((M,), done, {}, {"fresh": StateTable("shop.fresh", {})})
    pending = Pending("1@1", (), (PendingMigration(M, "aa", atomic, True, ()),))
    return [one.rule for one in lint(operations, pending, mode, seen)]


REQUIRED = column(null=False)
BREAKING = {
    "removes-table": effect("table-deleted"),
    "renames-table": effect("table-renamed", now="thing"),
    "removes-column": effect("column-removed", "a"),
    "renames-column": effect("column-renamed", "a", "b"),
    "requires-column": effect("column-added", "a", becomes=REQUIRED),
    "retypes-column": effect("column-altered", "a", was=column("date"), becomes=column("boolean")),
    "restricts-rows": effect("column-altered", "a", was=column(), becomes=column(unique=True)),
}


@pytest.mark.parametrize("rule", BREAKING)
def test_what_breaks_old_code_is_said_of_a_rolling_release_and_never_of_a_window(rule: str) -> None:
    assert said(operation(BREAKING[rule])) == [rule]
    assert said(operation(BREAKING[rule]), mode="window") == []


@pytest.mark.parametrize("rule", BREAKING)
def test_what_the_state_says_of_sql_is_said_and_what_it_says_by_itself_is_not(rule: str) -> None:
    claim = replace(BREAKING[rule], claimed=True)
    assert said(operation(claim, opaque=True)) == [rule]
    assert said(operation(claim)) == []


def test_what_old_code_does_not_notice_is_not_said() -> None:
    harmless = [
        effect("column-added", "a", becomes=column()),
        effect("column-added", "b", becomes=column(null=False, db_default=True)),
        effect("column-altered", "c", was=column("varchar(9)"), becomes=column("varchar(90)")),
        effect("column-altered", "d", was=REQUIRED, becomes=column()),
        effect("column-altered", "e", was=column("integer"), becomes=column("bigint")),
    ]
    assert [said(operation(one)) for one in harmless] == [[]] * len(harmless)


def test_what_the_launch_itself_makes_may_be_changed_again_by_it() -> None:
    made = operation(Effect("table-created", "shop.fresh", "fresh", "fresh"), kind="CreateModel")
    renamed = operation(Effect("table-renamed", "shop.fresh", "fresh", "newer"), kind="AlterModelTable")
    gone = operation(Effect("column-removed", "shop.fresh", "newer", "newer", "x"))
    added = operation(effect("column-added", "temp", becomes=column()))
    unique = operation(kind="AddConstraint", table="newer")
    assert said(made, renamed, gone, unique, added, operation(effect("column-removed", "temp"))) == []


def test_a_lock_is_told_by_what_was_measured_and_with_what_shortens_it() -> None:
    def seen(seconds: float) -> Observed:
        lock = Lock("public.item → public.thing", "AccessExclusiveLock", "readers and writers", 0.0, seconds)
        run = MigrationRun(M, 0.0, seconds, True, 0, (), (lock,))
        return Observed(1.0, 0.0, (run,), (), (), (), (), {}, 0, 0, 0, 9, None, "", None)

    work = (operation(effect("column-added", "a", becomes=column())), operation(kind="RunPython", opaque=True))
    operations, pending = (
        Operations((M,), work, {}, {}),
        Pending("1@1", (), (PendingMigration(M, "aa", True, True, ()),)),
    )
    (found,) = lint(operations, pending, "rolling", seen(3.2))
    assert found.rule == "holds-lock" and "item for 3.2 s" in found.why and "migration of its own" in found.safer
    assert lint(operations, pending, "rolling", seen(LONG / 2)) == lint(operations, pending, "window", seen(3.2)) == ()


def test_a_narrowed_column_is_a_risk_in_both_modes_and_says_what_the_copy_showed() -> None:
    narrower = operation(effect("column-altered", "a", was=column("varchar(9)"), becomes=column("varchar(5)")))
    assert said(narrower) == said(narrower, mode="window") == ["narrows-column"]
    lost = ColumnChange("narrowed", "a", "a", "x", "y", 7)
    change = TableChange("public.item", "public.item", 9, 9, 0, 0, (lost,))
    operations = Operations((M,), (narrower,), {}, {})
    (found,) = lint(operations, Pending("1@1", (), ()), "window", None, [change])
    assert "7 values of the snapshot do not come back" in found.why


def test_several_operations_outside_a_transaction_are_a_risk_and_one_is_none() -> None:
    index = operation(kind="AddIndexConcurrently")
    assert said(index, atomic=False) == []
    assert said(index, atomic=False, mode="window") == ["concurrently-in-window"]
    assert "half-applied" in said(index, operation(kind="RunPython", opaque=True), atomic=False)


@given(*[st.sampled_from(["smallint", "integer", "bigint", "text", "varchar(5)", "varchar(9)", "numeric(9, 2)"])] * 2)
def test_no_type_both_narrows_and_widens_and_its_way_back_narrows(one: str, two: str) -> None:
    assert not (narrows(one, two) and widens(one, two))
    if widens(one, two) and one != two:
        assert narrows(two, one)


def touched(
    *changes: TableChange, costs: tuple[Cost, ...] = (), mappers: Mapping[str, Collection[str]] = {}
) -> list[str]:
    data = operation(kind="RunPython", opaque=True, table=None)
    named = operation(effect("column-added", "fresh", becomes=column()), effect("column-renamed", "a", "b"))
    plan = ("session.0000", M, "session.0001", "shop.0003_data")
    operations = Operations(plan, (data, named, replace(data, migration="shop.0003_data")), {}, {})
    return [f"{one.migration}: {one.why}" for one in unexpected(operations, changes, costs, mappers)]


def table_of(name: str, *columns: ColumnChange, added: int = 0, removed: int = 0) -> TableChange:
    return TableChange(f"public.{name}", f"public.{name}", 5, 5 + added - removed, added, removed, columns)


def other(before: str, after: str | None = None) -> ColumnChange:
    return ColumnChange("re-expressed", before, after or before, "text", "text")


def test_rows_that_changed_without_an_operation_that_says_so_are_a_finding_and_what_is_said_is_none() -> None:
    assert touched(table_of("item", other("a", "b"), ColumnChange("filled", None, "fresh", None, "int"))) == []
    assert (
        touched(table_of("django_content_type", other("model"), added=1), table_of("django_migrations", added=3)) == []
    )
    (silent,) = touched(table_of("item", other("note")))
    assert silent.startswith("shop.0003_data: item: other values in note, and no operation")
    cost = Cost('UPDATE "item" SET "note" = upper("note")', 1, 0.1, 5, 0, 0, (M,))
    items = Cost('UPDATE "items" SET "note" = $1', 1, 0.1, 5, 0, 0, ("shop.0001_other",))
    (known,) = touched(table_of("item", other("note"), removed=2), costs=(items, cost))
    assert known.startswith(f"{M}: item: other values in note; 0 rows more and 2 gone")
    early = replace(cost, migrations=("session.0000",))
    assert touched(table_of("item", other("note")), costs=(early,)) == [f"{M}: {silent.partition(': ')[2]}"]
    late = replace(cost, migrations=("session.0001",))  # counted a moment after the next one had ended
    assert touched(table_of("item", other("note")), costs=(late,)) == [f"{M}: {silent.partition(': ')[2]}"]
    assert touched(table_of("item", other("note")), mappers={"item": {"note": "lower(note)"}}) == []
    assert RULES["unexpected-change"].modes == ("window", "rolling")


SQL = """BEGIN;
--
-- Raw SQL operation
--
DROP TABLE "gone";
CREATE INDEX "i" ON "small" ("a");
CREATE INDEX "j" ON "big" ("a");
COMMIT;
"""


def heard(mode: Mode, ours: list[Finding], new: frozenset[str] = frozenset()) -> list[tuple[str, str | None]]:
    """What is left of squawk's answer (its real one, cut to the keys that count)."""
    answer = [
        {"file": f"/tmp/x/{M}.sql", "line": line, "rule_name": rule, "message": "m", "help": None}
        for line, rule in [
            (4, "ban-drop-table"),
            (5, "require-concurrent-index-creation"),
            (5, "prefer-robust-stmts"),
            (6, "require-concurrent-index-creation"),
            (6, "require-lock-timeout"),
        ]
    ]
    sizes = {"small": 8192, "big": 900_000_000, "gone": 8192}
    texts = [MigrationSQL(M, SQL, None, None, None)]
    return [(one.rule, one.table) for one in squawk.worth_saying(squawk.read(answer), texts, mode, ours, sizes, new)]


def test_of_squawk_only_what_adds_something_is_said() -> None:
    assert heard("window", []) == []
    dropped, index = ("ban-drop-table", "gone"), ("require-concurrent-index-creation", "big")
    assert heard("rolling", []) == [dropped, index]
    ours = [Finding("removes-table", M, "x", "y", "z")]
    assert heard("rolling", ours) == [index]
    assert heard("rolling", [], frozenset({"big"})) == [dropped]


def test_a_line_of_sql_is_told_with_its_operation_and_without_values() -> None:
    text = MigrationSQL(M, SQL.replace('"gone"', "\"gone\" CASCADE -- 'secret'"), None, None, None)
    assert text.operation_at(1) is None and text.operation_at(5) == "Raw SQL operation"
    one = squawk.Said(M, "ban-drop-table", 5, "m", None)
    (found,) = squawk.worth_saying([one], [text], "rolling", [], {}, frozenset())
    assert found.line == 5 and found.where.startswith("Raw SQL operation: DROP TABLE") and "secret" not in found.where


def test_findings_are_accepted_with_a_reason_by_rule_and_migration_and_an_idle_waiver_is_told() -> None:
    findings = [Finding(rule, M, "x", "y", "z") for rule in ("narrows-column", "removes-table")]
    waivers = [
        Waiver(rule="narrows-column", by="Ada", reason="support has looked", migration=M),
        Waiver(rule="removes-table", by="Ada", reason="not this one", migration="shop.0009_other"),
    ]
    found, idle = waive(ordered(findings, [M]), waivers)
    assert [(one.rule, one.waived) for one in found] == [
        ("removes-table", None),
        ("narrows-column", "support has looked (Ada)"),
    ]
    assert idle == ("the waiver of removes-table for shop.0009_other fits no finding",)


def test_a_waiver_of_an_unknown_rule_is_refused_with_the_line_and_what_was_meant() -> None:
    demo = Path(__file__).parents[2] / "demo" / "launch.toml"
    text = demo.read_text() + '\n[[rehearsal.waivers]]\nrule = "narrow-column"\nreason = "looked at"\nby = "Ada"\n'
    with pytest.raises(PlanFileError) as caught:
        parse(text, Path("launch.toml"))
    assert "'narrows-column'" in str(caught.value) and f"line {len(text.splitlines()) - 2}:" in str(caught.value)
    plan = parse(text.replace("narrow-column", "narrows-column"), Path("launch.toml"))
    assert plan.rehearsal.waivers[0].rule in RULES
    with pytest.raises(PlanFileError, match="by"):  # nobody has accepted it
        parse(text.replace("narrow-column", "narrows-column").replace('by = "Ada"', ""), Path("launch.toml"))
