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
