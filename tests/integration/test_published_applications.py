"""Rehearsals of applications that nobody here wrote: an older release with generated data, migrated to a newer one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plan_file import PASSWORD_ENV, plan_file

from safepoint.config import PlanFile, load
from safepoint.launch.rehearsal.rehearsing import rehearse
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

# How long the packages of the applications take to come is not the applications' own.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900, func_only=True)]

# Versions that go together; between them lie migrations that change data (hashes of tokens, permissions by their
# names, codes made from others) and Django itself, from 4.2 to 5.2.
OLD = ("Django==4.2.*", "psycopg[binary]==3.2.*", "wagtail==5.0.*", "django-oscar==3.2.*")
OLD += ("django-oauth-toolkit==2.3.*",)
NEW = ("Django==5.2.*", "psycopg[binary]==3.3.*", "wagtail==7.0.*", "django-oscar==4.2.*")
NEW += ("django-oauth-toolkit==3.0.*",)
_DJANGO = "admin auth contenttypes sessions messages sites humanize flatpages redirects"
_SHOP = """
    Analytics Checkout Address Shipping Catalogue Communication Partner Basket Payment Offer Order Customer Search
    Voucher Wishlists Dashboard
"""
_DASHBOARDS = "Reports Users Orders Catalogue Offers Partners Pages Ranges Reviews Vouchers Communications Shipping"
_WAGTAIL = """
    contrib.forms contrib.redirects contrib.settings embeds sites users snippets documents images search admin
"""
SITES: dict[str, tuple[str, ...]] = {
    "oscar": (
        *("oscar.config.Shop", "haystack", "treebeard", "django_tables2"),
        *(f"oscar.apps.{name.lower()}.apps.{name}Config" for name in _SHOP.split()),
        "oscar.apps.catalogue.reviews.apps.CatalogueReviewsConfig",
        *(f"oscar.apps.dashboard.{name.lower()}.apps.{name}DashboardConfig" for name in _DASHBOARDS.split()),
    ),
    "wagtail": ("wagtail", "modelcluster", "taggit", *(f"wagtail.{name}" for name in _WAGTAIL.split())),
    "oauth2_provider": ("oauth2_provider",),
}
# What only a person knows of these releases, as `plan --way-back` asks it.
ANSWERS = {
    "oscar": """
[wayback.tables.auth_group]
added_rows = true  # groups of the shop's own, which a migration makes
[wayback.tables.auth_group_permissions]
added_rows = true
""",
}
SETTINGS = """
import os
from urllib.parse import unquote, urlsplit
{more}
url = urlsplit(os.environ["DATABASE_URL"])
SECRET_KEY = "only-for-tests"
SITE_ID = 1
USE_TZ = True
STATIC_URL = "/static/"
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = {apps!r}
MIDDLEWARE = []
ROOT_URLCONF = "site_settings"
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("here"))]
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410", "admin.E403"]
WAGTAIL_SITE_NAME = "test"
WAGTAILADMIN_BASE_URL = "http://localhost"
OSCAR_DEFAULT_CURRENCY = "GBP"
HAYSTACK_CONNECTIONS = {{"default": {{"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}}}
TEMPLATES = [{{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {{
    "context_processors": ["django.contrib.auth.context_processors.auth", "django.template.context_processors.request",
                           "django.contrib.messages.context_processors.messages"]}}}}]
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:], "USER": url.username,
    "PASSWORD": unquote(url.password or ""), "HOST": url.hostname, "PORT": url.port,
}}}}
"""


@pytest.fixture(scope="module")
def releases() -> Iterator[tuple[Path, Path]]:
    """The Python of the older and that of the newer release, each with its packages."""
    with tempfile.TemporaryDirectory(prefix="safepoint-releases-") as name:
        found = []
        for which, packages in (("old", OLD), ("new", NEW)):
            folder = Path(name) / which
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "setuptools<80", *packages]
            done = subprocess.run(install, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"the applications cannot be installed here: {done.stderr[-300:]}")
            found.append(folder / "bin" / "python")
        yield found[0], found[1]


@pytest.fixture
def site(
    releases: tuple[Path, Path],
    server: Server,
    new_database: Callable[[Server], Target],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[str], PlanFile]]:
    """Makes the older release's database with generated rows, and the plan file for the launch of the newer one."""
    tmp_path.chmod(0o711)
    old, new = releases
    target = new_database(server)
    owner, word = "shop", "only-for-tests"
    with connect(target) as connection:
        connection.execute(f"create role {owner} login password '{word}'".encode())
        connection.execute(f"alter database {target.dbname} owner to {owner}".encode())

    def make(name: str) -> PlanFile:
        apps = [*(f"django.contrib.{one}" for one in _DJANGO.split()), *SITES[name]]
        more = "from oscar.defaults import *" if name == "oscar" else ""
        (tmp_path / "site_settings.py").write_text(SETTINGS.format(apps=apps, more=more))
        login = target.login(owner, word)
        for words in (
            ["-m", "django", "migrate", "--no-input", "-v0"],
            [Path(__file__).parent / "fill_models.py", "12"],
        ):
            env = {"DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": str(tmp_path), "DATABASE_URL": login.url()}
            done = subprocess.run(
                [old, *words], env={**os.environ, **env}, cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
        assert sum(json.loads(done.stdout.splitlines()[-1]).values()) > 50, done.stderr
        monkeypatch.setenv(PASSWORD_ENV, target.password or "")
        plan = plan_file(tmp_path, target)
        text = plan.path.read_text().replace('["python", "manage.py"]', f'["{new}", "-m", "django"]')
        env_line = f'env = {{ DJANGO_SETTINGS_MODULE = "site_settings", PYTHONPATH = "{tmp_path}" }}'
        text = text.replace('version = "2.0"', f'version = "2.0"\n{env_line}')
        text = text.replace("[releases.old]", '[application]\nurl_env = "DATABASE_URL"\n\n[releases.old]')
        plan.path.write_text(text + ANSWERS.get(name, ""))
        return load(plan.path)

    yield make
    with connect(target) as connection:
        connection.execute(f"reassign owned by {owner} to postgres; drop owned by {owner}".encode())
    with connect(target.on("postgres")) as connection:
        connection.execute(f"alter database {target.dbname} owner to postgres".encode())
        connection.execute(f"drop role {owner}".encode())


@pytest.mark.parametrize("name", SITES)
def test_a_published_application_is_rehearsed_from_an_older_release_to_a_newer_one(
    site: Callable[[str], PlanFile], name: str
) -> None:
    done = rehearse(site(name))
    told = (done.reasons, done.notes, done.lint.notes)
    assert done.way_back is not None
    assert done.verdict == ("go" if done.way_back.proven else "no-go"), told
    assert len(done.pending.migrations) >= 2 and done.observed.error is None, told
    assert [run.label for run in done.observed.migrations] == list(done.pending.labels)
    assert done.lint.notes == (), told
    assert done.undo is not None and done.forecast is not None
    # What is asked of Wagtail's (mappers for what was removed) is not answered here.
    assert done.way_back.proven or (name == "wagtail" and done.way_back.doubts), done.way_back.doubts
    if done.way_back.proven:
        assert done.trial is not None and done.trial.verdict == "equal", done.trial
    print(name, json.dumps({"lint": [one.as_json() for one in done.lint.findings], **_told(done.as_json())}, indent=1))


def _told(data: dict[str, object]) -> dict[str, object]:
    return {key: data[key] for key in ("digest", "way_back", "trial", "undo", "notes", "seconds")}
