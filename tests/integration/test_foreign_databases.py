"""No false alarms on databases that nobody here wrote: what PostgreSQL's packages ship, and published applications."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from postgres_servers import Servers, has_postgres
from psycopg import sql

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.proof import prove, restored
from safepoint.backup.snapshot import take_snapshot
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import Installation, installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

DEBIAN = Path("/usr/share/postgresql/15")
DEBIAN_ONLY = pytest.mark.skipif(not has_postgres(15), reason="PostgreSQL 15 with contrib is not installed")

# Published applications, at versions that go together; each makes its tables by its own migrations.
PACKAGES = (
    "Django==5.2.*",
    "psycopg[binary]==3.3.*",
    "wagtail==8.0.*",
    "django-oscar==4.2.*",
    "wiki==0.13.*",
    "django-cms==5.1.*",
    "django-oauth-toolkit==3.4.*",
)
_DJANGO = "admin auth contenttypes sessions messages sites staticfiles humanize flatpages redirects"
SITES = {
    "oscar": ("haystack", "", ""),  # and what it lists itself
    "wagtail": (
        "wagtail modelcluster taggit",
        "wagtail",
        "contrib.forms contrib.redirects contrib.search_promotions contrib.settings embeds sites users snippets "
        "documents images search admin",
    ),
    "wiki": ("oauth2_provider django_nyt mptt sekizai wiki", "wiki.plugins", "attachments notifications images macros"),
    "cms": ("cms menus treebeard sekizai", "", ""),
}


@contextmanager
def kept(target: Target, folder: Path, programs: Installation) -> Iterator[Path]:
    """A snapshot of a database, proven: this is what must not cry wolf."""
    take_snapshot(
        target,
        Here("here", folder),
        installation=programs,
        folder=folder / "snapshots",
        snapshot_id="s",
        launch_id=None,
    )
    prove(folder / "snapshots" / "s", scratch_parent=folder / "scratch")
    yield folder / "snapshots" / "s"


def again(snapshot: Path, scratch: Path) -> None:
    """The copy of a copy is equal too: what a restore writes in another way does not go on changing."""
    with restored(snapshot, scratch_parent=scratch) as copy:
        assert compare(copy.manifest.fingerprint, take(copy.target)) == ()


def tool(programs: Installation, target: Target, name: str, *argv: str, text: str | None = None) -> None:
    env = {**os.environ, **target.env(), **target.secrets()}
    done = subprocess.run(
        [programs.program(name), *argv], env=env, input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@DEBIAN_ONLY
def test_what_pgbench_makes_is_proven(
    servers: Servers, new_database: Callable[[Server], Target], tmp_path: Path
) -> None:
    tmp_path.chmod(0o711)
    target, programs = new_database(servers(15)), installation(15)
    tool(programs, target, "pgbench", "--initialize", "--quiet", "--foreign-keys", "--partitions=3")
    tool(programs, target, "pgbench", "--transactions=50", "--client=2")
    with kept(target, tmp_path, programs):
        pass


@DEBIAN_ONLY
@pytest.mark.slow
def test_a_database_with_every_extension_of_the_package_and_a_column_of_each_of_their_types_is_proven(
    servers: Servers, new_database: Callable[[Server], Target], tmp_path: Path
) -> None:
    tmp_path.chmod(0o711)
    target, programs = new_database(servers(15)), installation(15)
    with connect(target) as connection:
        for (name,) in connection.execute("select name from pg_available_extensions order by 1").fetchall():
            try:
                connection.execute(sql.SQL("create extension if not exists {} cascade").format(sql.Identifier(name)))
            except psycopg.Error as error:  # a language or module that has to be loaded at the server's start
                print(f"left out: {name}: {error.diag.message_primary}")
        made = connection.execute("select count(*) from pg_extension").fetchone()
        assert made is not None and made[0] > 30
        types = connection.execute("""
            select format('%I.%I', n.nspname, t.typname) from pg_type t join pg_namespace n on n.oid = t.typnamespace
            join pg_depend d on d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e'
            where t.typtype = 'b' and t.typelem = 0 order by 1
        """).fetchall()
        columns = ", ".join(f"c{place} {name}" for place, (name,) in enumerate(types))
        connection.execute(f"create table of_all_types (id int primary key, {columns})".encode())
        connection.execute("insert into of_all_types (id) select generate_series(1, 10)")
        for place in range(len(types)):  # each value that the type takes
            for value in ("1", "a", "a=>1", "(1,2)", "1..2", "978-0-306-40615-7", "{1,2}", "Top.Science", "4.0"):
                try:
                    connection.execute(f"update of_all_types set c{place} = '{value}' where id <= 5".encode())
                except psycopg.Error:
                    continue
    with kept(target, tmp_path, programs) as snapshot:
        again(snapshot, tmp_path / "scratch")


@DEBIAN_ONLY
def test_the_information_schema_as_a_schema_of_ones_own_is_proven(
    servers: Servers, new_database: Callable[[Server], Target], tmp_path: Path
) -> None:
    """Some sixty views of every kind, domains, functions, grants and tables, as PostgreSQL's own people write them."""
    tmp_path.chmod(0o711)
    target, programs = new_database(servers(15)), installation(15)
    text = (DEBIAN / "information_schema.sql").read_text().replace("information_schema", "house")
    # It is read by a server that is just being made, where a COPY from the package's own folder may stand.
    text = re.sub(r"^COPY .*?;$", "", text, flags=re.MULTILINE)
    tool(programs, target, "psql", "-q", "-v", "ON_ERROR_STOP=1", text=text)
    with connect(target) as connection:
        connection.execute("insert into house.sql_features select * from information_schema.sql_features")
    with kept(target, tmp_path, programs) as snapshot:
        again(snapshot, tmp_path / "scratch")


@pytest.fixture(scope="module")
def django() -> Iterator[Path]:
    """A Python of its own with the published applications."""
    with tempfile.TemporaryDirectory(prefix="safepoint-applications-") as name:
        subprocess.run([sys.executable, "-m", "venv", name], check=True)
        python = Path(name) / "bin" / "python"
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"the applications cannot be installed here: {done.stderr[-300:]}")
        yield python


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES, ids=lambda site: site.replace(" ", "-"))
@pytest.mark.parametrize("version", [17, 18])
def test_what_the_migrations_of_a_published_application_make_is_proven(
    django: Path,
    servers: Servers,
    new_database: Callable[[Server], Target],
    tmp_path: Path,
    site: str,
    version: int,
) -> None:
    tmp_path.chmod(0o711)
    target = new_database(servers(version))
    names, package, below = SITES[site]
    apps = [f"django.contrib.{name}" for name in _DJANGO.split()] + names.split()
    apps += [f"{package}.{name}" for name in below.split()]
    (tmp_path / "site_settings.py").write_text(_settings(target, apps))
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "site_settings", "PYTHONPATH": str(tmp_path), **target.secrets()}
    done = subprocess.run(
        [django, "-m", "django", "migrate", "--no-input", "--skip-checks", "-v0"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with kept(target, tmp_path, installation(version)) as snapshot:
        again(snapshot, tmp_path / "scratch")
        assert len(take(target).tables) > 20


def _settings(target: Target, apps: list[str]) -> str:
    names = ("contrib.auth.context_processors.auth", "template.context_processors.request")
    options = {"context_processors": [*(f"django.{name}" for name in names), "sekizai.context_processors.sekizai"]}
    oscar = (
        "from oscar import INSTALLED_APPS as OSCAR\nfrom oscar.defaults import *"
        if "haystack" in apps
        else "OSCAR = []"
    )
    return f"""
import os
{oscar}
SECRET_KEY = "only-for-tests"
SITE_ID = 1
USE_TZ = True
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
CMS_CONFIRM_VERSION4 = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = OSCAR or {apps!r}
MIDDLEWARE = []
STATIC_URL = "/static/"
ROOT_URLCONF = "site_settings"
urlpatterns = []
WAGTAIL_SITE_NAME = "test"
WAGTAILADMIN_BASE_URL = "http://localhost"
OSCAR_DEFAULT_CURRENCY = "GBP"
HAYSTACK_CONNECTIONS = {{"default": {{"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}}}
TEMPLATES = [{{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {options!r}}}]
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.postgresql", "HOST": {target.host!r}, "PORT": {target.port},
    "NAME": {target.dbname!r}, "USER": {target.user!r}, "PASSWORD": os.environ["PGPASSWORD"],
}}}}
"""
