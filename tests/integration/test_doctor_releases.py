"""The doctor on the two releases: what their settings, start commands and addresses are told by."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pooler import pooler
from ready_shop import NOW, Shop, at_database, found

from safepoint.launch.doctor import releases as doctor_releases
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


def test_roles_that_are_not_there_or_not_named_are_failures(ready: Shop, tmp_path: Path) -> None:
    plan = ready.plan(tmp_path, role="nobody_of_this_name")
    assert found(at_database(plan), "roles", "no role nobody_of_this_name").verdict == "failure"
    old = tuple(doctor_releases.old_release(plan, NOW))
    assert found(old, "release-old", f"logs in as {ready.role}").verdict == "failure"


def test_another_database_behind_the_same_settings_is_seen(
    ready: Shop, tmp_path: Path, new_database: Callable[[Server], Target], server: Server
) -> None:
    plan = ready.plan(tmp_path, name=new_database(server).dbname)
    old = tuple(doctor_releases.old_release(plan, NOW))
    assert found(old, "release-old", "connected to another database").verdict == "failure"


def test_a_variable_that_only_the_start_command_has_is_a_failure_for_the_launch_asks_manage_py_too(
    ready: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    old = tuple(doctor_releases.old_release(ready.plan(tmp_path), NOW))
    told = found(old, "release-old", "works only where DATABASE_URL leads to its database")
    assert told.verdict == "failure" and "KeyError" in told.message and "releases.old.env" in str(told.remedy)
    assert found(old, "release-old", "Django").verdict == "ok"  # the other checks go on


def test_a_secret_of_safepoints_own_that_a_release_would_be_started_with_is_a_warning_with_what_withholds_it(
    ready: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_KEY", "of the store")
    more = '[[stores]]\nname = "away"\nurl = "s3://b/x"\noptions = { client_kwargs = { secret_env = "STORE_KEY" } }\n'
    told = found(
        tuple(doctor_releases.old_release(ready.plan(tmp_path, lambda text: text + more), NOW)), "release-old", "-u"
    )
    assert told.verdict == "warning"
    assert "env -u SHOP_DB_PASSWORD -u SHOP_TEST_PASSWORD -u STORE_KEY ..." in str(told.remedy)
    withheld = '["env", "-u", "STORE_KEY", "-u", "SHOP_DB_PASSWORD", "-u", "SHOP_TEST_PASSWORD", "sh", "-c", "true"]'
    plan = ready.plan(
        tmp_path, lambda text: (text + more).replace('start = ["sh", "-c", "true"]', f"start = {withheld}")
    )
    assert not [
        one for one in doctor_releases.old_release(plan, NOW) if "which its settings do not read" in one.message
    ]


@pytest.mark.parametrize("ignores", [True, False])
def test_a_pooler_that_keeps_the_migrations_settings_from_the_server_is_seen_before_the_window(
    ready: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignores: bool
) -> None:
    def by_its_own_address(text: str) -> str:
        return text.replace('url_env = "DATABASE_URL"', "")

    (well,) = [
        one
        for one in doctor_releases.new_release(ready.plan(tmp_path, by_its_own_address), NOW)
        if "session" in one.message
    ]
    assert well.verdict == "ok"
    with pooler(ready.target, ignores=ignores) as pooled:
        monkeypatch.setenv("DATABASE_URL", pooled.login(ready.role, "for tests").url())
        told = found(
            doctor_releases.new_release(ready.plan(tmp_path, by_its_own_address), NOW), "release-new", "session"
        )
        assert told.verdict == "failure" and "application.url_env" in str(told.remedy)
        # Led by that variable, manage.py goes to the server itself.
        assert not [one for one in doctor_releases.new_release(ready.plan(tmp_path), NOW) if one.verdict == "failure"]


def test_options_that_only_the_applications_own_address_carries_are_a_failure(
    ready: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ready.folder, tmp_path / "site")
    settings = tmp_path / "site/src/shop/settings.py"
    more = "\nif url.query:\n    DATABASES['default']['OPTIONS'] = {'options': unquote(url.query.partition('=')[2])}\n"
    settings.write_text(settings.read_text() + more)
    plan = ready.plan(tmp_path, folder=tmp_path / "site")
    assert not [one for one in doctor_releases.new_release(plan, NOW) if one.verdict == "failure"]
    login = ready.target.login(ready.role, "for tests")
    monkeypatch.setenv("DATABASE_URL", f"{login.url()}?options=-c%20search_path%3Dshop,public")
    told = found(doctor_releases.new_release(plan, NOW), "release-new", "search_path=shop,public")
    assert told.verdict == "failure" and f"ALTER ROLE {ready.role} IN DATABASE" in str(told.remedy)


def test_a_log_that_the_new_release_does_not_write_to_is_a_warning(ready: Shop, tmp_path: Path) -> None:
    def other(text: str) -> str:
        return text.replace("/src/error.log", "/src/of-the-old-release.log")

    told = found(doctor_releases.new_release(ready.plan(tmp_path, other), NOW), "error-log", "would not be seen")
    assert told.verdict == "warning" and f"{ready.folder}/src/error.log" in told.message
    assert not [one for one in doctor_releases.new_release(ready.plan(tmp_path), NOW) if one.check == "error-log"]


def test_migrations_that_stand_before_applied_ones_are_a_failure_for_migrate_would_refuse(
    ready: Shop, tmp_path: Path
) -> None:
    shutil.copytree(ready.folder, tmp_path / "site")
    migrations = tmp_path / "site/src/shop/migrations"
    first = migrations / "0001_initial.py"
    # As of a release that is too new for what runs: it has squashed what was applied, and does not say so any more.
    (migrations / "0001_squashed.py").write_text(first.read_text())
    first.write_text(
        "from django.db import migrations\n\n"
        'class Migration(migrations.Migration):\n    dependencies = [("shop", "0001_squashed")]\n'
    )
    told = found(
        doctor_releases.new_release(ready.plan(tmp_path, folder=tmp_path / "site"), NOW), "migrations", "refuses"
    )
    assert told.verdict == "failure" and "shop.0001_squashed" in told.message and "follows" in str(told.remedy)
