"""`migrate --check` looks and does no more, whatever the release's Django does by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django_site import manage_of, write_site

from safepoint.django.migrations import is_clean, migrate
from safepoint.django.standby import Standby
from safepoint.postgres.target import Target

# Django 3.2 goes on where nothing is pending: its `--check` runs the handlers behind a migration as `migrate` does.
AS_DJANGO_3 = """
from django.core.management.commands import migrate


class Command(migrate.Command):
    def handle(self, *args, **options):
        if options["check_unapplied"] and not options["plan"]:
            options["check_unapplied"] = False
        super().handle(*args, **options)
"""
HANDLER = """
from pathlib import Path
from django.apps import AppConfig
from django.db.models.signals import post_migrate


def write(**kwargs):
    with Path({notes!r}).open("a") as notes:
        notes.write("ran\\n")


class Shop(AppConfig):
    name = "shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        post_migrate.connect(write, sender=self)
"""


@pytest.mark.parametrize("waits", [False, True])
def test_no_handler_behind_a_migration_runs_by_a_look(tmp_path: Path, database: Target, waits: bool) -> None:
    notes = tmp_path / "ran"
    folder = write_site(tmp_path) / "src/shop"
    (folder / "apps.py").write_text(HANDLER.format(notes=str(notes)))
    (folder / "management/commands/migrate.py").write_text(AS_DJANGO_3)
    manage = manage_of(tmp_path, database)
    migrate(manage)
    assert notes.read_text() == "ran\n"
    if waits:
        standby = Standby(manage)
        try:
            assert standby.ready(30) and standby.ask("check", {})["clean"] is True
        finally:
            standby.dismiss()
    else:
        assert is_clean(manage)
    assert notes.read_text() == "ran\n"
