"""The application's side on a real Django project: its manage.py, what it says about itself, migrations, caches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from django_site import manage_of, site_database, write_site
from psycopg import sql

from safepoint.config import Application
from safepoint.django.address import url_variables
from safepoint.django.cache import clear_caches
from safepoint.django.inspector import IDENTITY, inspect, pending, redirected
from safepoint.django.managepy import Manage, redirect
from safepoint.django.migrations import is_clean, migrate
from safepoint.django.standby import Standby
from safepoint.django.wellness import Wellness, look_well, places_of
from safepoint.errors import CommandFailed, Interrupted, LockNotAvailable
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def shop(server: Server, site: Path) -> Iterator[Target]:
    """A database at release 1: shop.0001 applied, 0002 and 0003 pending."""
    with site_database(server) as target:
        manage_of(site, target).run("migrate", "shop", "0001", "-v", "0")
        manage_of(site, target).run("migrate", "sessions", "-v", "0")
        manage_of(site, target).run("migrate", "auth", "-v", "0")
        yield target


@pytest.fixture
def copy(shop: Target) -> Iterator[Target]:
    """A copy of it that a test may change."""
    name = f"copy_{time.monotonic_ns()}"
    with connect(shop.on("postgres")) as connection:
        words = {"new": sql.Identifier(name), "old": sql.Identifier(shop.dbname)}
        connection.execute(sql.SQL("create database {new} template {old}").format(**words))
        try:
            yield shop.on(name)
        finally:
            connection.execute(sql.SQL("drop database {new} with (force)").format(**words))


def test_a_project_tells_about_itself_whatever_it_prints(site: Path, shop: Target) -> None:
    project = inspect(manage_of(site, shop))
    assert project.django.startswith("5.2")
    assert project.settings == "shop.settings"
    assert (project.user_model, project.user_table) == ("auth.User", "auth_user")
    assert project.caches["files"].endswith("FileBasedCache")
    assert project.login_url == "/accounts/login/"
    assert "empty_files" in project.commands and "clear_cache" not in project.commands
    assert project.error_logs == (str(site / "src/error.log"),)
    assert "DATABASE_URL" in project.environment
    assert project.routers == () and project.unmade == () and project.without_key == () and project.applied == 16
    default = project.database()
    assert default is not None and default.is_postgresql
    assert (default.name, default.user, default.port) == (shop.dbname, shop.user, str(shop.port))


def test_pending_migrations_are_described_with_what_lies_inside_their_operations(site: Path, shop: Target) -> None:
    price, index = pending(manage_of(site, shop))
    assert (price.label, price.atomic, price.runs_python, price.runs_sql) == ("shop.0002_price", True, True, False)
    assert price.operations == ("AddField", "RunPython") and price.reversible
    assert (index.label, index.atomic, index.runs_python, index.runs_sql) == ("shop.0003_index", False, False, True)
    assert index.operations == ("RunSQL",) and not index.reversible and index.replaces == ()


def test_what_a_project_tells_holds_no_password(site: Path, shop: Target) -> None:
    text = json.dumps(inspect(manage_of(site, shop)).as_json())
    assert shop.password is not None and shop.password not in text


def test_the_same_database_has_the_same_identity_from_both_sides(site: Path, shop: Target) -> None:
    with connect(shop) as connection:
        row = connection.execute(IDENTITY).fetchone()
    assert row is not None and inspect(manage_of(site, shop)).identity == row[0]


def test_a_project_whose_database_is_away_still_tells_the_rest(site: Path, shop: Target) -> None:
    project = inspect(manage_of(site, shop.on("nowhere")))
    assert project.pending is None and project.applied is None
    assert project.database_error is not None and 'database "nowhere" does not exist' in project.database_error
    with pytest.raises(CommandFailed, match="does not answer"):
        pending(manage_of(site, shop.on("nowhere")))


def test_a_change_that_no_migration_makes_is_told_even_where_it_would_need_an_answer(
    shop: Target, tmp_path: Path
) -> None:
    folder = write_site(tmp_path)
    models = folder / "src/shop/models.py"
    text = models.read_text().replace(
        "IntegerField(default=0)", "IntegerField(default=0)\n    size = models.IntegerField()"
    )
    models.write_text(text.replace("max_length=60)", "max_length=60, null=True)"))
    project = inspect(manage_of(folder, shop))
    assert (project.database_error, project.unmade) == (None, ("shop",))
    assert project.pending is not None and len(project.pending) == 2


def test_a_change_that_the_database_does_not_see_is_no_change_that_a_migration_must_make(
    shop: Target, tmp_path: Path
) -> None:
    folder = write_site(tmp_path)
    models = folder / "src/shop/models.py"
    text = models.read_text().replace("max_length=60)", "max_length=60, help_text='so', validators=[str])")
    models.write_text(text + "\n    class Meta:\n        ordering = ['name']\n        verbose_name = 'thing'\n")
    assert inspect(manage_of(folder, shop)).unmade == ()
    models.write_text(text.replace("max_length=60", "max_length=60, db_column='called'"))
    assert inspect(manage_of(folder, shop)).unmade == ("shop",)


def test_a_project_that_ends_the_process_while_it_is_asked_is_an_error_that_says_so(
    shop: Target, tmp_path: Path
) -> None:
    folder = write_site(tmp_path)
    (folder / "src/shop/urls.py").write_text('raise SystemExit("no licence for this machine")\n')
    with pytest.raises(CommandFailed, match="SystemExit: no licence for this machine"):
        inspect(manage_of(folder, shop))


def test_the_script_may_arrive_long_after_the_shell_has_started(site: Path, shop: Target) -> None:
    manage = manage_of(site, shop)
    late = ("sh", "-c", '(sleep 1.5; cat) | "$0" src/manage.py "$@"', sys.executable)
    slow = replace(manage, release=manage.release.model_copy(update={"manage": late}))
    assert inspect(slow).settings == "shop.settings"


def test_which_variable_moves_the_database_is_tried_and_not_guessed(site: Path, shop: Target) -> None:
    manage = manage_of(site, shop)
    assert redirected(manage, "DATABASE_URL") is not None
    assert redirected(manage, "SHOP_URL") is None
    assert url_variables(("CACHE_URL", "PG_DSN", "DATABASE_URL", "SHOP_DB_URL")) == ("DATABASE_URL", "SHOP_DB_URL")


def test_migrate_plans_checks_and_applies(site: Path, copy: Target) -> None:
    manage = manage_of(site, copy)
    assert not is_clean(manage)
    done = migrate(manage)
    assert done.applied == ("shop.0002_price", "shop.0003_index")
    assert is_clean(manage)
    assert migrate(manage).applied == ()


def test_a_migration_that_raises_is_named_with_what_it_raised_and_without_a_traceback(site: Path, copy: Target) -> None:
    with pytest.raises(CommandFailed) as caught:
        migrate(manage_of(site, copy, SHOP_BREAKS="1"))
    error = caught.value
    assert error.subject == "shop.0002_price"
    assert error.message.endswith("ValueError: the price of item 7 is not a number")
    assert "Traceback" not in str(error) and error.remedy is not None
    with connect(copy) as connection:
        columns = connection.execute("select 1 from pg_attribute where attname = 'price' and attnum > 0").fetchall()
    assert columns == []


def test_a_lock_that_is_not_had_in_time_is_its_own_error(site: Path, copy: Target) -> None:
    env, secrets = redirect(Application(url_env="DATABASE_URL"), copy, lock_timeout=0.3)
    manage = replace(manage_of(site, copy), env=env, secrets=secrets)
    with connect(copy, autocommit=False) as holder:
        holder.execute("select count(*) from shop_item")
        with pytest.raises(LockNotAvailable) as caught:
            migrate(manage)
        holder.rollback()
    assert caught.value.subject == "shop.0002_price"
    assert migrate(manage).applied == ("shop.0002_price", "shop.0003_index")


def test_the_migration_may_write_while_the_database_is_read_only_for_all_others(site: Path, copy: Target) -> None:
    with connect(copy.on("postgres")) as connection:
        name = sql.Identifier(copy.dbname)
        connection.execute(sql.SQL("alter database {} set default_transaction_read_only = on").format(name))
    with pytest.raises(CommandFailed, match="read-only transaction"):
        migrate(manage_of(site, copy))
    env, _secrets = redirect(Application(), copy)
    assert len(migrate(replace(manage_of(site, copy), env=env)).applied) == 2


def test_an_order_to_stop_ends_the_migration(site: Path, copy: Target) -> None:
    began = time.monotonic()
    with connect(copy, autocommit=False) as holder:
        holder.execute("select count(*) from shop_item")
        with pytest.raises(Interrupted):
            migrate(manage_of(site, copy), cancelled=lambda: time.monotonic() - began > 2)
        holder.rollback()
    with connect(copy) as connection:
        done = connection.execute("select count(*) from django_migrations where name = '0002_price'").fetchone()
    assert done == (0,)


def changed(manage: Manage, *argv: str) -> Manage:
    return replace(manage, release=manage.release.model_copy(update={"manage": argv}))


def test_what_cannot_run_says_why_and_what_to_do(site: Path, shop: Target) -> None:
    manage = manage_of(site, shop)
    cases = {
        "no manage.py at this path": lambda: changed(manage, sys.executable, "nowhere/manage.py").run("check"),
        "no-such-python": lambda: changed(manage, "no-such-python", "src/manage.py").run("check"),
        "DJANGO_SETTINGS_MODULE": lambda: manage_of(site, shop, DJANGO_SETTINGS_MODULE="gone").run("check"),
        "miss a value": lambda: manage_of(site, shop, database_url=False).run("check"),
        "no such command": lambda: manage.run("clear_cache"),
        "Check the database's name": lambda: migrate(manage_of(site, shop.on("nowhere"))),
        "Check the password": lambda: migrate(manage_of(site, shop.login(shop.user, "wr/ong"))),
    }
    for words, run in cases.items():
        with pytest.raises(CommandFailed) as caught:
            run()
        assert words in f"{caught.value.message} {caught.value.remedy}", words
        assert "Traceback" not in str(caught.value) and "wr/ong" not in str(caught.value)


def test_a_check_that_failed_is_no_answer_to_whether_all_is_applied(site: Path, shop: Target) -> None:
    with pytest.raises(CommandFailed):
        is_clean(manage_of(site, shop.on("nowhere")))


def test_a_rehearsal_clears_only_caches_that_are_known_not_to_be_the_live_ones(
    site: Path, shop: Target, tmp_path: Path
) -> None:
    live, other = site / "src/cache", tmp_path / "other"
    for folder in (live, other):
        folder.mkdir(exist_ok=True)
        (folder / "planted.djcache").write_bytes(b"")
    away = manage_of(site, shop, SHOP_CACHE=str(other))

    def looked(known: frozenset[str] | None) -> Wellness:
        return look_well(
            away, "/health/", "127.0.0.1", folder=str(tmp_path / "own"), live=known, clear=[("empty_files",)]
        )

    blind = looked(None)
    assert {one.alias: one.kind for one in blind.caches} == {"default": "private", "files": "shared"}
    assert blind.cleared is not None and blind.status == 200 and blind.left == ("empty_files",)
    assert (other / "planted.djcache").exists()
    # Where the live site's caches are known this one is another: it is cleared for real.
    seen = looked(places_of(manage_of(site, shop)))
    assert {one.alias: one.kind for one in seen.caches} == {"default": "private", "files": "own"}
    assert seen.cleared is not None and seen.cleared.ok
    assert not (other / "planted.djcache").exists() and (live / "planted.djcache").exists()
    (live / "planted.djcache").unlink()


def test_caches_are_cleared_by_the_commands_and_what_they_leave_by_django_itself(site: Path, shop: Target) -> None:
    manage = manage_of(site, shop)
    manage.run("shell", "-c", "from django.core.cache import caches; caches['files'].set('old', 'page', None)")
    cleared = clear_caches(manage, [("empty_files",), ("clear_cache",)])
    assert (cleared.ran, cleared.unknown, cleared.ok) == (("empty_files",), ("clear_cache",), True)
    verdicts = {one.alias: (one.verdict, one.fallback) for one in cleared.caches}
    assert verdicts == {"default": ("private", True), "files": ("cleared", False)}
    assert "no such command here: clear_cache" in cleared.summary()
    kept = manage.run("shell", "-c", "from django.core.cache import caches; print(caches['files'].get('old'))")
    assert kept.stdout.strip().endswith("None")
    again = clear_caches(manage, [("clear_cache",)])
    assert {one.alias: one.fallback for one in again.caches}["files"]


def test_a_process_that_has_loaded_the_application_before_does_the_work(site: Path, shop: Target) -> None:
    manage = manage_of(site, shop)
    for_cache, for_check = Standby(manage), Standby(manage)
    assert for_cache.ready(20) and for_check.ready(20)
    cleared = clear_caches(manage, [("empty_files",)], standby=for_cache)
    assert cleared.ran == ("empty_files",) and cleared.ok
    assert for_check.ask("check", {})["clean"] is False
    assert not for_cache.ready() and not for_check.ready()  # each is for one piece of work


@pytest.mark.parametrize("pool", ["", "1"], ids=["connections", "a pool"])
def test_one_that_lasts_answers_again_and_holds_no_connection_meanwhile(site: Path, shop: Target, pool: str) -> None:
    manage = manage_of(site, shop, SHOP_POOL=pool)
    standby = Standby(manage, lasting=True)
    try:
        assert standby.ready(20)
        for _ in range(2):
            assert standby.ask("check", {})["clean"] is False and standby.ready()
            query = "select count(*) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
            deadline = time.monotonic() + 2  # it has hung up, and the server notices
            with connect(shop) as connection:
                while connection.execute(query, [shop.dbname]).fetchone() != (0,):
                    assert time.monotonic() < deadline
    finally:
        standby.dismiss()
    assert not standby.ready()


def test_one_that_is_gone_costs_nothing_but_time(site: Path, shop: Target) -> None:
    manage = manage_of(site, shop)
    standby = Standby(manage)
    standby.dismiss()
    assert not standby.ready(1)
    assert clear_caches(manage, [("empty_files",)], standby=standby).ok


def test_one_that_waits_ends_when_its_conductor_is_killed(site: Path, shop: Target) -> None:
    mark = f"conductor-{time.monotonic_ns()}"
    program = f"""
        import os, signal
        from dataclasses import replace
        from pathlib import Path
        from django_site import manage_of
        from safepoint.django.standby import Standby
        from safepoint.postgres.target import Target
        target = Target({shop.host!r}, {shop.port}, {shop.dbname!r}, {shop.user!r}, os.environ["TESTPW"])
        manage = manage_of(Path({str(site)!r}), target)
        standby = Standby(replace(manage, env={{**manage.env, "MARK": {mark!r}}}))
        assert standby.ready(30)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    path = os.pathsep.join(map(str, Path(__file__).parents[:2]))
    env = {**os.environ, "TESTPW": shop.password or "", "PYTHONPATH": path}
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=env, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while with_environment(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert with_environment(mark) == []


def with_environment(mark: str) -> list[str]:
    """The processes that have this text in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
    return found
