"""A project whose own `makemigrations` says which words of a field count as a change of it."""

from __future__ import annotations

from pathlib import Path

from django_site import manage_of, write_site

from safepoint.django.inspector import inspect
from safepoint.postgres.target import Target

MODEL = """
from django.db import models


class Labelled(models.IntegerField):
    def __init__(self, *args, shown_in="table", **kwargs):
        self.shown_in = shown_in
        super().__init__(*args, **kwargs)

    def deconstruct(self):
        name, path, args, kwargs = super().deconstruct()
        return name, path, args, {**kwargs, "shown_in": self.shown_in}


class Item(models.Model):
    name = models.CharField(max_length=60)
    kind = models.CharField(max_length=10, choices=[("a", "Apples"), ("b", "Books")], default="a")
    urgent = models.BooleanField(default=False)
    price = Labelled(default=0, shown_in="{shown_in}")
"""
MIGRATION = """
from django.db import migrations
import shop.models


class Migration(migrations.Migration):
    dependencies = [("shop", {before!r})]
    operations = [migrations.AlterField("item", "price", shop.models.Labelled(default=0))]
"""
COMMAND = """
from django.core.management.commands.makemigrations import Command  # noqa: F401
from shop.models import Labelled

whole = Labelled.deconstruct


def deconstruct(self):
    name, path, args, kwargs = whole(self)
    return name, path, args, {key: value for key, value in kwargs.items() if key != "shown_in"}


Labelled.deconstruct = deconstruct
"""


def test_a_change_that_the_projects_own_command_passes_over_is_none(tmp_path: Path, database: Target) -> None:
    shop = write_site(tmp_path) / "src/shop"
    before = max(path.stem for path in (shop / "migrations").glob("0*.py"))
    (shop / "migrations/0099_labelled.py").write_text(MIGRATION.format(before=before))
    (shop / "models.py").write_text(MODEL.replace("{shown_in}", "list"))
    assert inspect(manage_of(tmp_path, database)).unmade == ("shop",)
    commands = shop / "management/commands"
    commands.mkdir(parents=True, exist_ok=True)
    (commands / "makemigrations.py").write_text(COMMAND)
    assert inspect(manage_of(tmp_path, database)).unmade == ()
