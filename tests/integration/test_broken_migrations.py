"""A release whose migrations cannot be loaded: no fault of the database, which nobody should look for there."""

from __future__ import annotations

from pathlib import Path

from django_site import manage_of, site_database, write_site

from safepoint.django.inspector import inspect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


def test_a_migration_that_cannot_be_loaded_is_not_told_as_a_database_that_does_not_answer(
    server: Server, tmp_path: Path
) -> None:
    site = write_site(tmp_path / "site")
    (site / "src/shop/migrations/0004_other.py").write_text("import no_such_library\n")
    with site_database(server) as target:
        known = inspect(manage_of(site, target))
        assert known.pending is None and known.database_answers
        assert known.unknown.startswith("The application's migrations cannot be looked at: ModuleNotFoundError: No mod")
        away = Target("127.0.0.1", 1, target.dbname, target.user, target.password, sslmode="disable")
        (site / "src/shop/migrations/0004_other.py").unlink()
        gone = inspect(manage_of(site, away))
        assert not gone.database_answers
        assert gone.unknown.startswith("The application's database does not answer: OperationalError")
