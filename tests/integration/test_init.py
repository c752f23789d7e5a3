"""`safepoint init` on real projects: the file loads, says what it knows, and overwrites nothing."""

from __future__ import annotations

import json
import subprocess
from datetime import date
from pathlib import Path

import pytest
from django_site import write_site
from loaded_django import python
from parted_site import BY_LIBPQ, BY_PREFIX, BY_SERVICE, WITHOUT_PORT, parted_site
from pooler import pooler
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import load
from safepoint.errors import CommandFailed, Refused
from safepoint.launch.draft import draft_plan, write_plan
from safepoint.postgres.target import Target


@pytest.fixture
def site(tmp_path: Path, database: Target, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATABASE_URL", database.url())
    return write_site(tmp_path / "my shop")


def test_the_file_loads_and_holds_what_the_project_says(site: Path, database: Target) -> None:
    path = site / "launch.toml"
    draft = draft_plan(site, path, python=python(), today=date(2026, 2, 1))
    write_plan(draft, path)
    plan = load(path)
    assert plan.launch.application == "my-shop" and plan.launch.date == date(2026, 2, 8)
    assert (plan.database.name, plan.database.host, plan.database.port) == (database.dbname, "127.0.0.1", database.port)
    assert plan.database.application_roles == (database.user,)
    assert plan.application.url_env == "DATABASE_URL"
    assert plan.application.error_log == str(site / "src/error.log")
    assert plan.releases.old.manage == (python(), "src/manage.py")
    assert plan.cache.clear == ()
    assert {
        "launch.date",
        "database.user",
        "application.error_log",
        "releases.old.start",
        "releases.new.start",
        "router.url",
        "checkpoints.login",
    } <= set(draft.look_at)
    assert str(database.password) not in draft.text


def test_an_installed_product_without_a_manage_py_is_named_by_its_module(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "src/manage.py").rename(site / "src/shop/__main__.py")
    monkeypatch.setenv("PYTHONPATH", str(site / "src"))
    with pytest.raises(Refused) as caught:
        draft_plan(site, site / "launch.toml", python=python())
    assert caught.value.remedy is not None and "--module" in caught.value.remedy
    words = ["init", str(site), "--python", python(), "--module", "shop", "--file", str(site / "launch.toml")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    plan = load(site / "launch.toml")
    assert plan.releases.old.manage == plan.releases.new.manage == (python(), "-m", "shop")
    assert plan.application.url_env == "DATABASE_URL"


def test_behind_a_connection_pooler_the_server_itself_is_named_and_to_be_looked_at(
    site: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "database.port" not in draft_plan(site, site / "launch.toml", python=python()).look_at
    with pooler(database) as pooled:
        monkeypatch.setenv("DATABASE_URL", pooled.url())
        draft = draft_plan(site, site / "launch.toml", python=python())
    assert f"port = {database.port} " in draft.text and "database.port" in draft.look_at
    assert f"127.0.0.1:{pooled.port}" in draft.known["connection pooler"]


@pytest.mark.parametrize("folder", ["release-1.0", "old"])
def test_a_release_folder_gives_no_name_to_the_application(site: Path, folder: str) -> None:
    release = site.rename(site.parent / folder)
    draft = draft_plan(release, release / "launch.toml", python=python())
    assert 'application = "shop"' in draft.text and "" not in draft.look_at


def test_the_release_is_named_by_the_newest_tag(site: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"], ["tag", "v1.4.2"]):
        subprocess.run([*git, *words], cwd=site, check=True)
    draft = draft_plan(site, site / "launch.toml", python=python())
    assert 'version = "1.4.2"' in draft.text
    assert ".safepoint and backups" in draft.known["not for git"]


def test_the_command_writes_once_and_refuses_the_second_time(site: Path) -> None:
    words = ["init", str(site), "--python", python(), "--json"]
    first = CliRunner().invoke(app, words)
    assert first.exit_code == 0, first.output
    assert json.loads(first.output)["file"] == str(site / "launch.toml")
    (site / "launch.toml").write_text("mine")
    second = CliRunner().invoke(app, words)
    assert isinstance(second.exception, Refused) and "not overwritten" in second.exception.message
    assert (site / "launch.toml").read_text() == "mine"


def test_a_database_that_is_away_does_not_keep_the_file_from_being_written(
    site: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.on("nowhere").url())
    draft = draft_plan(site, site / "launch.toml", python=python())
    assert "nowhere" in draft.known["database said"]
    assert draft.known["database address"] == "DATABASE_URL (tried)"


def test_a_folder_without_manage_py_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no manage\.py"):
        draft_plan(tmp_path, tmp_path / "launch.toml")
    assert list(tmp_path.iterdir()) == []


def test_settings_that_cannot_be_read_say_what_they_miss(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    with pytest.raises(CommandFailed) as caught:
        draft_plan(site, site / "launch.toml", python=python())
    assert "DATABASE_URL" in caught.value.message and "--python" in str(caught.value.remedy)
    assert not (site / "launch.toml").exists()


def test_a_project_that_reads_its_address_in_parts_is_led_by_them(
    tmp_path: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = parted_site(tmp_path / "shop", database, monkeypatch)
    monkeypatch.setenv("REPORTS_DB_HOST", "reports.internal")  # has the likely name, and not its address
    draft = draft_plan(site, site / "launch.toml", python=python())
    write_plan(draft, site / "launch.toml")
    led = load(site / "launch.toml").application
    assert led.parts == {part: f"DB_{part.upper()}" for part in ("host", "port", "name", "user", "password")}
    assert "[application.variables]  # tried" in draft.text and str(database.password) not in draft.text
    assert draft.known["database address"] == "DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD (tried)"


def test_what_the_settings_leave_out_libpq_s_own_variables_have(
    tmp_path: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = parted_site(tmp_path / "shop", database, monkeypatch, BY_LIBPQ)
    draft = draft_plan(site, site / "launch.toml", python=python())
    write_plan(draft, site / "launch.toml")
    led = load(site / "launch.toml").application
    assert led.led_by == ("PGHOST", "PGPORT", "POSTGRES_DB", "PGUSER", "PGPASSWORD")


def test_a_part_that_stands_in_the_settings_is_named_as_what_cannot_be_led(
    tmp_path: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = parted_site(tmp_path / "shop", database, monkeypatch, WITHOUT_PORT)
    draft = draft_plan(site, site / "launch.toml", python=python())
    assert "names none for port" in draft.known["database address"]


def test_variables_whose_names_the_settings_put_together_are_found_where_they_are_usual(
    tmp_path: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = parted_site(tmp_path / "shop", database, monkeypatch, BY_PREFIX)
    draft = draft_plan(site, site / "launch.toml", python=python())
    assert draft.known["database address"] == "DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD (tried)"


def test_a_database_that_a_service_of_libpq_names_is_known_as_the_connection_has_it(
    tmp_path: Path, database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = parted_site(tmp_path / "shop", database, monkeypatch, BY_SERVICE)
    path = site / "launch.toml"
    draft = draft_plan(site, path, python=python())
    write_plan(draft, path)
    plan = load(path)
    assert (plan.database.name, plan.database.host, plan.database.port) == (database.dbname, "127.0.0.1", database.port)
    assert plan.database.application_roles == (database.user,)
    assert plan.application.led_by == ()  # nothing of the environment goes before a service
