"""A rehearsal of more statements than are shown: each of them still tells which migration it was."""

from __future__ import annotations

from dataclasses import replace

from safepoint.config.rehearsal import Waiver
from safepoint.django.operations import Operation, Operations
from safepoint.rehearsal.catalogue import Picture
from safepoint.rehearsal.changes import TableChange
from safepoint.rehearsal.costs import Cost, Counted, Counts, Key, Share, by_statement
from safepoint.rehearsal.observation import MigrationRun, Watched, observed, rebuilding
from safepoint.rehearsal.sampling import Sampled
from safepoint.rehearsal.timeline import Applied
from safepoint.rehearsal.unexpected import unexpected

SLOW = 30


def test_a_quick_write_among_many_slow_statements_is_known_to_be_its_migrations() -> None:
    texts = {number: f"ALTER TABLE t{number} ADD a int" for number in range(SLOW)} | {SLOW: 'INSERT INTO "seed" VALUES'}
    slow: dict[Key, Counts] = {(number, True): Counts(1, 1.0 + number) for number in range(SLOW)}
    shares = (Share(1.0, {(SLOW, True): Counts(1, 0.001, 3)}), Share(9.0, slow))
    runs = (Applied("a.0001_seed", 0.5, 0.9, True), Applied("a.0002_tables", 0.5, 8.0, True))
    sampled = Sampled((), (), (), 0, 0, None, counted=Counted(shares, texts))
    nothing = Picture({}, {}, (), {})
    seen = observed(Watched(9.0, runs, sampled, "", None), nothing, nothing)
    wrote = next(one for one in seen.costs if one.rows)
    assert wrote.migrations == ("a.0001_seed",) and len(seen.costs) == SLOW + 1
    shown = [one["text"] for one in seen.as_json()["costs"]]
    assert len(shown) == 20 and shown[0] == f"ALTER TABLE t{SLOW - 1} ADD a int" and wrote.text not in shown


def test_what_built_an_index_is_shown_however_quick_it_was_on_the_copy() -> None:
    texts = {number: f"UPDATE t{number} SET a = $1" for number in range(SLOW)} | {SLOW: 'CREATE INDEX "by_name" ON "t"'}
    shares = (Share(9.0, {(number, True): Counts(1, 0.001 if number == SLOW else 1.0) for number in texts}),)
    runs = (Applied("a.0001", 0.5, 8.0, True),)
    nothing = Picture({}, {}, (), {})
    seen = observed(Watched(9.0, runs, Sampled((), (), (), 0, 0, None), "", None), nothing, nothing)
    built = MigrationRun("a.0001", 0.5, 8.0, True, 0, (), (), indexes=("by_name on public.t",))
    seen = replace(seen, costs=rebuilding(by_statement(Counted(shares, texts), runs), [built]))
    shown = [one["text"] for one in seen.as_json()["costs"]]
    assert len(shown) == 21 and shown[-1] == texts[SLOW]


def test_what_a_handler_of_post_migrate_wrote_is_laid_to_no_migration() -> None:
    data = Operation("shop.0002_data", "RunPython", "Raw Python operation", True, (), None)
    operations = Operations(("shop.0002_data",), (data,), {}, {})
    change = TableChange("public.role", "public.role", 3, 19, 16, 0, ())
    after = Cost('INSERT INTO "role" ("name") VALUES ($1)', 16, 0.1, 16, 0, 0, ())
    (found,) = unexpected(operations, [change], [after])
    assert found.migration == "post_migrate" and "role: 16 rows more and 0 gone" in found.why
    (found,) = unexpected(operations, [change], [replace(after, migrations=("shop.0002_data",)), after])
    assert found.migration == "shop.0002_data"
    waiver = Waiver(rule=found.rule, by="Dana Scully", reason="roles are made so", migration="post_migrate")
    assert waiver.migration == "post_migrate"


def test_rows_that_went_are_laid_to_the_migration_that_deleted_and_not_to_a_slower_one_that_updated() -> None:
    labels = ("shop.0002_move", "shop.0003_paths")
    data = tuple(Operation(label, "RunPython", "Raw Python operation", True, (), None) for label in labels)
    operations = Operations(labels, data, {}, {})
    updated = Cost('UPDATE "role" SET "path" = $1', 9, 9.0, 9, 0, 0, (labels[1],))
    deleted = Cost('DELETE FROM "role" WHERE "id" IN ($1)', 1, 0.1, 2, 0, 0, (labels[0],))
    gone = TableChange("public.role", "public.role", 19, 17, 0, 2, ())
    assert [one.migration for one in unexpected(operations, [gone], [updated, deleted])] == [labels[0]]
    assert [one.migration for one in unexpected(operations, [gone], [updated])] == [labels[1]]
