"""Database engines of other names: libraries bring backends that are made from Django's for PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from django_site import manage_of, site_database, write_site

from safepoint.postgres.servers import Server

ENGINE = '"ENGINE": "django.db.backends.postgresql"'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_site(tmp_path_factory.mktemp("site"))
    settings = folder / "src/shop/settings.py"
    text = settings.read_text()
    assert ENGINE in text
    settings.write_text(text.replace(ENGINE, '"ENGINE": os.environ["SHOP_ENGINE"]'))
    for name in ("psqlextra/__init__.py", "psqlextra/backend/__init__.py"):
        (folder / "src" / name).parent.mkdir(exist_ok=True)
        (folder / "src" / name).touch()
    (folder / "src/psqlextra/backend/base.py").write_text("from django.db.backends.postgresql.base import *\n")
    return folder


def test_an_engine_that_is_made_from_postgresqls_is_postgresql_whatever_its_name(server: Server, site: Path) -> None:
    with site_database(server) as target:
        project = manage_of(site, target, SHOP_ENGINE="psqlextra.backend").inspect()
        default = project.database()
        assert default is not None and default.is_postgresql and default.engine == "psqlextra.backend"
        assert project.identity is not None and project.database_error is None


def test_an_engine_for_another_database_is_told_although_its_name_has_postgresqls(server: Server, site: Path) -> None:
    with site_database(server) as target:
        folder = site / "src/postgone"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "base.py").write_text("from django.db.backends.sqlite3.base import *\n")
        default = manage_of(site, target, SHOP_ENGINE="postgone").inspect().database()
        assert default is not None and not default.is_postgresql
