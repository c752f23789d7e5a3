"""Database engines of other names: libraries bring backends that are made from Django's for PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from django_site import manage_of, site_database, write_site

from safepoint.config import Application
from safepoint.django.inspector import ProjectDatabase, inspect, redirected
from safepoint.django.managepy import Manage, redirect
from safepoint.launch.doctor.settings import lost_engine
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

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
        project = inspect(manage_of(site, target, SHOP_ENGINE="psqlextra.backend"))
        default = project.database()
        assert default is not None and default.is_postgresql and default.engine == "psqlextra.backend"
        assert project.identity is not None and project.database_error is None


def test_an_engine_for_another_database_is_told_although_its_name_has_postgresqls(server: Server, site: Path) -> None:
    with site_database(server) as target:
        folder = site / "src/postgone"
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "base.py").write_text("from django.db.backends.sqlite3.base import *\n")
        default = inspect(manage_of(site, target, SHOP_ENGINE="postgone")).database()
        assert default is not None and not default.is_postgresql


BY_SCHEME = '"ENGINE": {"postgis": "psqlextra.backend"}.get(url.scheme, "django.db.backends.postgresql")'


@pytest.fixture
def chosen(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Target], Manage]:
    """A site whose settings choose the engine by the address's scheme, as dj-database-url and django-environ do."""
    folder = Path(shutil.copytree(site, tmp_path / "site"))
    settings = folder / "src/shop/settings.py"
    settings.write_text(settings.read_text().replace('"ENGINE": os.environ["SHOP_ENGINE"]', BY_SCHEME))

    def make(target: Target) -> Manage:
        monkeypatch.setenv("DATABASE_URL", target.url().replace("postgresql://", "postgis://"))
        return manage_of(folder, target, database_url=False)

    return make


def test_a_login_of_ours_leads_to_the_engine_that_the_applications_own_address_chooses(
    server: Server, chosen: Callable[[Target], Manage]
) -> None:
    with site_database(server) as target:
        own = chosen(target)
        env, secrets = redirect(Application(url_env="DATABASE_URL"), target)
        led = inspect(replace(own, env=env, secrets=secrets)).database()
        assert inspect(own).database() == led
        assert led is not None and led.engine == "psqlextra.backend"
        assert redirected(own, "DATABASE_URL") is not None


def test_an_engine_that_our_address_does_not_choose_is_told_before_the_launch() -> None:
    own = ProjectDatabase("default", "django.contrib.gis.db.backends.postgis", "shop", "db", "", "shop")
    led = replace(own, engine="django.db.backends.postgresql")
    found = lost_engine("DATABASE_URL", own, led, "release-new")
    assert found is not None and found.verdict == "failure" and "postgis" in found.message
    assert lost_engine("DATABASE_URL", own, own, "release-new") is None
