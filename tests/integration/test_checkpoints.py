"""Checkpoints on a real server, real log files and a real site, with a real browser where there is one."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django_site import manage_of, running, site_database, write_site

from safepoint.checkpoints import database as checks
from safepoint.checkpoints.chromium import Chromium, Visit, browse
from safepoint.checkpoints.login import login
from safepoint.checkpoints.logs import errors_since, mark, read
from safepoint.checkpoints.pages import health
from safepoint.config import Checkpoints, Login
from safepoint.hosts.here import Here
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

PASSWORD = "pa-ss:w/ord"
PATTERN = Checkpoints().error_pattern
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


def test_a_grown_database_fails_and_one_as_before_passes(database: Target) -> None:
    with connect(database) as connection:
        before = checks.measure_size(connection)
        assert checks.size(connection, baseline=before, growth=0.25).verdict == "pass"
        connection.execute("create table big as select repeat('x', 900) from generate_series(1, 8000)")
        found = checks.size(connection, baseline=before, growth=0.25)
    assert found.verdict == "fail" and isinstance(found.value, int) and found.value > before + 6_000_000
    assert found.limit == int(before * 1.25) and found.seconds > 0


def test_connections_are_counted_by_state_against_the_limit(database: Target) -> None:
    with connect(database) as connection, connect(database, autocommit=False) as other:
        other.execute("select 1")
        found = checks.measure_connections(connection)
        assert found.by_state["idle in transaction"] >= 1 and found.by_state["active"] >= 1
        assert checks.connections(connection, share=0.9).verdict == "pass"
        full = checks.connections(connection, share=1.5 / found.maximum)
        assert full.verdict == "fail" and full.limit == 1 and "idle in transaction" in full.detail
        other.rollback()


def test_a_check_whose_connection_is_gone_fails_instead_of_raising(database: Target) -> None:
    connection = connect(database)
    with connect(database.on("postgres")) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
    found = checks.connections(connection, share=0.8)
    assert found.verdict == "fail" and "could not look" in found.detail
    with pytest.raises(psycopg.OperationalError):
        connection.execute("select 1")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app's error.log"
    path.write_text("ERROR of yesterday\n")
    return path


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here("here", tmp_path)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_only_errors_since_the_mark_count_each_once_over_several_looks(here: Here, log: Path) -> None:
    start = mark(here, str(log))
    checkpoint, now = errors_since(here, start, pattern=PATTERN, limit=1)
    assert (checkpoint.verdict, checkpoint.value) == ("pass", 0)
    append(log, "INFO fine, no ERRORS\nERROR one\n")
    checkpoint, now = errors_since(here, now, pattern=PATTERN, limit=1)
    assert (checkpoint.verdict, checkpoint.value) == ("pass", 1)
    append(log, "CRITICAL two\nERROR half a li")
    checkpoint, now = errors_since(here, now, pattern=PATTERN, limit=1)
    assert (checkpoint.verdict, checkpoint.value) == ("fail", 2) and "ERROR one" in checkpoint.detail
    append(log, "ne\n")
    assert errors_since(here, now, pattern=PATTERN, limit=1)[0].value == 3


def test_a_traceback_without_a_level_is_an_error_too(here: Here, log: Path) -> None:
    start = mark(here, str(log))
    append(log, "Internal Server Error: /break/\nTraceback (most recent call last):\n  File x\nValueError: a\n")
    append(log, "\nDuring handling of the above exception, another exception occurred:\n\n")
    append(log, "Traceback (most recent call last):\n  File y\nKeyError: b\n")
    assert read(here, start, PATTERN).errors == 1


def test_a_rotated_log_is_read_on_in_both_files(here: Here, log: Path) -> None:
    start = mark(here, str(log))
    append(log, "ERROR before the rotation\n")
    log.rename(f"{log}.1")
    log.write_text("ERROR after it\n")
    now = read(here, start, PATTERN)
    assert (now.errors, now.gap) == (2, False)
    append(log, "ERROR later\n")
    assert read(here, now, PATTERN).errors == 3


def test_a_log_that_was_cut_or_replaced_leaves_the_check_open(here: Here, log: Path) -> None:
    start = mark(here, str(log))
    log.write_text("new\n")
    checkpoint, _now = errors_since(here, start, pattern=PATTERN, limit=0)
    assert checkpoint.verdict == "inconclusive" and "lines may be lost" in checkpoint.detail
    (other := log.with_suffix(".other")).write_text("ERROR in a new file\n")
    other.replace(log)
    assert errors_since(here, start, pattern=PATTERN, limit=0)[0].verdict == "fail"


def test_a_log_that_appears_after_the_mark_is_read_from_its_beginning(here: Here, tmp_path: Path) -> None:
    start = mark(here, "later.log")
    checkpoint, now = errors_since(here, start, pattern=PATTERN, limit=0)
    assert checkpoint.verdict == "inconclusive" and "no file" in checkpoint.detail
    (tmp_path / "later.log").write_text("FATAL first words\n")
    assert errors_since(here, now, pattern=PATTERN, limit=0)[0].verdict == "fail"


def test_a_big_log_is_read_whole_in_one_look(here: Here, log: Path) -> None:
    start = mark(here, str(log))
    line = "WARNING " + "x" * 120 + "\n"
    append(log, (line * 9000 + "ERROR é\n") * 3)
    now = read(here, start, PATTERN)
    assert (now.errors, now.offset) == (3, log.stat().st_size)


def test_a_log_that_may_not_be_read_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "folder.log").mkdir()
    start = mark(Here("here", tmp_path), "gone.log")
    checkpoint, _now = errors_since(Here("here", tmp_path / "no folder"), start, pattern=PATTERN, limit=0)
    assert checkpoint.verdict == "fail" and "could not look" in checkpoint.detail


@pytest.fixture(scope="module")
def site(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site with a test user; it knows the hosts 127.0.0.1 and shop.test."""
    folder = write_site(tmp_path_factory.mktemp("site"))
    with site_database(server) as target:
        manage = manage_of(folder, target)
        manage.run("migrate", "-v", "0")
        code = f"from django.contrib.auth.models import User; User.objects.create_user('tess', password={PASSWORD!r})"
        manage.run("shell", "-c", code)
        with running(folder, target, SHOP_HOSTS="127.0.0.1,shop.test") as address:
            yield address


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TEST_PASSWORD", PASSWORD)


def settings(**changes: object) -> Login:
    common = {
        "username": "tess",
        "password_env": "SHOP_TEST_PASSWORD",
        "form_path": "/items/new/",
        "fields": {"name": "apple {stamp}", "kind": "Books", "urgent": "yes"},
        "expect": "apple {stamp} (Books)",
        "browser": "http",
    }
    return Login.model_validate({**common, **changes})


def test_the_health_page_passes_and_a_missing_page_or_server_fails(site: str) -> None:
    assert health(site, "/health/").verdict == "pass"
    assert health(site, "/gone/").value == 404
    assert health(site, "/break/").verdict == "fail"
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        found = health(f"http://127.0.0.1:{nobody.getsockname()[1]}")
    assert found.verdict == "fail" and found.value is None and found.remedy is not None


def test_the_test_user_logs_in_and_fills_in_the_form_by_http(site: str) -> None:
    found = login(site, settings())
    assert found.verdict == "pass", found.detail
    assert "HTTP session" in found.detail and found.seconds < 5


STRAIGHT = {"path": "/accounts/login/?next=/items/once/", "form_path": "/items/once/"}


def test_a_form_that_the_login_led_to_is_not_opened_once_more(site: str) -> None:
    found = login(site, settings(**STRAIGHT))
    assert found.verdict == "pass", found.detail


WRONG = {
    "password and names": ({"username": "nobody"}, "logging in: Please enter a correct username"),
    "required field empty": ({"fields": {"name": ""}}, "name"),
    "field not there": ({"fields": {"nome": "x"}}, "no form has the fields nome"),
    "choice not there": ({"fields": {"name": "x", "kind": "Cars"}}, "'kind' has no choice 'Cars'"),
    "text not there": ({"expect": "nowhere"}, "'nowhere' does not stand on the page"),
    "page broken": ({"form_path": "/break/"}, "/break/ answered 500"),
    "no login page": ({"path": "/health/"}, "there is no form"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_goes_wrong_is_said_with_its_stage_by_http(site: str, case: str) -> None:
    changes, words = WRONG[case]
    found = login(site, settings(**changes))
    assert found.verdict == "fail" and words in found.detail.replace("This field", "name") and found.remedy is not None


BROWSERS = ["http", pytest.param("chromium", marks=needs_chromium)]


def plain(name: str, browser: str, **changes: object) -> Login:
    fields = {"name": name, "urgent": "yes"}
    return settings(form_path="/items/plain/", fields=fields, browser=browser, **{"expect": None, **changes})


@pytest.mark.parametrize("browser", BROWSERS)
def test_a_form_that_comes_back_with_what_was_sent_was_refused_though_no_message_says_so(
    site: str, browser: str
) -> None:
    found = login(site, plain("refused", browser))
    assert found.verdict == "fail" and "the form came back with what was sent" in found.detail, found.detail
    assert "expect" in found.detail
    # What is expected decides where it is given.
    assert login(site, plain("refused", browser, expect="Save")).verdict == "pass"


@pytest.mark.parametrize("browser", BROWSERS)
@pytest.mark.parametrize("name", ["again", "kept"])
def test_a_form_that_comes_again_after_a_success_passes(site: str, browser: str, name: str) -> None:
    found = login(site, plain(name, browser))
    assert found.verdict == "pass", found.detail


def test_a_password_that_is_not_set_fails_the_check(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_TEST_PASSWORD")
    found = login(site, settings())
    assert found.verdict == "fail" and "SHOP_TEST_PASSWORD" in found.detail


def test_a_release_is_asked_under_its_public_name_as_the_router_would(site: str) -> None:
    assert health(site, "/accounts/login/", public_url="http://other.test").value == 400
    found = login(site, settings(), public_url="http://shop.test")
    assert found.verdict == "pass", found.detail


def test_secure_cookies_and_origins_hold_where_the_public_name_has_tls(server: Server, tmp_path: Path) -> None:
    folder = write_site(tmp_path)
    with site_database(server) as target:
        manage = manage_of(folder, target)
        manage.run("migrate", "-v", "0")
        code = f"from django.contrib.auth.models import User; User.objects.create_user('tess', password={PASSWORD!r})"
        manage.run("shell", "-c", code)
        with running(folder, target, SHOP_HOSTS="127.0.0.1,shop.test", SHOP_SECURE="1") as address:
            found = login(address, settings(browser="auto"), public_url="https://shop.test")
            bare = login(address, settings())
    assert found.verdict == "pass", found.detail
    assert "without TLS" in found.detail
    assert bare.verdict == "fail"


@needs_chromium
def test_the_test_user_comes_by_a_real_browser(site: str) -> None:
    found = login(site, settings(browser="chromium"), public_url="http://shop.test")
    assert found.verdict == "pass", found.detail
    assert found.detail.endswith("by Chromium")


@needs_chromium
def test_a_form_that_the_login_led_the_browser_to_is_not_opened_once_more(site: str) -> None:
    found = login(site, settings(browser="chromium", **STRAIGHT), public_url="http://shop.test")
    assert found.verdict == "pass", found.detail


@needs_chromium
@pytest.mark.parametrize("case", ["password and names", "required field empty", "page broken"])
def test_a_browser_that_stops_leaves_a_picture(site: str, tmp_path: Path, case: str) -> None:
    changes, words = WRONG[case]
    found = login(site, settings(browser="chromium", **changes), screenshots=tmp_path / "shots")
    assert found.verdict == "fail" and words in found.detail
    (picture,) = found.files
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


@needs_chromium
def test_a_browser_that_was_started_before_makes_the_visit_and_one_that_is_gone_is_replaced(site: str) -> None:
    standby = Chromium(str(CHROMIUM), site, "http://shop.test")
    try:
        assert standby.ready(20)
        for _first_then_again in range(2):
            found = login(site, settings(browser="chromium"), public_url="http://shop.test", standby=standby)
            assert found.verdict == "pass", found.detail
            assert not standby.ready()
    finally:
        standby.dismiss()


@needs_chromium
def test_a_site_that_hangs_ends_the_browser_in_time() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        outcome = browse(Visit(url, url, "/", "tess", PASSWORD, timeout=2), str(CHROMIUM), None)
    assert not outcome.ok and "Timeout" in outcome.said
    assert threading.active_count() < 50


def test_a_browser_that_cannot_start_gives_way_to_http_only_where_that_is_allowed(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = login(site, settings(browser="auto"))
    assert found.verdict == "pass" and "Chromium did not start" in found.detail and "HTTP session" in found.detail
    assert login(site, settings(browser="chromium")).verdict == "fail"
