"""The tables after an operation are made of the models that it may change alone, and are those of all made anew."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from safepoint.django.piped import source

# Keys of each kind that others take their type from, through tables of their own, heirs, proxies and models that Django
# does not manage; and forty models that nothing leads to, which nobody has to make again.
WALK = """
import json, sys, types
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "nowhere"}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField")
import django
django.setup()
from django.db import connection, migrations, models
from django.db.migrations.state import ModelState, ProjectState
given = json.loads(sys.stdin.readline())
part = sys.modules["safepoint_tables"] = types.ModuleType("safepoint_tables")
exec(compile(given["tables"], "tables.py", "exec"), vars(part))
room = {"__name__": "safepoint_script"}
exec(compile(given["operations"], "operations.py", "exec"), room)

def to(model, **words):
    return models.ForeignKey(model, models.CASCADE, related_name="+", **words)
def one(model, **words):
    return models.OneToOneField(model, models.CASCADE, related_name="+", **words)
def make(name, *fields, bases=(models.Model,), ident=True, **options):
    first = [("id", models.AutoField(primary_key=True))] if ident else []
    return migrations.CreateModel(name, [*first, *fields], options=options, bases=bases)
def heir(name, base):
    link = models.OneToOneField(f"Odd.{base}", models.CASCADE, parent_link=True, primary_key=True, serialize=False)
    return make(name, (f"{base.lower()}_ptr", link), bases=(f"Odd.{base}",), ident=False)
class InPlace(migrations.AlterModelOptions):
    def state_forwards(self, app, state):
        state.models[app, self.name_lower].fields["code"].null = True
FIRST = [
    make("Base", ("code", models.CharField(max_length=9, unique=True))),
    heir("Heir", "Base"), heir("Grandheir", "Heir"),
    make("Proxy", bases=("Odd.Base",), ident=False, proxy=True), make("Foreign", managed=False),
    make("Owned", ("base", one("Odd.Base", primary_key=True)), ident=False),
    make("User", ("who", to("auth.User")), ("self", to("self", null=True)),
         ("groups", models.ManyToManyField("auth.Group"))),
    make("Leaf", ("a", to("Odd.Owned")), ("b", to("Odd.Grandheir")), ("c", to("Odd.Proxy")), ("d", to("Odd.Foreign")),
         ("e", to("Odd.Base", to_field="code")), ("f", to("Odd.Leaf", null=True))),
    make("Far", ("leaf", to("Odd.Leaf"))), make("Sorted", ("far", to("Odd.Far"))),
    make("Joined", ("all", models.ManyToManyField("Odd.Owned")), ("own", models.ManyToManyField("self"))),
    make("Through", ("joined", to("Odd.Joined")), ("far", to("Odd.Far"))),
    make("More", ("by", models.ManyToManyField("Odd.Far", through="Odd.Through", related_name="+"))),
    *(make(f"Aside{n}", ("base", to("Odd.Base"))) for n in range(40)),
]
made, render = [], ModelState.render
ModelState.render = lambda self, apps: made.append(self.name) or render(self, apps)
state = migrations.Migration("first", "Odd")
state.operations = FIRST
from django.db.migrations.loader import MigrationLoader
loader = MigrationLoader(None)
state = state.mutate_state(loader.project_state(), preserve=False)
now = part.tables(state, connection)
answers = []
for text in given["operations_given"]:
    made.clear()
    following, now, _ = room["step"](eval(text), "Odd", state, now, connection)
    count, whole, state = len(made), part.tables(following, connection), following
    wrong = sorted(key for key in {*now, *whole} if now.get(key) != whole.get(key))
    answers.append({"made": count, "of": len(following.models), "wrong": wrong})
print(json.dumps(answers))
"""
OPERATIONS = [
    'migrations.AddField("Base", "n", models.IntegerField(default=1))',
    'migrations.AddField("Far", "n", models.IntegerField(default=1))',
    'migrations.AlterField("Base", "code", models.CharField(max_length=20, unique=True))',
    'migrations.AlterField("Base", "id", models.BigAutoField(primary_key=True))',
    'migrations.AlterField("Foreign", "id", models.UUIDField(primary_key=True))',
    'migrations.RenameField("Base", "code", "word")',
    'migrations.RenameModel("Owned", "Mine")',
    'migrations.RenameModel("Joined", "Bound")',
    'migrations.AlterModelTable("Bound", "knot")',
    'migrations.AlterModelOptions("Foreign", {"managed": True})',
    'migrations.AlterField("Foreign", "id", models.IntegerField(primary_key=True))',
    'migrations.AlterOrderWithRespectTo("Sorted", "far")',
    'migrations.SeparateDatabaseAndState([], [migrations.RenameField("Far", "n", "m")])',
    'migrations.RunSQL("select 1", state_operations=[migrations.DeleteModel("Sorted")])',
    "migrations.RunPython(migrations.RunPython.noop)",
    'migrations.DeleteModel("More")',
    'migrations.RemoveField("Leaf", "f")',
    'migrations.CreateModel("Newest", [("leaf", one("Odd.Leaf", primary_key=True)), ("tag", to("Odd.Newest"))])',
    'migrations.AddField("Far", "newest", to("Odd.Newest", null=True))',
    'migrations.AlterField("Leaf", "id", models.CharField(max_length=7, primary_key=True))',
    'migrations.AddField("User", "code", models.IntegerField())',
    'InPlace("User", {})',
]


@pytest.fixture(scope="module")
def walked() -> dict[str, dict[str, Any]]:
    """By each operation: how many models were made for it, of how many, and which tables came out otherwise."""
    work = {name: source(name) for name in ("tables", "operations")} | {"operations_given": OPERATIONS}
    done = subprocess.run(
        [sys.executable, "-c", WALK], input=json.dumps(work) + "\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(OPERATIONS, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_tables_after_an_operation_are_those_of_all_models_made_anew(
    walked: dict[str, dict[str, Any]], operation: str
) -> None:
    assert walked[operation]["wrong"] == []


def test_a_column_is_added_to_a_model_without_making_those_again_that_lead_to_it(
    walked: dict[str, dict[str, Any]],
) -> None:
    one = walked[OPERATIONS[0]]
    assert one["of"] > 50 and one["made"] < 10, one
    # A new key's type reaches those that refer to it, and what refers to these by it.
    assert walked[OPERATIONS[3]]["made"] > 40
    assert walked["migrations.RunPython(migrations.RunPython.noop)"]["made"] == 0
