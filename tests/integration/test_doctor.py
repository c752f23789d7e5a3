"""The doctor on a real server, a real site and a real store: all well first, then one fault after the other."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django_site import manage_of, running, site_database, write_site
from pooler import pooler
from postgres_servers import drop_database
from psycopg import sql
from typer.testing import CliRunner

from safepoint.cli import app
from safepoint.config import PlanFile, TwinServer
from safepoint.config.load import parse
from safepoint.launch import doctor_database, doctor_releases, doctor_wayback, doctor_world
from safepoint.launch.disk_room import room
from safepoint.launch.doctor import Finding, examine, failures, guarded
from safepoint.launch.error_logs import database_log
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

NOW = datetime(2026, 2, 20, 12, 0, tzinfo=UTC)

PLAN = """
[launch]
application = "shop"
date = 2026-03-01
timezone = "Europe/Berlin"
[database]
name = "{name}"
host = "127.0.0.1"
port = {port}
user = "{user}"
password_env = "SHOP_DB_PASSWORD"
application_roles = ["{role}"]
[application]
url_env = "DATABASE_URL"
error_log = "{folder}/src/error.log"
[releases.old]
version = "1"
directory = "{folder}"
manage = ["{python}", "src/manage.py"]
env = {{ SHOP = "old" }}
start = ["sh", "-c", "true"]
stop = ["sh", "-c", "true"]
upstream = "{upstream}"
health = "/health/"
[releases.new]
version = "2"
directory = "{folder}"
manage = ["{python}", "src/manage.py"]
start = ["sh", "-c", "true"]
stop = ["sh", "-c", "true"]
upstream = "127.0.0.1:1"
health = "/health/"
[router]
kind = "command"
url = "http://{upstream}"
close = ["false"]
open_old = ["false"]
open_new = ["false"]
state = ["echo", "open", "{upstream}"]
[[stores]]
name = "local"
url = "file:backups"
[snapshot]
jobs = 2
[checkpoints.login]
username = "tess"
password_env = "SHOP_TEST_PASSWORD"
form_path = "/items/new/"
browser = "http"
"""


@dataclass(frozen=True)
class Shop:
    """A running site with its database, and plan files for it."""

    folder: Path
    target: Target
    role: str
    upstream: str

    def text(self, **changes: object) -> str:
        import sys

        values = {
            "name": self.target.dbname,
            "port": self.target.port,
            "user": self.target.user,
            "role": self.role,
            "folder": self.folder,
            "python": sys.executable,
            "upstream": self.upstream,
        }
        return PLAN.format(**{**values, **changes})

    def plan(self, path: Path, edit: Callable[[str], str] = str, **changes: object) -> PlanFile:
        return parse(edit(self.text(**changes)), path / "launch.toml")


@pytest.fixture(scope="module")
def shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The site at release 1, as an ordinary role, with two migrations pending."""
    folder = write_site(tmp_path_factory.mktemp("shop"))
    (folder / "src/error.log").touch()
    role = f"shop_{time.monotonic_ns()}"
    with site_database(server) as target, connect(target) as admin:
        words = {"role": sql.Identifier(role), "name": sql.Identifier(target.dbname)}
        admin.execute(sql.SQL("create role {role} login password 'for tests'").format(**words))
        try:
            admin.execute(sql.SQL("alter database {name} owner to {role}").format(**words))
            login = target.login(role, "for tests")
            for app_name in ("auth", "sessions"):
                manage_of(folder, login).run("migrate", app_name, "-v", "0")
            manage_of(folder, login).run("migrate", "shop", "0001", "-v", "0")
            code = "from django.contrib.auth.models import User; User.objects.create_user('tess', password='secret')"
            manage_of(folder, login).run("shell", "-c", code)
            with running(folder, login) as address:
                yield Shop(folder, target, role, address.removeprefix("http://"))
        finally:
            admin.execute(sql.SQL("alter database {name} owner to current_user").format(**words))
            admin.execute(sql.SQL("drop owned by {role} cascade; drop role {role}").format(**words))


@pytest.fixture(autouse=True)
def environment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DB_PASSWORD", shop.target.password or "")
    monkeypatch.setenv("SHOP_TEST_PASSWORD", "secret")
    monkeypatch.setenv("DATABASE_URL", shop.target.login(shop.role, "for tests").url())


def found(findings: tuple[Finding, ...] | Iterator[Finding], check: str, words: str) -> Finding:
    """The finding of a check whose message or remedy has these words."""
    known = list(findings)
    for one in known:
        if one.check == check and words in f"{one.message} {one.remedy}":
            return one
    raise AssertionError(f"no finding {check!r} with {words!r} in {known}")


def doctor_launch(plan: PlanFile) -> tuple[Finding, ...]:
    return guarded("database", lambda: doctor_database.database(plan, NOW))


def database(plan: PlanFile) -> Iterator[Finding]:
    return iter(tuple(doctor_database.database(plan, NOW)))


def test_a_launch_that_is_ready_has_no_failure_each_warning_its_remedy_and_nothing_shows_a_password(
    shop: Shop, tmp_path: Path
) -> None:
    findings = examine(shop.plan(tmp_path), now=NOW)
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
    assert "for tests" not in text and str(shop.target.password) not in text and "secret" not in text


def test_a_router_without_a_command_that_splits_or_tells_is_said_with_what_to_write(shop: Shop, tmp_path: Path) -> None:
    without = shop.plan(tmp_path)
    told = found(tuple(doctor_world.router(without, NOW)), "router", "There is no canary")
    assert told.verdict == "warning" and "router.split" in str(told.remedy) and "{percent}" in str(told.remedy)
    blind = shop.plan(tmp_path, lambda text: re.sub(r"state = \[.*\]", 'split = ["true"]', text))
    told = found(tuple(doctor_world.router(blind, NOW)), "router", "Nothing tells whether the router splits")
    assert told.verdict == "warning" and "router.state" in str(told.remedy)
    both = shop.plan(tmp_path, lambda text: text.replace("state = [", 'split = ["true"]\nstate = ['))
    assert [one.verdict for one in doctor_world.router(both, NOW) if one.check == "router"] == ["ok", "ok"]


def test_what_the_way_back_treats_specially_is_named(shop: Shop, tmp_path: Path) -> None:
    with connect(shop.target) as connection:
        connection.execute("create table keyless (a int); create unlogged table quick (a int primary key)")
        connection.execute("create publication everything for all tables")
        row = connection.execute("select lo_create(0)").fetchone()
        try:
            findings = tuple(database(shop.plan(tmp_path)))
        finally:
            connection.execute("drop table keyless, quick; drop publication everything")
            connection.execute("select lo_unlink(%s)", row)
    assert "public.keyless" in found(findings, "keys", "").message
    assert "public.quick" in found(findings, "unlogged", "").message
    assert "1 large objects" in found(findings, "large-objects", "").message
    assert "The publication everything" in found(findings, "replication", "FOR TABLES IN SCHEMA").message


def test_what_an_earlier_rollback_left_is_nothing_to_mend(
    shop: Shop, tmp_path: Path, new_database: Callable[[Server], Target], server: Server
) -> None:
    kept = new_database(server).dbname
    with connect(shop.target) as connection:
        connection.execute(f"alter database {kept} owner to {shop.role}".encode())
        other = found(tuple(database(shop.plan(tmp_path))), "roles", f"also works in {kept}")
        connection.execute(f"comment on database {kept} is 'kept by Safepoint for launch shop-1: migrated'".encode())
        connection.execute(
            "create schema safepoint_stash_shop; create table safepoint_stash_shop.stash (relation text)"
        )
        connection.execute("comment on schema safepoint_stash_shop is 'made by Safepoint for launch shop-1: stash'")
        try:
            findings = tuple(database(shop.plan(tmp_path)))
        finally:
            connection.execute("drop schema safepoint_stash_shop cascade")
    assert other.verdict == "warning" and not any("also works in" in one.message for one in findings)
    assert found(findings, "keys", "").verdict == "ok"


def test_a_schema_that_is_named_like_ours_and_is_not_is_a_failure(shop: Shop, tmp_path: Path) -> None:
    with connect(shop.target) as connection:
        connection.execute("create schema safepoint_sales; create schema safepoint_kept; create schema safepoints")
        connection.execute("comment on schema safepoint_kept is 'made by Safepoint for launch shop-1: stash'")
        try:
            findings = tuple(database(shop.plan(tmp_path)))
        finally:
            connection.execute("drop schema safepoint_sales; drop schema safepoint_kept; drop schema safepoints")
    told = found(findings, "schemas", "safepoint_sales")
    assert told.verdict == "failure" and "safepoint_kept" not in told.message and "safepoints" not in told.message


def test_an_encoding_that_holds_any_bytes_is_a_warning(shop: Shop, tmp_path: Path) -> None:
    bytewise = shop.target.on(f"{shop.target.dbname}_bytes")
    with connect(shop.target) as connection:
        made_as = "template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'"
        connection.execute(sql.SQL(f"create database {bytewise.dbname} {made_as}"))
    try:
        findings = tuple(database(shop.plan(tmp_path, name=bytewise.dbname)))
    finally:
        drop_database(bytewise)
    told = found(findings, "encoding", "text that is not UTF-8 cannot be captured")
    assert told.verdict == "warning" and told.remedy


def test_prepared_and_idle_transactions_are_seen_with_the_words_that_end_them(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_database, "_IDLE_SECONDS", 0.0)
    with connect(shop.target) as connection, connect(shop.target, autocommit=False) as idle:
        idle.execute("select 1")
        connection.execute("begin; create table half (a int); prepare transaction 'forgotten'")
        try:
            findings = tuple(database(shop.plan(tmp_path)))
        finally:
            connection.execute("rollback prepared 'forgotten'")
        session = found(findings, "idle", f"Session {idle.info.backend_pid}")
        idle.rollback()
    prepared = found(findings, "prepared", "forgotten")
    assert prepared.verdict == "failure" and prepared.remedy and "ROLLBACK PREPARED 'forgotten'" in prepared.remedy
    assert session.verdict == "warning" and session.remedy and "pg_terminate_backend" in session.remedy


def test_a_login_without_rights_is_told_each_missing_one(shop: Shop, tmp_path: Path) -> None:
    name = f"poor_{time.monotonic_ns()}"
    with connect(shop.target) as admin:
        admin.execute(sql.SQL("create role {} login password 'x'").format(sql.Identifier(name)))
        try:
            login = shop.target.login(name, "x")
            plan = shop.plan(tmp_path, user=name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SHOP_DB_PASSWORD", str(login.password))
                findings = tuple(database(plan))
        finally:
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
    granted = ("pg_signal_backend", "pg_read_all_stats", "pg_read_all_data", "GRANT its owner")
    for words in ("CREATEDB", "CREATEROLE", *granted):
        assert found(findings, "rights", words).verdict == "failure", words
    assert found(findings, "rights", "REPLICATION").verdict == "warning"
    assert found(findings, "roles", "WITH ADMIN OPTION").verdict == "failure"


def test_what_the_capture_will_not_see_is_told_before_the_launch(shop: Shop, tmp_path: Path) -> None:
    name = f"guest_{time.monotonic_ns()}"
    with connect(shop.target) as admin:
        admin.execute(sql.SQL("create role {} login replication password 'x'").format(sql.Identifier(name)))
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SHOP_DB_PASSWORD", "x")
                findings = tuple(database(shop.plan(tmp_path, user=name)))
        finally:
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
    told = found(findings, "capture", "the conductor's role does not own it")
    assert told.verdict == "warning" and "public.shop_item" in told.message
    assert found(findings, "capture", "made after the launch").verdict == "warning"
    assert [one.verdict for one in database(shop.plan(tmp_path)) if one.check == "capture"] == ["ok"]


def test_roles_that_are_not_there_or_not_named_are_failures(shop: Shop, tmp_path: Path) -> None:
    plan = shop.plan(tmp_path, role="nobody_of_this_name")
    assert found(database(plan), "roles", "no role nobody_of_this_name").verdict == "failure"
    old = tuple(doctor_releases.old_release(plan, NOW))
    assert found(old, "release-old", f"logs in as {shop.role}").verdict == "failure"


def test_a_superuser_as_the_applications_role_is_a_warning(shop: Shop, tmp_path: Path) -> None:
    findings = tuple(database(shop.plan(tmp_path, role=shop.target.user)))
    assert found(findings, "roles", "is a superuser").verdict == "warning"
    assert found(findings, "rights", "application's role too").verdict == "warning"


def test_another_database_behind_the_same_settings_is_seen(
    shop: Shop, tmp_path: Path, new_database: Callable[[Server], Target], server: Server
) -> None:
    plan = shop.plan(tmp_path, name=new_database(server).dbname)
    old = tuple(doctor_releases.old_release(plan, NOW))
    assert found(old, "release-old", "connected to another database").verdict == "failure"


def test_a_variable_that_only_the_start_command_has_is_a_failure_for_the_launch_asks_manage_py_too(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    old = tuple(doctor_releases.old_release(shop.plan(tmp_path), NOW))
    told = found(old, "release-old", "works only where DATABASE_URL leads to its database")
    assert told.verdict == "failure" and "KeyError" in told.message and "releases.old.env" in str(told.remedy)
    assert found(old, "release-old", "Django").verdict == "ok"  # the other checks go on


def test_a_secret_of_safepoints_own_that_a_release_would_be_started_with_is_a_warning_with_what_withholds_it(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_KEY", "of the store")
    more = '[[stores]]\nname = "away"\nurl = "s3://b/x"\noptions = { client_kwargs = { secret_env = "STORE_KEY" } }\n'
    told = found(
        tuple(doctor_releases.old_release(shop.plan(tmp_path, lambda text: text + more), NOW)), "release-old", "-u"
    )
    assert told.verdict == "warning"
    assert "env -u SHOP_DB_PASSWORD -u SHOP_TEST_PASSWORD -u STORE_KEY ..." in str(told.remedy)
    withheld = '["env", "-u", "STORE_KEY", "-u", "SHOP_DB_PASSWORD", "-u", "SHOP_TEST_PASSWORD", "sh", "-c", "true"]'
    plan = shop.plan(
        tmp_path, lambda text: (text + more).replace('start = ["sh", "-c", "true"]', f"start = {withheld}")
    )
    assert not [
        one for one in doctor_releases.old_release(plan, NOW) if "which its settings do not read" in one.message
    ]


def test_a_connection_pooler_in_the_place_of_the_server_is_a_failure_that_says_what_to_name(
    shop: Shop, tmp_path: Path
) -> None:
    with pooler(shop.target) as pooled:
        refused = found(
            doctor_launch(shop.plan(tmp_path, port=pooled.port)), "database", "unsupported startup parameter"
        )
        assert refused.verdict == "failure" and "PgBouncer" in str(refused.remedy)
    with pooler(shop.target, ignores=True) as pooled:
        told = found(database(shop.plan(tmp_path, port=pooled.port)), "server", "a connection pooler")
        assert told.verdict == "failure" and f"port = {shop.target.port}" in str(told.remedy)
    assert found(database(shop.plan(tmp_path)), "server", "PostgreSQL").verdict == "ok"


@pytest.mark.parametrize("ignores", [True, False])
def test_a_pooler_that_keeps_the_migrations_settings_from_the_server_is_seen_before_the_window(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignores: bool
) -> None:
    def by_its_own_address(text: str) -> str:
        return text.replace('url_env = "DATABASE_URL"', "")

    (well,) = [
        one
        for one in doctor_releases.new_release(shop.plan(tmp_path, by_its_own_address), NOW)
        if "session" in one.message
    ]
    assert well.verdict == "ok"
    with pooler(shop.target, ignores=ignores) as pooled:
        monkeypatch.setenv("DATABASE_URL", pooled.login(shop.role, "for tests").url())
        told = found(
            doctor_releases.new_release(shop.plan(tmp_path, by_its_own_address), NOW), "release-new", "session"
        )
        assert told.verdict == "failure" and "application.url_env" in str(told.remedy)
        # Led by that variable, manage.py goes to the server itself.
        assert not [one for one in doctor_releases.new_release(shop.plan(tmp_path), NOW) if one.verdict == "failure"]


def test_options_that_only_the_applications_own_address_carries_are_a_failure(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shop.folder, tmp_path / "site")
    settings = tmp_path / "site/src/shop/settings.py"
    more = "\nif url.query:\n    DATABASES['default']['OPTIONS'] = {'options': unquote(url.query.partition('=')[2])}\n"
    settings.write_text(settings.read_text() + more)
    plan = shop.plan(tmp_path, folder=tmp_path / "site")
    assert not [one for one in doctor_releases.new_release(plan, NOW) if one.verdict == "failure"]
    login = shop.target.login(shop.role, "for tests")
    monkeypatch.setenv("DATABASE_URL", f"{login.url()}?options=-c%20search_path%3Dshop,public")
    told = found(doctor_releases.new_release(plan, NOW), "release-new", "search_path=shop,public")
    assert told.verdict == "failure" and f"ALTER ROLE {shop.role} IN DATABASE" in str(told.remedy)


def test_a_log_that_the_new_release_does_not_write_to_is_a_warning(shop: Shop, tmp_path: Path) -> None:
    def other(text: str) -> str:
        return text.replace("/src/error.log", "/src/of-the-old-release.log")

    told = found(doctor_releases.new_release(shop.plan(tmp_path, other), NOW), "error-log", "would not be seen")
    assert told.verdict == "warning" and f"{shop.folder}/src/error.log" in told.message
    assert not [one for one in doctor_releases.new_release(shop.plan(tmp_path), NOW) if one.check == "error-log"]


def test_the_servers_own_log_is_looked_for_where_the_plan_names_it(shop: Shop, tmp_path: Path, server: Server) -> None:
    def told(path: Path | str) -> list[tuple[str, str]]:
        plan = shop.plan(tmp_path, lambda text: text.replace("[database]", f'[database]\nerror_log = "{path}"'))
        return [(one.verdict, one.check) for one in database_log(plan, NOW)]

    assert told(server.log) == [("ok", "database-log")]
    assert told("/nowhere/postgresql.log") == [("failure", "database-log")]
    (unset,) = database_log(shop.plan(tmp_path), NOW)
    assert unset.verdict == "warning" and "database.error_log" in unset.message


def test_faults_outside_the_database_are_told_together(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOP_TEST_PASSWORD")
    (tmp_path / "backups").write_text("a file where the store should be")

    def edit(text: str) -> str:
        text = text.replace('url_env = "DATABASE_URL"', 'url_env = "OTHER_URL"')
        text = text.replace('manage = ["', 'manage = ["/nowhere', 1).replace('start = ["sh"', 'start = ["no-such"', 1)
        return text.replace("europe", "Europe").replace('state = ["echo"', 'state = ["false"')

    findings = examine(shop.plan(tmp_path, edit), now=NOW)
    assert found(findings, "release-old", "no-such, which is not on host here").verdict == "failure"
    assert found(findings, "release-old", "could not be started").verdict == "failure"
    assert found(findings, "release-new", "OTHER_URL does not change the database").verdict == "failure"
    assert found(findings, "router", "The router's command failed").verdict == "failure"
    assert found(findings, "login", "SHOP_TEST_PASSWORD is not set").verdict == "failure"
    assert any(one.check == "stores" and one.verdict == "failure" for one in findings)
    assert all(one.remedy for one in findings if one.verdict != "ok")


def test_a_health_page_that_redirects_is_a_failure_for_the_launch_waits_for_200(shop: Shop, tmp_path: Path) -> None:
    def edit(text: str) -> str:
        return text.replace('health = "/health/"', 'health = "/items/new/"', 1)

    told = found(doctor_world.router(shop.plan(tmp_path, edit), NOW), "upstream", "answers 302")
    assert told.verdict == "failure" and "releases.old.health" in str(told.remedy)
    well = tuple(doctor_world.router(shop.plan(tmp_path), NOW))
    assert [one.verdict for one in well if one.check == "upstream"] == ["ok"]


def test_a_database_that_does_not_answer_is_a_failure_and_the_other_checks_go_on(shop: Shop, tmp_path: Path) -> None:
    findings = examine(shop.plan(tmp_path, port=1), now=NOW)
    assert found(findings, "database", "Cannot connect").verdict == "failure"
    assert found(findings, "stores", "takes, gives back and deletes").verdict == "ok"


def test_no_room_for_a_copy_is_no_failure_where_the_twin_is_to_stand_on_another_server(
    shop: Shop, tmp_path: Path
) -> None:
    plan = shop.plan(tmp_path)
    with connect(shop.target) as connection:
        facts = replace(survey(connection), database_bytes=10**15)
    assert found(room(plan, facts), "disk-server", "are needed for the copy").verdict == "failure"
    there = TwinServer(host="far", user="postgres")
    far = plan.model_copy(update={"wayback": plan.wayback.model_copy(update={"server": there})})
    told = found(room(far, facts), "disk-server", "after all")
    assert told.verdict == "warning" and told.remedy


def test_a_pg_dump_older_than_the_server_is_a_failure(shop: Shop, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.4'\n")
    (tools / "pg_dump").chmod(0o755)

    def edit(text: str) -> str:
        text = text.replace("[application]", f'tools_host = "there"\ntools = "{tools}"\n[application]')
        return text + '\n[hosts.there]\nkind = "here"\n'

    dump = found(database(shop.plan(tmp_path, edit)), "pg_dump", "older than the server")
    assert dump.verdict == "failure" and dump.remedy and "PostgreSQL 17" in dump.remedy


def test_the_command_ends_with_code_3_where_something_would_stop_the_launch(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "launch.toml"
    path.write_text(shop.text())
    good = CliRunner().invoke(app, ["doctor", "--plan", str(path), "--json"])
    assert good.exit_code == 0, good.output
    assert json.loads(good.output)["counts"]["failure"] == 0
    path.write_text(shop.text(role="nobody_of_this_name"))
    bad = CliRunner().invoke(app, ["doctor", "--plan", str(path)])
    assert bad.exit_code == 3
    assert "FAILURE" in bad.output and "→ Correct database.application_roles." in bad.output


def test_names_for_the_way_back_that_are_no_table_are_told_with_what_they_may_have_meant(
    shop: Shop, tmp_path: Path
) -> None:
    def told(words: str) -> list[tuple[str, str]]:
        plan = shop.plan(tmp_path, lambda text: text + words)
        return [(one.verdict, one.message) for one in doctor_wayback.wayback_names(plan, NOW)]

    ((verdict, said),) = told('[wayback.tables.shop_itme.columns]\nname = "name"\n')
    assert verdict == "failure" and "wayback.tables.shop_itme: there is no such table; is it shop_item?" in said
    ((verdict, said),) = told('[wayback.tables.shop_item.columns]\nnaem = "name"\n')
    assert verdict == "failure" and "public.shop_item has no column naem; is it name?" in said
    ((verdict, said),) = told('[wayback.affected]\nshop_itme = "1"\n')
    assert verdict == "warning" and "wayback.affected.shop_itme: there is no such table here; is it shop_item?" in said
    right = '[wayback.tables.shop_item.columns]\nname = "name"\n[wayback.affected]\n"public.shop_item" = "1"\n'
    assert [verdict for verdict, _ in told(right)] == ["ok"] == [verdict for verdict, _ in told("")]
