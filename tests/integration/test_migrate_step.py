"""The launch's own steps from `migrate --plan` to `migrate --check`, on a real project with migrations of all kinds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from safepoint.config import PlanFile, load
from safepoint.launch.background import Background
from safepoint.launch.ledger import Ledger
from safepoint.launch.plan import make_plan
from safepoint.launch.stepping import Signals, Stepping
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence.login import drop_migration_login

# What is pending in the shop of the tests, in the order of `migrate`.
LISTED = ["sessions.0001_initial", "shop.0002_price", "shop.0003_index"]
MIGRATION = """
from django.db import migrations, models

class Migration(migrations.Migration):
    dependencies = [("shop", "{after}")]
    operations = [{operation}]
"""
# It prints a line of its own, and another one that looks as if Django had written it.
TELLS = """
import logging, sys

def tell(apps, schema_editor):
    print("moved 50 rows")
    print("  Applying shop.0099_not_a_migration... OK")
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    logging.info("that was all")
"""
# The first time somebody else holds the table for as long as the migration waits, the second time nobody does.
WAITS = """
import os, psycopg
from pathlib import Path

def wait(apps, schema_editor):
    seen = Path(__file__).with_name("seen")
    if not seen.exists():
        seen.touch()
        other = psycopg.connect(os.environ["DATABASE_URL"])
        other.execute("lock table shop_item")
    schema_editor.execute("lock table shop_item")
"""
# Not atomic: what it did before it waited stays.
HALF = """
def more(apps, schema_editor):
    apps.get_model("shop", "Item").objects.create(name="more")
""" + WAITS.replace('editor.execute("lock table shop_item', 'editor.execute("comment on table shop_item is null')

INITIAL = """
    operations = [migrations.CreateModel("Item", [
        ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")),
        ("name", models.CharField(max_length=60)),
        ("kind", models.CharField(max_length=10, choices=[("a", "Apples"), ("b", "Books")], default="a")),
        ("urgent", models.BooleanField(default=False)),
    ])]
"""


class Launch:
    """One launch as its conductor sees it, step by step."""

    def __init__(self, plan: PlanFile) -> None:
        self.plan = make_plan(plan, hurry=True)
        self.ledger = Ledger(plan.state / "ledger.jsonl")
        self.background = Background()
        self._steps = Stepping(plan, self.plan, self.ledger, Signals(), self.background, lambda *_: None)

    def run(self, step: str, attempt: int = 1) -> dict[str, Any]:
        """What the course decides by."""
        return self._steps.step(1, step, attempt)

    def evidence(self, step: str) -> dict[str, Any]:
        """What was written down of a step that was done."""
        done = (one for one in self.ledger.entries if one.kind == "step.done" and one.step == step)
        return dict(next(done).data["evidence"])


@pytest.fixture
def copy(shop: tuple[Path, Target]) -> Iterator[Target]:
    """A copy of the shop's database that a test may migrate."""
    _, target = shop
    copied = target.on(f"migrated_{time.monotonic_ns()}")
    names = {"new": sql.Identifier(copied.dbname), "old": sql.Identifier(target.dbname)}
    with connect(target.on("postgres")) as connection:
        connection.execute(sql.SQL("create database {new} template {old} owner shop").format(**names))
        try:
            yield copied
        finally:
            connection.execute(sql.SQL("drop database {new} with (force)").format(**names))


Begin = Callable[..., Launch]


@pytest.fixture
def launch(
    shop: tuple[Path, Target], copy: Target, shop_plan: Callable[..., PlanFile], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Begin]:
    """Begins a launch with more migrations of the shop, behind its fence; none of them is there for the next test."""
    folder, target = shop
    monkeypatch.setenv("DATABASE_URL", copy.url())  # where the site runs it stands in the environment
    migrations = folder / "src/shop/migrations"
    before = set(migrations.iterdir())
    begun: list[Launch] = []

    def begin(more: Mapping[str, str], retries: int = 1) -> Launch:
        for name, text in more.items():
            (migrations / f"{name}.py").write_text(text)
        path = shop_plan().path
        text = path.read_text().replace(f'name = "{target.dbname}"', f'name = "{copy.dbname}"')
        path.write_text(text.replace("[database]", f'[database]\nlock_timeout = "1s"\nlock_retries = {retries}'))
        one = Launch(load(path))
        begun.append(one)
        for step in ("migrate-plan", "fence"):
            assert one.run(step)["verdict"] == "pass", one.ledger.entries[-1]
        return one

    yield begin
    for one in begun:
        one.background.close()
        drop_migration_login(copy, one.plan.launch_id, "shop")
    for path in set(migrations.iterdir()) - before:
        if path.is_file():
            path.unlink()


def runs(function: str, after: str, code: str) -> str:
    """A migration that runs this function."""
    return code + MIGRATION.format(after=after, operation=f"migrations.RunPython({function})")


def test_a_migration_that_prints_is_one_that_ran(launch: Begin) -> None:
    made = launch({"0004_tells": runs("tell", "0003_index", TELLS)})
    assert made.run("migrate")["verdict"] == "pass", made.ledger.entries[-1].data["error"]
    assert made.evidence("migrate")["applied"] == [*LISTED, "shop.0004_tells"]
    assert made.run("migrate-check")["verdict"] == "pass"


def test_what_ran_before_a_lock_was_not_had_has_run_when_the_next_try_goes_on(
    launch: Begin,
) -> None:
    made = launch({"0004_waits": runs("wait", "0003_index", WAITS)})
    assert made.run("migrate")["verdict"] == "pass", made.ledger.entries[-1].data["error"]
    found = made.evidence("migrate")
    assert found["applied"] == [*LISTED, "shop.0004_waits"] and found["tries"] == 2
    assert "4 migrations" in found["summary"]


def test_what_ran_before_a_person_tried_again_has_run_too(launch: Begin) -> None:
    made = launch({"0004_waits": runs("wait", "0003_index", WAITS)}, retries=0)
    answer = made.run("migrate")
    assert answer["verdict"] == "fail" and answer["ask"], answer
    assert made.run("migrate", attempt=2)["verdict"] == "pass", made.ledger.entries[-1].data["error"]
    assert made.evidence("migrate")["applied"] == [*LISTED, "shop.0004_waits"]


def test_who_has_the_lock_that_a_migration_waited_for_in_vain_is_named(launch: Begin, copy: Target) -> None:
    """A person has to know whom to end: behind the fence it may be a login that the launch does not know."""
    made = launch({}, retries=0)
    with connect(copy, autocommit=False, application_name="nightly job") as other:
        other.execute("lock table shop_item")
        answer = made.run("migrate")
        pid = other.info.backend_pid
    assert answer["verdict"] == "fail" and answer["ask"], answer
    assert "while it applied shop.0002_price" in answer["summary"]
    assert f"pid {pid} of {copy.user} (nightly job) in {copy.dbname}, idle in transaction for" in answer["summary"]
    assert "public.shop_item AccessExclusiveLock" in answer["found"]
    assert f"pg_terminate_backend({pid}); then `safepoint retry`" in answer["remedy"]
    assert made.run("migrate", attempt=2)["verdict"] == "pass", made.ledger.entries[-1].data["error"]


@pytest.mark.parametrize("killed", [False, True], ids=["locked", "killed"])
def test_what_a_migration_that_is_not_atomic_did_to_rows_is_not_done_twice(
    launch: Begin, copy: Target, killed: bool
) -> None:
    body = MIGRATION.format(after="0003_index", operation="migrations.RunPython(more), migrations.RunPython(wait)")
    text = HALF + body.replace("    dependencies", "    atomic = False\n    dependencies")
    made = launch({"0004_half": text}, retries=0 if killed else 2)
    answer = made.run("migrate")
    if killed:
        answer = made.run("migrate", attempt=2)
    assert answer["verdict"] == "fail" and not answer["ask"], answer
    assert "shop.0004_half" in answer["summary"] and "is not run a second time" in answer["summary"]
    with connect(copy) as connection:
        assert connection.execute("select count(*) from shop_item where name = 'more'").fetchone() == (1,)


def test_of_many_migrations_the_first_are_named_and_the_rest_counted(launch: Begin) -> None:
    names = [f"{number:04}_more" for number in range(4, 11)]
    before = ["0003_index", *names]
    made = launch({one: MIGRATION.format(after=after, operation="") for one, after in zip(names, before, strict=False)})
    listed = made.evidence("migrate-plan")
    assert len(listed["migrations"]) == len(LISTED) + len(names)
    assert listed["summary"].endswith(f"and {len(listed['migrations']) - 5} more")


CUTTING = """
from django.core.management.commands import migrate


class Command(migrate.Command):
    def migration_progress_callback(self, action, migration=None, fake=False):
        if action == "apply_start":
            self.stdout.write(f"  Applying {str(migration)[:24]}...", ending="")
        elif action == "apply_success":
            self.stdout.write(" OK        0.01s")
"""


def test_nor_is_it_where_the_projects_own_migrate_cuts_its_name_off(
    launch: Begin, shop: tuple[Path, Target], copy: Target
) -> None:
    body = MIGRATION.format(after="0003_index", operation="migrations.RunPython(more), migrations.RunPython(wait)")
    text = HALF + body.replace("    dependencies", "    atomic = False\n    dependencies")
    command = shop[0] / "src/shop/management/commands/migrate.py"
    command.write_text(CUTTING)
    try:
        answer = launch({"0004_half_of_all_there_is": text}, retries=2).run("migrate")
    finally:
        command.unlink()
    assert answer["verdict"] == "fail" and not answer["ask"], answer
    with connect(copy) as connection:
        assert connection.execute("select count(*) from shop_item where name = 'more'").fetchone() == (1,)


def test_a_migration_that_was_not_listed_before_the_window_is_refused(launch: Begin, shop: tuple[Path, Target]) -> None:
    made = launch({})
    (shop[0] / "src/shop/migrations/0004_late.py").write_text(MIGRATION.format(after="0003_index", operation=""))
    assert made.run("migrate")["verdict"] == "fail"
    error = made.ledger.entries[-1].data["error"]
    assert "not the ones that were listed" in error["message"]
    assert "shop.0004_late" in error["found"] and "shop.0004_late" not in error["expected"]


def test_a_migration_that_somebody_ran_between_the_list_and_the_window_is_missed(
    launch: Begin, shop: tuple[Path, Target], copy: Target
) -> None:
    made = launch({})
    with connect(copy, options="-c default_transaction_read_only=off") as connection:
        connection.execute("insert into django_migrations (app, name, applied) values ('shop', '0002_price', now())")
    assert made.run("migrate")["verdict"] == "fail"
    error = made.ledger.entries[-1].data["error"]
    assert error["expected"].split(", ") == LISTED and error["found"] == "sessions.0001_initial, shop.0003_index"


def test_migrations_that_are_squashed_are_recorded_one_by_one_and_have_run_as_one(
    launch: Begin,
) -> None:
    # Django records what a squashed migration replaces, then itself; and one that replaces only old ones as well.
    replaces = "    replaces = [{}]\n"
    new = MIGRATION.format(after="0003_index", operation="") + replaces.format('("shop", "0004_a"), ("shop", "0005_b")')
    old = MIGRATION.format(after="0001_initial", operation="").replace('[("shop", "0001_initial")]', "[]")
    old += replaces.format('("shop", "0001_initial")') + INITIAL
    made = launch({"0004_squashed": new, "0001_squashed": old})
    assert made.run("migrate")["verdict"] == "pass", made.ledger.entries[-1].data["error"]
    applied = made.evidence("migrate")["applied"]
    assert applied == [*LISTED, "shop.0004_squashed"]
