"""The SQL of a release that brings many migrations, in a project that has many already."""

from __future__ import annotations

from pathlib import Path

from django_site import manage_of, write_site

from safepoint.django.piped import ask
from safepoint.django.sqlmigrate import written
from safepoint.postgres.target import Target

COUNTED = """
from pathlib import Path
from django.db import migrations, models


class Counted(migrations.AddField):
    def state_forwards(self, app_label, state):
        with Path({notes!r}).open("a") as notes:
            notes.write(self.name + "\\n")
        super().state_forwards(app_label, state)


class Migration(migrations.Migration):
    dependencies = [("shop", {before!r})]
    operations = [Counted("item", "field{number}", models.IntegerField(null=True))]
"""


def test_each_migration_is_walked_once_however_many_come_after_it(tmp_path: Path, database: Target) -> None:
    notes = tmp_path / "walked"
    folder = write_site(tmp_path) / "src/shop/migrations"
    before = max(path.stem for path in folder.glob("0*.py"))
    for number in range(10, 40):
        name = f"00{number}_more"
        (folder / f"{name}.py").write_text(COUNTED.format(notes=str(notes), before=before, number=number))
        before = name
    answer = ask(manage_of(tmp_path, database), "sql", {"database": "default", "migrations": None})
    found = written(answer)
    assert [one.forward_error for one in found] == [None] * len(found)
    assert 'ADD COLUMN "field39" integer NULL' in (found[-1].forward or "")
    assert sorted(notes.read_text().split()) == [f"field{number}" for number in range(10, 40)]


RELATED = """
from pathlib import Path
from django.db import migrations, models


class Noted(models.IntegerField):
    def contribute_to_class(self, cls, name, **known):
        with Path({notes!r}).open("a") as notes:
            notes.write("made\\n")
        super().contribute_to_class(cls, name, **known)


def key(kind=models.BigAutoField):
    return ("id", kind(primary_key=True, auto_created=True, serialize=False, verbose_name="ID"))


class Migration(migrations.Migration):
    dependencies = [("shop", {before!r})]
    operations = [
        migrations.CreateModel("Aside", [key(), ("size", Noted(default=0))]),
        migrations.CreateModel("Place", [("code", models.CharField(max_length=8, primary_key=True, serialize=False))]),
        migrations.CreateModel("Shelf", [
            ("place", models.OneToOneField("shop.place", models.CASCADE, primary_key=True, serialize=False)),
            ("items", models.ManyToManyField("shop.item")),
        ]),
        migrations.CreateModel("Box", [key(), ("shelf", models.ForeignKey("shop.shelf", models.CASCADE))]),
        migrations.CreateModel("Crate", [
            ("box_ptr", models.OneToOneField(
                "shop.box", models.CASCADE, auto_created=True, parent_link=True, primary_key=True, serialize=False,
            )),
            ("weight", models.IntegerField(null=True)),
        ], bases=("shop.box",)),
        migrations.AlterField("place", "code", models.CharField(max_length=20, primary_key=True, serialize=False)),
        migrations.RenameModel("Place", "Room"),
        migrations.RenameModel("Item", "Thing"),
        migrations.RenameField("crate", "weight", "mass"),
        migrations.AlterField("box", "id", models.AutoField(primary_key=True, serialize=False)),
        migrations.AddField("box", "room", models.ForeignKey("shop.room", models.CASCADE, null=True, related_name="+")),
        migrations.AddField("thing", "boxes", models.ManyToManyField("shop.box")),
        migrations.AddIndex("crate", models.Index(fields=["mass"], name="by_mass")),
        migrations.AlterModelTable("thing", "goods"),
        migrations.RemoveField("shelf", "items"),
        migrations.DeleteModel("Crate"),
    ]
"""


def test_of_the_models_only_those_around_an_operation_are_made_and_the_sql_is_djangos(
    tmp_path: Path, database: Target
) -> None:
    notes = tmp_path / "made"
    folder = write_site(tmp_path) / "src/shop/migrations"
    before = max(path.stem for path in folder.glob("0*.py"))
    (folder / "0010_related.py").write_text(RELATED.format(notes=str(notes), before=before))
    manage = manage_of(tmp_path, database)
    found = written(ask(manage, "sql", {"database": "default", "migrations": None}))[-1]
    assert found.label == "shop.0010_related"
    # The model is made for its own operation, before and after, both ways; Django makes it for each operation.
    assert len(notes.read_text().split()) <= 4
    for mine, words in ((found.forward, ()), (found.backward, ("--backwards",))):
        own = manage.run("sqlmigrate", "--no-color", "shop", "0010_related", *words).stdout
        assert mine is not None and mine in own.replace("BEGIN;\n", "").replace("COMMIT;\n", "")
        assert mine.count("\n--\n-- ") > 10
