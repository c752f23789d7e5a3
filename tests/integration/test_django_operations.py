"""What Django's own operations do to tables and columns, as the piped script tells it: no database is needed."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from safepoint.django.operations import Operations, operations
from safepoint.django.pending import Pending
from safepoint.django.piped import source
from safepoint.rehearsal.lint import lint

SOURCES = json.dumps({name: source(name) for name in ("tables", "operations")}) + "\n"
LOAD = """
import json, sys, types
given = json.loads(sys.stdin.readline())
part = sys.modules["safepoint_tables"] = types.ModuleType("safepoint_tables")
exec(compile(given["tables"], "tables.py", "exec"), vars(part))
room = {"__name__": "safepoint_script"}
exec(compile(given["operations"], "operations.py", "exec"), room)
"""
START = (
    """
import traceback
from django.conf import settings
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "nowhere"}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField")
import django
django.setup()
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState
"""
    + LOAD
    + """
def many(to, **words):
    return models.ManyToManyField(to, **words)
def to(model):
    return models.ForeignKey(model, models.CASCADE)
ident = ("id", models.AutoField(primary_key=True))
class First(migrations.Migration):
    operations = [
        migrations.CreateModel("Tag", [ident, ("name", models.CharField(max_length=9))]),
        migrations.CreateModel("Item", [ident, ("code", models.CharField(max_length=9, default="x")),
                                        ("tag", to("shop.tag")), ("tags", many("shop.Tag", related_name="+"))]),
    ]
class Own(migrations.RunPython):
    pass
class Wider(migrations.AddIndex):
    def state_forwards(self, app, state):
        super().state_forwards(app, state)
        state.add_field(app, self.model_name_lower, "wide", models.IntegerField(null=True), True)

def walk(given):
    following = migrations.Migration("next", "shop")
    following.operations = eval(f"[{given}]")
    state = First("first", "shop").mutate_state(ProjectState())
    now = room["tables"](state, connection)
    done, state, now = room["walk"](following, state, now, connection)
    return {"operations": done, "after": room["public"](now)}

for line in sys.stdin:
    try:
        answer = walk(json.loads(line))
    except Exception:
        answer = {"fault": traceback.format_exc()}
    print(json.dumps(answer), flush=True)
"""
)


@functools.cache
def django() -> subprocess.Popen[str]:
    """One start of Django for all of them: operations change nothing but the states that they are given."""
    process = subprocess.Popen([sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(SOURCES)
    return process


@pytest.fixture(autouse=True, scope="module")
def _ended() -> Iterator[None]:
    yield
    if django.cache_info().currsize:
        django().communicate(timeout=60)


def walk(given: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    process = django()
    assert process.stdin is not None and process.stdout is not None
    print(json.dumps(given), file=process.stdin, flush=True)
    answer = json.loads(process.stdout.readline())
    assert "fault" not in answer, answer["fault"]
    return answer["operations"], answer["after"]


def effects(given: str) -> list[tuple[Any, ...]]:
    found, _ = walk(given)
    keys = ("what", "before", "after", "name", "now")
    return sorted({tuple(one[key] for key in keys) for each in found for one in each["effects"]}, key=repr)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (
            'migrations.RenameModel("Tag", "Label")',
            [
                ("column-renamed", "shop_item_tags", "shop_item_tags", "tag_id", "label_id"),
                ("model-renamed", "shop_tag", "shop_label", "shop.label", None),
                ("table-renamed", "shop_tag", "shop_label", None, None),
            ],
        ),
        (
            'migrations.RenameModel("Item", "Product")',
            [
                ("column-renamed", "shop_item_tags", "shop_product_tags", "item_id", "product_id"),
                ("model-renamed", "shop_item", "shop_product", "shop.product", None),
                ("model-renamed", "shop_item_tags", "shop_product_tags", "shop.product.tags", None),
                ("table-renamed", "shop_item", "shop_product", None, None),
                ("table-renamed", "shop_item_tags", "shop_product_tags", None, None),
            ],
        ),
        (
            'migrations.RenameField("Item", "tags", "labels")',
            [
                ("model-renamed", "shop_item_tags", "shop_item_labels", "shop.item.labels", None),
                ("table-renamed", "shop_item_tags", "shop_item_labels", None, None),
            ],
        ),
        (
            'migrations.RenameField("item", "tag", "main")',
            [("column-renamed", "shop_item", "shop_item", "tag_id", "main_id")],
        ),
        (
            'migrations.AlterModelTable("item", "goods")',
            [
                ("table-renamed", "shop_item", "goods", None, None),
                ("table-renamed", "shop_item_tags", "goods_tags", None, None),
            ],
        ),
        (
            'migrations.AlterField("item", "code", models.CharField(max_length=9, default="x", db_column="sku"))',
            [("column-renamed", "shop_item", "shop_item", "code", "sku")],
        ),
        (
            'migrations.AlterField("item", "code", models.TextField())',
            [("column-altered", "shop_item", "shop_item", "code", None)],
        ),
        (
            'migrations.RemoveField("item", "tags")',
            [("table-deleted", "shop_item_tags", "shop_item_tags", None, None)],
        ),
        (
            'migrations.DeleteModel("item")',
            [
                ("table-deleted", "shop_item", "shop_item", None, None),
                ("table-deleted", "shop_item_tags", "shop_item_tags", None, None),
            ],
        ),
        (
            "migrations.SeparateDatabaseAndState([], "
            '[migrations.AddField("item", "n", models.IntegerField(null=True)), migrations.DeleteModel("item")])',
            [],
        ),
        (
            'migrations.SeparateDatabaseAndState([migrations.AddField("item", "n", models.IntegerField(null=True)), '
            'migrations.SeparateDatabaseAndState([migrations.RenameField("item", "n", "m")], '
            '[migrations.RenameField("item", "n", "m")]), migrations.RenameField("item", "m", "o")])',
            [
                ("column-added", "shop_item", "shop_item", "n", None),
                ("column-renamed", "shop_item", "shop_item", "m", "o"),
                ("column-renamed", "shop_item", "shop_item", "n", "m"),
            ],
        ),
        (
            'migrations.SeparateDatabaseAndState([], [migrations.RenameModel("Tag", "Label")])',
            [
                ("column-renamed", "shop_item_tags", "shop_item_tags", "tag_id", "label_id"),
                ("model-renamed", "shop_tag", "shop_label", "shop.label", None),
                ("table-renamed", "shop_tag", "shop_label", None, None),
            ],
        ),
    ],
)
def test_an_operation_says_what_becomes_of_tables_and_columns(operation: str, expected: list[tuple[Any, ...]]) -> None:
    assert effects(operation) == sorted(expected, key=repr)


def test_operations_that_may_change_rows_are_marked_and_defaults_are_known() -> None:
    found, after = walk(
        'Own(lambda *_: None), migrations.RunSQL("select 1"), '
        'migrations.SeparateDatabaseAndState([migrations.RunSQL("x")]),'
        'migrations.AddField("item", "on", models.BooleanField(default=True)),'
        'migrations.AddField("item", "at", models.DateField(default=__import__("datetime").date.today)),'
        'migrations.AddIndex("item", models.Index(fields=["code"], name="i"))'
    )
    assert [one["opaque"] for one in found] == [True, True, True, False, False, False]
    columns = after["shop_item"]["columns"]
    assert [columns[name]["default"] for name in ("code", "on", "at", "tag_id")] == ["x", "true", None, None]
    assert columns["tag_id"]["references"] == "shop.tag" and columns["id"]["primary_key"]


def test_what_does_nothing_forwards_is_no_data_migration() -> None:
    found, _ = walk(
        "migrations.RunPython(migrations.RunPython.noop, lambda *_: None), migrations.RunSQL(migrations.RunSQL.noop),"
        "Own(migrations.RunPython.noop), migrations.RunSQL([], state_operations=[migrations.DeleteModel('item')])"
    )
    assert [one["opaque"] for one in found] == [False, False, True, True]


# Nothing new is asked of a row by the same columns in another order, by more of them, or by a rule that goes.
TOGETHER = {
    '{("code", "tag")}': 1,
    '{("code", "tag")}), migrations.AlterUniqueTogether("item", {("tag", "code")}': 1,
    '[("code", "tag")]), migrations.AlterUniqueTogether("item", {("tag", "code", "id")}': 1,
    '("code", "tag")), migrations.AlterUniqueTogether("item", set()': 1,
    '{("tag", "code", "id")}), migrations.AlterUniqueTogether("item", {("code", "tag")}': 2,
    "set()": 0,
    # As Django writes it before a model that had such a rule is deleted.
    '{("code", "tag")}), migrations.AlterUniqueTogether("item", None': 1,
    'None), migrations.AlterUniqueTogether("item", {("code", "tag")}': 1,
}


@pytest.mark.parametrize("together", TOGETHER)
def test_columns_that_have_to_be_unique_together_are_told_where_that_is_new(together: str) -> None:
    found, after = walk(f'migrations.AlterUniqueTogether("Item", {together})')
    migration = {"app": "shop", "name": "next", "operations": found, "apps": ["shop"]}
    done = operations({"migrations": [migration], "before": {}, "after": after})
    told = [(one.rule, one.table) for one in lint(done, Pending("1@1", (), ()), "rolling")]
    assert told == [("restricts-rows", "shop_item")] * TOGETHER[together]


def test_options_of_a_model_that_make_no_rule_are_no_finding() -> None:
    found, _ = walk(
        'migrations.AlterModelOptions("item", {"verbose_name": "thing"}), '
        'migrations.AlterModelTable("tag", "shop_tag"), '
        'migrations.AlterUniqueTogether("item", {("code", "tag")}), migrations.RenameField("item", "code", "sku"), '
        'migrations.AlterUniqueTogether("item", {("sku", "tag")})'
    )
    assert [one["table"] for one in found] == ["shop_item", "shop_tag", "shop_item", "shop_item", "shop_item"]
    assert [one["loosens"] for one in found] == [False, False, False, False, True]


def test_an_empty_text_is_the_default_only_of_a_column_of_text() -> None:
    given = (
        "(setattr(sys.modules[__name__], 'Blocks', type('Blocks', (models.Field,), "
        "{'db_type': lambda self, connection: 'jsonb', 'get_internal_type': lambda self: 'JSONField'})), "
        'migrations.AddField("item", "body", Blocks(blank=True)))[1], '
        'migrations.AddField("item", "memo", models.TextField(blank=True))'
    )
    _, after = walk(given)
    columns = after["shop_item"]["columns"]
    assert (columns["body"]["default"], columns["memo"]["default"]) == (None, "")


def test_what_changes_the_state_alone_is_no_effect_of_the_next_operation() -> None:
    found, after = walk(
        'migrations.AlterModelOptions("item", {"managed": False}),'
        'migrations.AddField("tag", "n", models.IntegerField(null=True)),'
        'migrations.AddField("item", "n", models.IntegerField(null=True)),'
        'migrations.AlterModelOptions("item", {"verbose_name": "thing"}),'
        'migrations.RemoveField("tag", "n")'
    )
    told = [[(each["what"], each["before"]) for each in one["effects"]] for one in found]
    assert told == [[], [("column-added", "shop_tag")], [], [], [("column-removed", "shop_tag")]]
    assert "n" in after["shop_item"]["columns"]  # managed again: options that are not given are taken back


def test_sql_says_what_its_state_operations_say_and_the_next_operation_does_not() -> None:
    found, _ = walk(
        'migrations.RunSQL("x", state_operations=[migrations.AddField("item", "n", models.IntegerField(null=True))]),'
        'migrations.AddField("tag", "n", models.IntegerField(null=True)),'
        'migrations.RunSQL("x", state_operations=[migrations.DeleteModel("Item")])'
    )
    told = [sorted((each["what"], each["before"]) for each in one["effects"]) for one in found]
    gone = [("table-deleted", "shop_item"), ("table-deleted", "shop_item_tags")]
    assert told == [[("column-added", "shop_item")], [("column-added", "shop_tag")], gone]


def test_an_order_with_respect_to_another_model_is_a_column() -> None:
    found, _ = walk(
        'migrations.AlterOrderWithRespectTo("item", "tag"), migrations.AlterOrderWithRespectTo("item", None)'
    )
    told = [[(each["what"], each["name"]) for each in one["effects"]] for one in found]
    assert told == [[("column-added", "_order")], [("column-removed", "_order")]]
    assert found[0]["effects"][0]["becomes"]["null"] is False


def test_an_operation_that_changes_columns_under_the_name_of_one_that_does_not_is_understood() -> None:
    found, _ = walk("Wider('item', models.Index(fields=['code'], name='i'))")
    assert [(one["what"], one["name"]) for one in found[0]["effects"]] == [("column-added", "wide")]


def test_what_the_state_says_of_sql_or_of_somebodys_own_code_is_a_claim() -> None:
    found, _ = walk(
        'migrations.SeparateDatabaseAndState([migrations.RunSQL("x"),'
        ' migrations.RenameField("item", "code", "sku")], [migrations.RenameField("item", "code", "sku"),'
        ' migrations.RenameField("item", "tag", "main")]),'
        'migrations.RunSQL("x", state_operations=[migrations.RenameField("item", "sku", "code")]),'
        'Wider("item", models.Index(fields=["code"], name="i")),'
        'migrations.RemoveField("item", "code")'
    )
    told = [[(each["what"], each["name"], each["claimed"]) for each in one["effects"]] for one in found]
    assert told == [
        [("column-renamed", "code", False), ("column-renamed", "tag_id", True)],
        [("column-renamed", "sku", True)],
        [("column-added", "wide", True)],
        [("column-removed", "code", False)],
    ]
    assert [one["opaque"] for one in found] == [True, True, True, False]


def test_state_operations_in_an_order_that_no_state_in_between_stands_are_read_all_the_same() -> None:
    found, _ = walk(
        'migrations.SeparateDatabaseAndState([migrations.RunSQL("x")], [migrations.DeleteModel("Tag"),'
        ' migrations.AlterField("item", "code", models.TextField()), migrations.RemoveField("item", "tag"),'
        ' migrations.RemoveField("item", "tags")])'
    )
    told = sorted((each["what"], each["before"], each["name"], each["claimed"]) for each in found[0]["effects"])
    assert told == [
        ("column-altered", "shop_item", "code", True),
        ("column-removed", "shop_item", "tag_id", True),
        ("table-deleted", "shop_item_tags", None, True),
        ("table-deleted", "shop_tag", None, True),
    ]


GENERIC = (
    """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes"], DATABASES={}, USE_TZ=True)
django.setup()
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
"""
    + LOAD
    + """
class Tagged(models.Model):
    kind = models.ForeignKey(ContentType, models.CASCADE, db_column="about")
    key = models.TextField()
    what = GenericForeignKey("kind", "key")
    class Meta:
        app_label, abstract = "contenttypes", True

class Comment(Tagged):
    class Meta:
        app_label = "contenttypes"

class Answer(Comment):
    class Meta:
        app_label = "contenttypes"

class Again(Comment):
    class Meta:
        app_label, proxy = "contenttypes", True

print(json.dumps(room["generic"]()))
"""
)


def test_generic_foreign_keys_are_told_by_the_models_that_have_them() -> None:
    done = subprocess.run([sys.executable, "-c", GENERIC], input=SOURCES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {"contenttypes_comment": [["about", "key"]]}
    answer = {"migrations": [], "before": {}, "after": {}, "generic": found, "caches": ["kept"]}
    read = operations(answer)
    assert read.generic == {"contenttypes_comment": (("about", "key"),)}
    assert Operations.from_json(json.loads(json.dumps(read.as_json()))) == read and read.caches == ("kept",)


CACHES = (
    """
from django.conf import settings
places = {"a": "django.core.cache.backends.db.DatabaseCache", "b": "own.cache.Gone",
    "default": "django.core.cache.backends.locmem.LocMemCache"}
settings.configure(CACHES={name: {"BACKEND": kind, "LOCATION": "t_" + name} for name, kind in places.items()})
"""
    + LOAD
    + """
print(json.dumps(room["cache_tables"]()))
"""
)


def test_tables_in_which_caches_are_kept_are_told() -> None:
    done = subprocess.run([sys.executable, "-c", CACHES], input=SOURCES, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)) == (0, ["t_a"]), done.stderr
