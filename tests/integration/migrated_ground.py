"""A launch in small whose migrations are Django's: the old schema, its twin, the migrated one, capture and replay."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import django_site
from postgres_servers import drop_database
from psycopg import sql
from replay_ground import LAUNCH, Ground

from safepoint.django.operations import read_operations
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm

SETTINGS = """
import os
from urllib.parse import unquote, urlsplit

url = urlsplit(os.environ["DATABASE_URL"])
SECRET_KEY = "only-for-tests"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = True
INSTALLED_APPS = ["shop", "billing", "news"]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
    "PASSWORD": unquote(url.password or ""), "HOST": url.hostname, "PORT": url.port,
}}
"""
# Short words, so that a test shows its operations and nothing else.
MIGRATION = """
from django.db import migrations, models
from django.db.migrations import *
from django.db.models import CharField, IntegerField, ManyToManyField, TextField

Apart, SQL = SeparateDatabaseAndState, RunSQL
ident = ("id", models.AutoField(primary_key=True))

def to(model, **words):
    return models.ForeignKey(model, **{{"on_delete": models.CASCADE, **words}})

class Migration(migrations.Migration):
    dependencies = [{dependencies}]
    operations = [{operations}]
"""
CODE = 'CharField(max_length=20, default="none")'
ITEM = f"""CreateModel("Item", [ident, ("code", {CODE})])"""
Migrations = Mapping[str, tuple[str, str]]
"""`app.0002_name` -> the operations, and what it depends on besides the one before it in its app."""


def write_project(folder: Path, migrations: Migrations) -> None:
    """The project; its models are those of its migrations."""
    files = {
        "manage.py": django_site.APP["manage.py"].replace("shop.settings", "settings"),
        "settings.py": SETTINGS,
        **{
            f"{app}/{path}": ""
            for app in ("shop", "billing", "news")
            for path in ("__init__.py", "migrations/__init__.py")
        },
    }
    last: dict[str, str] = {}
    for label, (operations, needs) in migrations.items():
        app, _, name = label.partition(".")
        before = [f"{app}.{last[app]}"] if app in last else []
        pairs = [tuple(one.split(".")) for one in (*before, *needs.split())]
        listed = ", ".join(map(repr, pairs))
        files[f"{app}/migrations/{name}.py"] = MIGRATION.format(dependencies=listed, operations=operations)
        last[app] = name
    for path, text in files.items():
        file = folder / "src" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")


@contextmanager
def migrated(
    database: Target,
    folder: Path,
    first: Migrations,
    following: Migrations,
    rows: Sequence[str] = (),
    mappers: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[Ground]:
    """The first migrations and rows, copied as the twin; then the following ones, and the capture is armed."""
    twin = database.on(f"{database.dbname}_twin")
    write_project(folder, first)
    manage = django_site.manage_of(folder, database)
    manage.run("migrate", "--verbosity", "0")
    with connect(database) as connection:
        for statement in rows:
            connection.execute(sql.SQL(statement))
    with connect(database.on("postgres")) as connection:
        words = {"new": sql.Identifier(twin.dbname), "old": sql.Identifier(database.dbname)}
        connection.execute(sql.SQL("create database {new} template {old}").format(**words))
    try:
        write_project(folder, {**first, **following})
        found = read_operations(manage)
        manage.run("migrate", "--verbosity", "0")
        made = Ground(database, twin, folder, found, mappers or {}, arm(database, LAUNCH))
        yield made
        disarm(database, made.facts)
    finally:
        drop_database(twin)
