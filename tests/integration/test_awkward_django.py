"""Django's own awkward cases, rehearsed in one project: nothing of them is ordinary, and all of it is allowed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import django_site
import pytest
from loaded_django import python
from plan_file import PASSWORD_ENV, plan_file

from safepoint.config import PlanFile, load
from safepoint.django.pending import read_pending
from safepoint.errors import Refused
from safepoint.launch.rehearsal.rehearsals import Rehearsal
from safepoint.launch.rehearsal.rehearsing import rehearse
from safepoint.launch.report.rehearsal import rehearsal_page
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

# A custom user model; a composite key; a table that Django does not manage; a migration that is squashed from two; SQL
# with state operations, and SQL without; one that prints; one that asks; one that fails half-way, not atomic.
FILES = {
    "yard/__init__.py": "",
    "yard/models.py": """
        from django.contrib.auth.models import AbstractUser
        from django.db import models

        class Person(AbstractUser):
            badge = models.CharField(max_length=9, blank=True)

        class Slot(models.Model):
            pk = models.CompositePrimaryKey("row", "place")
            row = models.IntegerField()
            place = models.IntegerField()
            what = models.CharField(max_length=20, db_column="content")
            weight = models.IntegerField(null=True)

        class Legacy(models.Model):
            code = models.CharField(max_length=5, primary_key=True)
            class Meta:
                managed = False
                db_table = "legacy"
    """,
    "yard/migrations/__init__.py": "",
    "yard/migrations/0001_initial.py": """
        import django.contrib.auth.models, django.utils.timezone
        from django.db import migrations, models

        class Migration(migrations.Migration):
            initial = True
            dependencies = [("auth", "0012_alter_user_first_name_max_length")]
            operations = [
                migrations.CreateModel("Person", [
                    ("id", models.BigAutoField(primary_key=True, auto_created=True, serialize=False)),
                    ("password", models.CharField(max_length=128)),
                    ("last_login", models.DateTimeField(blank=True, null=True)),
                    ("is_superuser", models.BooleanField(default=False)),
                    ("username", models.CharField(max_length=150, unique=True)),
                    ("first_name", models.CharField(blank=True, max_length=150)),
                    ("last_name", models.CharField(blank=True, max_length=150)),
                    ("email", models.EmailField(blank=True, max_length=254)),
                    ("is_staff", models.BooleanField(default=False)),
                    ("is_active", models.BooleanField(default=True)),
                    ("date_joined", models.DateTimeField(default=django.utils.timezone.now)),
                    ("groups", models.ManyToManyField(blank=True, to="auth.group")),
                    ("user_permissions", models.ManyToManyField(blank=True, to="auth.permission")),
                ], managers=[("objects", django.contrib.auth.models.UserManager())]),
                migrations.CreateModel("Slot", [
                    ("pk", models.CompositePrimaryKey("row", "place", primary_key=True, serialize=False)),
                    ("row", models.IntegerField()),
                    ("place", models.IntegerField()),
                    ("what", models.CharField(max_length=20)),
                ]),
                migrations.CreateModel("Legacy", [("code", models.CharField(max_length=5, primary_key=True))],
                    options={"managed": False, "db_table": "legacy"}),
            ]
    """,
    "yard/migrations/0002_squashed.py": """
        from django.db import migrations, models

        class Migration(migrations.Migration):
            replaces = [("yard", "0002_badge"), ("yard", "0003_more")]
            dependencies = [("yard", "0001_initial")]
            operations = [
                migrations.AddField("person", "badge", models.CharField(blank=True, default="", max_length=9)),
            ]
    """,
    "yard/migrations/0004_states.py": """
        from django.db import migrations, models

        def say(apps, schema_editor):
            print("Applying yard.0099_not_a_migration... OK")  # as some do

        class Migration(migrations.Migration):
            dependencies = [("yard", "0002_squashed")]
            operations = [
                migrations.RunSQL(
                    "ALTER TABLE yard_slot RENAME COLUMN what TO content",
                    "ALTER TABLE yard_slot RENAME COLUMN content TO what",
                    state_operations=[migrations.AlterField("slot", "what",
                        models.CharField(max_length=20, db_column="content"))],
                ),
                migrations.SeparateDatabaseAndState(
                    [migrations.RunSQL("ALTER TABLE yard_slot ADD weight int", "ALTER TABLE yard_slot DROP weight")],
                    [migrations.AddField("slot", "weight", models.IntegerField(null=True))],
                ),
                migrations.RunSQL("ALTER TABLE legacy ADD note text", "ALTER TABLE legacy DROP note"),
                migrations.RunPython(say, migrations.RunPython.noop),
            ]
    """,
    "yard/migrations/0005_by_request.py": """
        import os
        from django.db import connections, migrations, models

        def ask(apps, schema_editor):
            if os.environ.get("YARD") == "asks":
                input("Really? ")

        def half(apps, schema_editor):
            apps.get_model("yard", "Slot").objects.filter(row=1).update(weight=7)
            if os.environ.get("YARD") == "half":
                raise RuntimeError("out of breath")
            if os.environ.get("YARD") == "archive":
                with connections["archive"].cursor() as cursor:
                    cursor.execute("insert into log values ('written by a migration')")

        def longer(apps, schema_editor):
            apps.get_model("yard", "Slot").objects.filter(place=8).update(what="a thing of more than 20 letters")

        class Migration(migrations.Migration):
            atomic = False
            dependencies = [("yard", "0004_states")]
            operations = [
                migrations.RunPython(ask, migrations.RunPython.noop),
                migrations.RunPython(half, migrations.RunPython.noop),
            ]
            if os.environ.get("YARD") == "long":
                operations += [
                    migrations.AlterField("slot", "what", models.CharField(max_length=60, db_column="content")),
                    migrations.RunPython(longer, migrations.RunPython.noop),
                ]
    """,
}


# By the variables: the same database by another alias, another one that is live, and the same only readable.
OTHERS = """
if os.environ.get("YARD") in ("two", "archive", "reads"):
    DATABASES["archive"] = {**DATABASES["default"]}
if os.environ.get("YARD") in ("archive", "reads"):
    DATABASES["archive"]["NAME"] = os.environ["YARD_ARCHIVE"]
    DATABASES["archive"].update(HOST=os.environ["YARD_HOST"], PORT=os.environ["YARD_PORT"])
    DATABASES["archive"].update(USER="postgres", PASSWORD=os.environ["YARD_PASSWORD"])
if os.environ.get("YARD") == "reads":
    DATABASES["archive"]["OPTIONS"] = {"options": "-c default_transaction_read_only=on"}
"""


def write(folder: Path) -> Path:
    django_site.write_site(folder)
    for name, text in FILES.items():
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    settings = folder / "src" / "shop" / "settings.py"
    text = settings.read_text().replace('"shop"]', '"shop", "yard"]\nAUTH_USER_MODEL = "yard.Person"')
    text += OTHERS
    settings.write_text(text)
    return folder


@pytest.fixture(scope="module")
def yard(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlanFile]:
    """The project at its first migrations, with rows; the other ones are pending."""
    folder = write(tmp_path_factory.mktemp("yard"))
    state = tmp_path_factory.mktemp("plan")
    with django_site.site_database(server) as target:
        login = _owner(target)
        manage = django_site.manage_of(folder, login)
        manage.run("migrate", "auth", "--verbosity", "0")
        manage.run("migrate", "sessions", "--verbosity", "0")
        manage.run("migrate", "shop", "--verbosity", "0")
        manage.run("migrate", "yard", "0001", "--verbosity", "0")
        with connect(login) as connection:
            for statement in (
                "create type mood as enum ('good', 'bad')",
                "create table legacy (code varchar(5) primary key, mood mood)",
                "insert into legacy select 'L' || n, 'good' from generate_series(1, 9) n",
                "insert into yard_slot (row, place, what) select n % 7, n, 'thing ' || n from generate_series(1, 70) n",
                "insert into yard_person (password, is_superuser, username, first_name, last_name, email, is_staff, "
                "is_active, date_joined) select '', false, 'p' || n, '', '', '', false, true, now() "
                "from generate_series(1, 9) n",
            ):
                connection.execute(statement.encode())
        try:
            plan = plan_file(state, target)
            text = plan.path.read_text().replace('["python", "manage.py"]', f'["{python()}", "src/manage.py"]')
            text = text.replace('directory = "."', f'directory = "{folder}"')
            text = text.replace("[releases.old]", '[application]\nurl_env = "DATABASE_URL"\n\n[releases.old]')
            text = text.replace('version = "2.0"', 'version = "2.0"\nhealth = "/health/"\nenv = { YARD = "no" }')
            plan.path.write_text(text)
            plan.path.with_name("password").write_text(target.password or "")
            yield load(plan.path)
        finally:
            with connect(target) as connection:
                connection.execute(b"reassign owned by shop to postgres; drop owned by shop")
                connection.execute(f"alter database {target.dbname} owner to postgres".encode())
                connection.execute(b"drop role shop")


def _owner(target: Target) -> Target:
    with connect(target) as connection:
        connection.execute(b"create role shop login password 'only-for-tests'")
        connection.execute(f"alter database {target.dbname} owner to shop".encode())
        connection.execute(b"grant create on schema public to shop")
    return target.login("shop", "only-for-tests")


def rehearsed(yard: PlanFile, monkeypatch: pytest.MonkeyPatch, what: str = "no", more: str = "") -> Rehearsal:
    password = yard.path.with_name("password")
    monkeypatch.setenv(PASSWORD_ENV, password.read_text() if password.exists() else "")
    path = yard.path.with_name(f"{what}.toml")
    path.write_text(yard.path.read_text().replace('YARD = "no"', f'YARD = "{what}"') + f"\n{more}\n")
    return rehearse(load(path))


def test_what_django_allows_is_rehearsed(yard: PlanFile, monkeypatch: pytest.MonkeyPatch) -> None:
    done = rehearsed(yard, monkeypatch, "two")
    assert done.verdict == "go", (done.reasons, done.observed.output)
    assert "database 'archive' is the copy by another alias" in done.notes
    assert done.pending.labels == ("yard.0002_squashed", "yard.0004_states", "yard.0005_by_request")
    assert [len(one.replaces) for one in done.pending.migrations] == [2, 0, 0]
    # What a migration prints is not taken for a migration.
    assert [run.label for run in done.observed.migrations] == list(done.pending.labels)
    slot = next(one for one in done.changes if one.before == "public.yard_slot")
    kinds = {column.before or column.after: column.kind for column in slot.columns}
    assert kinds == {
        "row": "identical",
        "place": "identical",
        "what": "renamed",
        "weight": "filled",
    }
    assert "public.legacy" in {one.before for one in done.changes}
    rules = {(one.rule, one.migration) for one in done.lint.findings}
    assert ("hides-schema", "yard.0004_states") in rules and ("half-applied", "yard.0005_by_request") in rules
    assert {check.name: check.verdict for check in done.checks}["health page"] == "pass"
    assert done.undo is not None and done.undo.verdict == "exact", done.undo
    # Rows with a composite key come back, and so does what is written to a column that SQL has renamed.
    assert done.way_back is not None and done.way_back.proven, done.way_back
    assert done.trial is not None and done.trial.verdict == "equal", done.trial


@pytest.mark.parametrize(("what", "said"), [("asks", "EOF"), ("half", "out of breath")])
def test_a_migration_that_asks_or_stops_half_way_is_a_no_go_that_says_what_stays(
    yard: PlanFile, monkeypatch: pytest.MonkeyPatch, what: str, said: str
) -> None:
    done = rehearsed(yard, monkeypatch, what)
    assert done.verdict == "no-go" and said in done.reasons[0] and "yard.0005_by_request" in done.reasons[0]
    assert any("stay applied: yard.0002_squashed, yard.0004_states" in note for note in done.notes)
    (half,) = [note for note in done.notes if "is not atomic and stopped half-way" in note]
    # What it wrote before it raised stands in the copy, as it would in the live database.
    assert ("10 rows that it wrote" in half) == (what == "half"), half
    assert done.undo is None and done.trial is None


def test_rows_that_cannot_go_back_are_shown_where_undoing_fails(
    yard: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = rehearsed(yard, monkeypatch, "long")
    undo = done.undo
    assert undo is not None and undo.verdict == "fails", done.reasons
    (why,) = done.reasons  # the value does not come back by the mapping either
    assert done.verdict == "no-go" and "the way back is not proven (yard_slot.what: 1 values" in why
    assert undo.migration == "yard.0005_by_request" and "value too long" in (undo.error or "")
    tables = {table.name: table for table in undo.tables}
    assert tables["public.yard_slot"].verdict == "fails" and tables["public.yard_person"].verdict == "fails"
    assert tables["public.shop_item"].verdict == "exact"
    (shown,) = tables["public.yard_slot"].examples
    assert (shown.key, shown.fate) == ("row=1, place=8", "cannot go back")
    (value,) = shown.values
    assert (value.column, value.before) == ("content", "a thing of more than 20 letters")
    assert value.after == "does not fit into varchar(20)" and tables["public.yard_person"].examples == ()
    page = rehearsal_page(done.as_json())
    assert "row=1, place=8" in page and "does not fit into varchar(20)" in page


@pytest.fixture
def archive(yard: PlanFile, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Target, Target]]:
    """A second database of the live site, and a copy of it that somebody has made for rehearsals."""
    name = f"{yard.database.name}_archive"
    both = server.target.on(name), server.target.on(f"{name}_copy")
    with connect(server.target) as connection:
        for one in both:
            connection.execute(f"create database {one.dbname}".encode())
    for one in both:
        with connect(one) as connection:
            connection.execute(b"create table log (what text)")
    monkeypatch.setenv("YARD_ARCHIVE", name)
    monkeypatch.setenv("YARD_HOST", server.target.host)
    monkeypatch.setenv("YARD_PORT", str(server.target.port))
    monkeypatch.setenv("YARD_PASSWORD", server.target.password or "")
    yield both
    with connect(server.target) as connection:
        for one in both:
            connection.execute(f"drop database {one.dbname} with (force)".encode())


def test_a_second_database_is_not_written_to_and_one_that_is_led_to_a_copy_is_rehearsed(
    yard: PlanFile, archive: tuple[Target, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, copy = archive
    with pytest.raises(Refused) as caught:
        rehearsed(yard, monkeypatch, "archive")
    assert "archive" in caught.value.message and "Nothing was migrated" in (caught.value.remedy or "")
    done = rehearsed(yard, monkeypatch, "archive", f'[rehearsal]\nenv = {{ YARD_ARCHIVE = "{copy.dbname}" }}')
    assert done.verdict == "go", (done.reasons, done.observed.output)
    assert any("'archive' is led elsewhere by [rehearsal] env" in note for note in done.notes)
    written = []
    for one in archive:
        with connect(one) as connection:
            written.append(len(connection.execute("select * from log").fetchall()))
    assert written == [0, 1]


def test_a_second_database_that_can_only_be_read_is_in_nobodys_way(
    yard: PlanFile, archive: tuple[Target, Target]
) -> None:
    folder = Path(yard.releases.new.directory)
    manage = django_site.manage_of(folder, archive[0].on(yard.database.name), YARD="reads")
    pending = read_pending(manage)
    assert [one.alias for one in pending.others] == ["archive"] and pending.exposed == ()
