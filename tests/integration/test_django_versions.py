"""The piped scripts inside other versions of Django, other Pythons and another driver than our own environment has."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import django_site
import pytest
from plan_file import PASSWORD_ENV, plan_file

from safepoint.config import PlanFile, load
from safepoint.django.cache import clear_caches
from safepoint.django.inspector import inspect
from safepoint.django.intent import read_intent
from safepoint.django.managepy import Manage
from safepoint.django.migrations import replacements
from safepoint.django.standby import Standby
from safepoint.launch.rehearsal.rehearsing import rehearse
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

UV = Path(sys.executable).parent / "uv"
# By the Django: the Python that is wanted (another one that fits will do), and the driver. 4.2 is the oldest that is
# promised; it knows psycopg 3, and many have 2.
RELEASES = {
    "4.2-psycopg2": ("3.8", "Django==4.2.*", "psycopg2-binary==2.9.*"),
    "4.2": ("3.11", "Django==4.2.*", "psycopg[binary]==3.*"),
    "5.2-psycopg2": ("3.13", "Django==5.2.*", "psycopg2-binary==2.9.*"),
    "6.0": ("3.12", "Django==6.0.*", "psycopg[binary]==3.*"),
}


@dataclass(frozen=True)
class Site:
    """The project with its first migration applied, in one version of Django."""

    django: str
    python: Path
    folder: Path
    target: Target

    @property
    def manage(self) -> Manage:
        """Its manage.py in its own Python."""
        ours = django_site.manage_of(self.folder, self.target)
        release = ours.release.model_copy(update={"manage": (str(self.python), "src/manage.py")})
        return Manage(ours.host, release, {}, ours.secrets, ours.directory)


def pythons(wanted: str) -> list[str]:
    """What to ask uv for: this version, one that pyenv has put where no shim finds it, our own."""
    kept = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{wanted}.*/bin/python"))
    return [*map(str, kept), wanted, sys.executable]


def installed(folder: Path, wanted: str, *packages: str) -> Path:
    """The Python of a new virtual environment; the test is skipped where no such Python, or no index, is there."""
    never = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    python, said = folder / "bin" / "python", ""
    for found in pythons(wanted):
        for words in (
            ("venv", "--clear", "--python", found, str(folder)),
            ("pip", "install", "--python", str(python), *packages),
        ):
            done = subprocess.run([UV, *words], capture_output=True, text=True, check=False, env=never)
            if done.returncode != 0:
                said += f"uv {' '.join(words)}: {' '.join(done.stderr.split())[-300:]}; "
                break
        else:
            return python
    pytest.skip(said)


@pytest.fixture(scope="module", params=RELEASES)
def site(request: pytest.FixtureRequest, server: Server) -> Iterator[Site]:
    """One site for each version."""
    with tempfile.TemporaryDirectory(prefix="safepoint-django-") as name, django_site.site_database(server) as target:
        python = installed(Path(name) / "venv", *RELEASES[request.param])
        made = Site(str(request.param), python, django_site.write_site(Path(name) / "site"), target)
        made.manage.run("migrate", "shop", "0001", "--verbosity", "0")
        made.manage.run("migrate", "auth", "--verbosity", "0")
        with connect(target) as connection:
            connection.execute(
                "insert into shop_item (name, kind, urgent) select 'item', 'a', false from generate_series(1, 50)"
            )
        yield made


def test_a_project_says_about_itself_what_ours_does(site: Site) -> None:
    known = inspect(site.manage)
    print(site.django, known.django, known.python)
    assert known.django.startswith(site.django.partition("-")[0]) and known.database_error is None
    assert known.pending is not None
    assert [one.label for one in known.pending if one.app == "shop"] == ["shop.0002_price", "shop.0003_index"]
    assert "DATABASE_URL" in known.environment
    assert known.user_table == "auth_user" and known.unmade == ()
    assert replacements(site.manage) == {}  # nothing is squashed here


def test_what_it_means_to_do_is_told_with_its_sql(site: Site) -> None:
    intent = read_intent(site.manage)
    assert intent.faults == () and intent.operations is not None
    sql = {one.label: one for one in intent.sql}
    assert set(sql) == set(intent.pending.labels) and len(intent.pending.digest) == 64
    assert "price" in (sql["shop.0002_price"].forward or "") and "price" in (sql["shop.0002_price"].backward or "")
    assert not sql["shop.0002_price"].forward_error and not sql["shop.0003_index"].forward_error
    for name, words, text in (
        ("0002_price", (), sql["shop.0002_price"].forward),
        ("0002_price", ("--backwards",), sql["shop.0002_price"].backward),
        ("0003_index", (), sql["shop.0003_index"].forward),
    ):
        own = site.manage.run("sqlmigrate", "--no-color", "shop", name, *words).stdout
        assert text is not None and text in own.replace("BEGIN;\n", "").replace("COMMIT;\n", ""), own


def test_a_process_that_waits_answers_and_clears_the_cache(site: Site) -> None:
    standby = Standby(site.manage)
    try:
        assert standby.ready(30)
        assert standby.ask("check", {})["clean"] is False
    finally:
        standby.dismiss()
    standby = Standby(site.manage)
    try:
        assert standby.ready(30)
        cleared = clear_caches(site.manage, [["empty_files"], ["clear_cache"]], standby=standby)
    finally:
        standby.dismiss()
    assert cleared.ran == ("empty_files",) and cleared.unknown == ("clear_cache",) and cleared.ok


def test_its_migrations_are_rehearsed(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = rehearse(planned(site, tmp_path, monkeypatch))
    assert done.verdict == "go", (done.reasons, done.notes)
    assert [run.label for run in done.observed.migrations] == list(done.pending.labels)
    verdicts = {check.name: check.verdict for check in done.checks}
    assert verdicts["health page"] == verdicts["migrate --check"] == "pass" and verdicts["cache"] == "not rehearsed"
    rows = {run.label: run.rows for run in done.observed.migrations}
    # On a busy machine a look may come late, and then rows stand with the migration before.
    assert sum(filter(None, rows.values())) >= 50 and set(rows) == set(done.pending.labels), rows
    # The index is made by SQL that nobody said how to undo: the error is Django's own, of this version.
    assert done.undo is not None and done.undo.verdict == "fails" and "cannot reverse" in (done.undo.error or "")
    assert done.way_back is not None and done.way_back.proven, done.way_back
    assert done.trial is not None and done.trial.verdict == "equal", done.trial


def planned(site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> PlanFile:
    monkeypatch.setenv(PASSWORD_ENV, site.target.password or "")
    made = plan_file(folder, site.target)
    text = made.path.read_text().replace('["python", "manage.py"]', f'["{site.python}", "src/manage.py"]')
    text = text.replace('directory = "."', f'directory = "{site.folder}"')
    text = text.replace("[releases.old]", '[application]\nurl_env = "DATABASE_URL"\n\n[releases.old]')
    made.path.write_text(text.replace('application_roles = ["shop"]', f'application_roles = ["{site.target.user}"]'))
    return load(made.path)
