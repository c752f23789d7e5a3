"""The doctor on a real server, a real site and a real store: all well first, then one fault after the other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ready_shop import NOW, Shop, found
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.launch.doctor import wayback as doctor_wayback
from safepoint.launch.doctor import world as doctor_world
from safepoint.launch.doctor.doctor import examine, failures


def test_a_launch_that_is_ready_has_no_failure_each_warning_its_remedy_and_nothing_shows_a_password(
    ready: Shop, tmp_path: Path
) -> None:
    findings = examine(ready.plan(tmp_path), now=NOW)
    assert failures(findings) == ()
    assert all(one.remedy for one in findings if one.verdict == "warning")
    assert found(findings, "migrations", "2 pending (1 run Python, 1 run SQL)").verdict == "ok"
    assert found(findings, "migrations", "Not atomic: shop.0003_index").verdict == "warning"
    assert found(findings, "cache", "no command clear_cache").verdict == "warning"
    assert found(findings, "release-old", "DATABASE_URL decides which database").verdict == "ok"
    assert found(findings, "login", "tess can log in today").verdict == "ok"
    assert found(findings, "capture", "by decoding the log").verdict == "ok"
    assert found(findings, "stash", "No rollback has put anything away").verdict == "ok"
    checks = {one.check for one in findings}
    wanted = "timetable server pg_dump scratch clock rights roles wal_level slots connections disk disk-server keys"
    assert {*wanted.split(), "unlogged", "large-objects", "prepared", "idle", "hosts", "router", "stores"} <= checks
    assert not (tmp_path / "backups").exists() or list((tmp_path / "backups").iterdir()) == []
    text = json.dumps([one.as_json() for one in findings])
    assert "for tests" not in text and str(ready.target.password) not in text and "secret" not in text


def test_a_router_without_a_command_that_splits_or_tells_is_said_with_what_to_write(
    ready: Shop, tmp_path: Path
) -> None:
    without = ready.plan(tmp_path)
    told = found(tuple(doctor_world.router(without, NOW)), "router", "There is no canary")
    assert told.verdict == "warning" and "router.split" in str(told.remedy) and "{percent}" in str(told.remedy)
    blind = ready.plan(tmp_path, lambda text: re.sub(r"state = \[.*\]", 'split = ["true"]', text))
    told = found(tuple(doctor_world.router(blind, NOW)), "router", "Nothing tells whether the router splits")
    assert told.verdict == "warning" and "router.state" in str(told.remedy)
    both = ready.plan(tmp_path, lambda text: text.replace("state = [", 'split = ["true"]\nstate = ['))
    assert [one.verdict for one in doctor_world.router(both, NOW) if one.check == "router"] == ["ok", "ok"]


def test_faults_outside_the_database_are_told_together(
    ready: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOP_TEST_PASSWORD")
    (tmp_path / "backups").write_text("a file where the store should be")

    def edit(text: str) -> str:
        text = text.replace('url_env = "DATABASE_URL"', 'url_env = "OTHER_URL"')
        text = text.replace('manage = ["', 'manage = ["/nowhere', 1).replace('start = ["sh"', 'start = ["no-such"', 1)
        return text.replace("europe", "Europe").replace('state = ["echo"', 'state = ["false"')

    findings = examine(ready.plan(tmp_path, edit), now=NOW)
    assert found(findings, "release-old", "no-such, which is not on host here").verdict == "failure"
    assert found(findings, "release-old", "could not be started").verdict == "failure"
    assert found(findings, "release-new", "OTHER_URL does not change the database").verdict == "failure"
    assert found(findings, "router", "The router's command failed").verdict == "failure"
    assert found(findings, "login", "SHOP_TEST_PASSWORD is not set").verdict == "failure"
    assert any(one.check == "stores" and one.verdict == "failure" for one in findings)
    assert all(one.remedy for one in findings if one.verdict != "ok")


def test_a_health_page_that_redirects_is_a_failure_for_the_launch_waits_for_200(ready: Shop, tmp_path: Path) -> None:
    def edit(text: str) -> str:
        return text.replace('health = "/health/"', 'health = "/items/new/"', 1)

    told = found(doctor_world.router(ready.plan(tmp_path, edit), NOW), "upstream", "answers 302")
    assert told.verdict == "failure" and "releases.old.health" in str(told.remedy)
    well = tuple(doctor_world.router(ready.plan(tmp_path), NOW))
    assert [one.verdict for one in well if one.check == "upstream"] == ["ok"]


def test_a_database_that_does_not_answer_is_a_failure_and_the_other_checks_go_on(ready: Shop, tmp_path: Path) -> None:
    findings = examine(ready.plan(tmp_path, port=1), now=NOW)
    assert found(findings, "database", "Cannot connect").verdict == "failure"
    assert found(findings, "stores", "takes, gives back and deletes").verdict == "ok"


def test_the_command_ends_with_code_3_where_something_would_stop_the_launch(ready: Shop, tmp_path: Path) -> None:
    path = tmp_path / "launch.toml"
    path.write_text(ready.text())
    good = CliRunner().invoke(app, ["doctor", "--plan", str(path), "--json"])
    assert good.exit_code == 0, good.output
    assert json.loads(good.output)["counts"]["failure"] == 0
    path.write_text(ready.text(role="nobody_of_this_name"))
    bad = CliRunner().invoke(app, ["doctor", "--plan", str(path)])
    assert bad.exit_code == 3
    assert "FAILURE" in bad.output and "→ Correct database.application_roles." in bad.output


def test_names_for_the_way_back_that_are_no_table_are_told_with_what_they_may_have_meant(
    ready: Shop, tmp_path: Path
) -> None:
    def told(words: str) -> list[tuple[str, str]]:
        plan = ready.plan(tmp_path, lambda text: text + words)
        return [(one.verdict, one.message) for one in doctor_wayback.wayback_names(plan, NOW)]

    ((verdict, said),) = told('[wayback.tables.shop_itme.columns]\nname = "name"\n')
    assert verdict == "failure" and "wayback.tables.shop_itme: there is no such table; is it shop_item?" in said
    ((verdict, said),) = told('[wayback.tables.shop_item.columns]\nnaem = "name"\n')
    assert verdict == "failure" and "public.shop_item has no column naem; is it name?" in said
    ((verdict, said),) = told('[wayback.affected]\nshop_itme = "1"\n')
    assert verdict == "warning" and "wayback.affected.shop_itme: there is no such table here; is it shop_item?" in said
    right = '[wayback.tables.shop_item.columns]\nname = "name"\n[wayback.affected]\n"public.shop_item" = "1"\n'
    assert [verdict for verdict, _ in told(right)] == ["ok"] == [verdict for verdict, _ in told("")]
