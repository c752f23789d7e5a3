"""An app that asks its database while it is loaded: of a process that waits, that connection may be gone by then."""

from __future__ import annotations

from pathlib import Path

from django_site import manage_of, write_site

from safepoint.django.standby import Standby
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

APPS = """
from django.apps import AppConfig

class Shop(AppConfig):
    name = "shop"

    def ready(self):
        from django.db import connection
        connection.ensure_connection()
"""
END = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"


def test_a_connection_that_was_ended_while_the_process_waited_is_not_used(tmp_path: Path, database: Target) -> None:
    site = write_site(tmp_path)
    manage_of(site, database).run("migrate", "shop", "0001", "-v", "0")
    (site / "src/shop/apps.py").write_text(APPS)
    standby = Standby(manage_of(site, database))
    try:
        assert standby.ready(30)
        with connect(database.on("postgres")) as connection:  # as the swap ends the sessions of what it exchanges
            assert connection.execute(END, [database.dbname]).fetchall() == [(True,)]
        assert standby.ask("check", {})["clean"] is False
    finally:
        standby.dismiss()
