"""The demo's accounting site: its two releases, the migrations between them, and the writers, on PostgreSQL 17."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psycopg
import pytest
from loaded_django import python

from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server, free_port
from safepoint.postgres.target import Target

DEMO = Path(__file__).parents[2] / "demo"
PASSWORD = "only-for-tests"


def load(name: str) -> ModuleType:
    """A module of the demo, which is no package."""
    spec = importlib.util.spec_from_file_location(f"demo_{name}", DEMO / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(DEMO))  # they name one another
writers, posted_entries = load("writers"), load("posted")


class Site:
    """The site of one test: its database, its folder, its running releases."""

    def __init__(self, target: Target, state: Path) -> None:
        self.target = target
        self.state = state
        self.env = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": target.url(),
            "SECRET_KEY": "only-for-tests",
            "ACCOUNTING_STATE": str(state),
            "ACCOUNTING_DEMO_PASSWORD": PASSWORD,
            "ACCOUNTING_PASSWORD_ITERATIONS": "1000",
        }
        self._ports: dict[str, int] = {}

    def manage(self, release: str, *words: str, check: bool = True) -> str:
        """Run manage.py of a release; its output."""
        done = subprocess.run(
            [python(), "src/manage.py", *words],
            cwd=DEMO / "accounting" / f"release-{release}",
            env=self.env,
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def appctl(self, order: str, release: str, port: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, str(DEMO / "appctl.py"), order),
                *("--release", release, "--port", str(port), "--state", str(self.state / "run")),
            ],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, release: str) -> str:
        """Start a release; its address."""
        port = self._ports.setdefault(release, free_port())
        done = self.appctl("start", release, port)
        assert done.returncode == 0, done.stderr
        return f"http://127.0.0.1:{port}"

    def stop(self, release: str) -> None:
        done = self.appctl("stop", release, self._ports[release])
        assert done.returncode == 0, done.stderr

    def stop_all(self) -> None:
        for release in self._ports:
            self.stop(release)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(**self.target.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


TEMPLATE = "accounting_template"


@pytest.fixture(scope="module")
def seeded(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database of release 1.0 with some 2,000 lines, to be copied."""
    with connect(server.target) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
        made = Site(server.target.on(TEMPLATE), tmp_path_factory.mktemp("template"))
        made.manage("1.0", "migrate", "--noinput")
        made.manage("1.0", "seed", "--lines", "2000", "--users", "10")
        yield TEMPLATE
        connection.execute(f"DROP DATABASE {TEMPLATE} WITH (FORCE)")


@pytest.fixture
def site(database: Target, seeded: str, tmp_path: Path) -> Iterator[Site]:
    """Release 1.0 migrated and seeded; nothing runs yet."""
    with connect(database.on("postgres")) as connection:
        connection.execute(f"DROP DATABASE {database.dbname}")
        connection.execute(f"CREATE DATABASE {database.dbname} TEMPLATE {seeded}")
    made = Site(database, tmp_path)
    try:
        yield made
    finally:
        made.stop_all()


def health(address: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"{address}/healthz", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


LINES_OF_1_0 = """
SELECT l.id, entry_id, code, debit, credit, note FROM ledger_journalline l JOIN ledger_account a ON a.id = account_id
"""


def test_seeding_twice_gives_the_same_rows_and_does_not_add_any(site: Site, tmp_path: Path) -> None:
    before = site.query(LINES_OF_1_0 + "ORDER BY l.id")
    assert len(before) >= 2000
    assert "nothing was done" in site.manage("1.0", "seed", "--lines", "2000")
    site.query("TRUNCATE ledger_journalline, ledger_journalentry RESTART IDENTITY")
    site.manage("1.0", "seed", "--lines", "2000", "--users", "10")
    assert site.query(LINES_OF_1_0 + "ORDER BY l.id") == before


def test_models_and_migrations_agree_in_both_releases(site: Site) -> None:
    for release in ("1.0", "2.0"):
        assert "No changes detected" in site.manage(release, "makemigrations", "--check", "--dry-run")


def test_release_2_has_the_migrations_of_release_1_unchanged() -> None:
    old, new = (DEMO / "accounting" / f"release-{release}" / "src" for release in ("1.0", "2.0"))
    kept = sorted(path.relative_to(old) for path in old.glob("*/migrations/*.py"))
    assert len(kept) > 3
    for path in kept:
        assert (new / path).read_bytes() == (old / path).read_bytes()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_journalline SET debit = debit + 1 WHERE debit > 0 AND entry_id = 1",
        "DELETE FROM ledger_journalline WHERE entry_id = 1 AND debit > 0",
        "INSERT INTO ledger_journalline (entry_id, account_id, debit, credit, note) VALUES (1, 1, 5, 0, '')",
        "UPDATE ledger_journalline SET entry_id = 2 WHERE entry_id = 1 AND credit > 0",
    ],
)
def test_the_database_refuses_what_is_not_balanced(site: Site, statement: str) -> None:
    before = site.query(LINES_OF_1_0 + "ORDER BY l.id")
    with pytest.raises(psycopg.errors.CheckViolation, match="is not balanced"):
        site.query(statement)
    assert site.query(LINES_OF_1_0 + "ORDER BY l.id") == before


def test_an_entry_goes_with_its_lines(site: Site) -> None:
    site.query("DELETE FROM ledger_journalline WHERE entry_id = 1")
    assert site.query("SELECT count(*) FROM ledger_journalline WHERE entry_id = 1") == [(0,)]


def test_migrating_keeps_every_amount_and_the_balance_check(site: Site) -> None:
    before = site.query(
        "SELECT id, entry_id, account_id, ((debit - credit) * 100)::bigint, note FROM ledger_journalline ORDER BY id"
    )
    entries = site.query("SELECT id, reference, user_id, date, memo, posted_at FROM ledger_journalentry ORDER BY id")
    site.manage("2.0", "migrate", "--noinput")
    site.manage("2.0", "migrate", "--check")
    after = site.query("SELECT id, entry_id, account_id, amount_cents, note FROM ledger_posting ORDER BY id")
    assert after == before
    assert entries == site.query(
        "SELECT id, reference, user_id, booked_on, memo, posted_at FROM ledger_journalentry ORDER BY id"
    )
    assert site.query("SELECT to_regclass('ledger_journalline')") == [(None,)]
    assert site.query("SELECT DISTINCT currency FROM ledger_journalentry") == [("EUR",)]
    assert site.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ledger_posting_history'::regclass") == [
        (True,)
    ]
    with pytest.raises(psycopg.errors.CheckViolation, match="off by 1 cents"):
        site.query("UPDATE ledger_posting SET amount_cents = amount_cents + 1 WHERE entry_id = 1 AND amount_cents > 0")
    with pytest.raises(psycopg.errors.CheckViolation, match="ledger_posting_not_zero"):
        site.query("UPDATE ledger_posting SET amount_cents = 0 WHERE entry_id = 1")


def test_migrating_back_restores_amounts_and_check_but_not_what_was_removed(site: Site) -> None:
    before = site.query(LINES_OF_1_0 + "ORDER BY l.id")
    assert site.query("SELECT count(*) > 0 FROM users_userprofile WHERE phone <> ''") == [(True,)]
    site.manage("2.0", "migrate", "--noinput")
    site.manage("2.0", "migrate", "ledger", "0002")
    site.manage("2.0", "migrate", "users", "0001")
    assert site.query(LINES_OF_1_0 + "ORDER BY l.id") == before
    assert site.query("SELECT count(*) FROM users_userprofile WHERE phone <> ''") == [(0,)]
    with pytest.raises(psycopg.errors.CheckViolation, match="is not balanced"):
        site.query("UPDATE ledger_journalline SET debit = debit + 1 WHERE debit > 0 AND entry_id = 1")


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE ledger_journalentry SET memo = repeat('x', 141) WHERE id = 7", "ledger.0003_entry_fields"),
        ("UPDATE users_userprofile SET department = repeat('x', 41) WHERE user_id = 2", "users.0002_full_name"),
    ],
)
def test_a_value_too_long_for_the_narrowed_column_stops_the_migration(site: Site, statement: str, error: str) -> None:
    site.query(statement)
    said = site.manage("2.0", "migrate", "--noinput", check=False)
    assert error in said
    assert "value too long" in said


def test_each_release_says_whether_the_schema_is_its_own(site: Site) -> None:
    old, new = site.start("1.0"), site.start("2.0")
    assert health(old)[0] == 200
    code, answer = health(new)
    assert (code, answer["release"], answer["status"]) == (503, "2.0", "unavailable")
    site.manage("2.0", "migrate", "--noinput")
    assert health(new) == (
        200,
        {"status": "ok", "release": "2.0", "database": site.target.dbname, "maintenance": False},
    )
    assert health(old)[0] == 503
    assert "ERROR" not in (site.state / "error.log").read_text()  # looking is no error


def test_starting_and_stopping_twice_is_harmless_and_a_foreign_pid_is_left_alone(site: Site) -> None:
    port = free_port()
    try:
        first = site.appctl("start", "1.0", port)
        assert "answers" in first.stdout
        assert "runs already" in site.appctl("start", "1.0", port).stdout
        taken = site.appctl("start", "2.0", port)
        assert taken.returncode != 0
        assert "in use by another program" in taken.stderr
    finally:
        assert "was stopped" in site.appctl("stop", "1.0", port).stdout
    pid_file = site.state / "run" / f"accounting-1.0-{port}.pid"
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid_file.write_text(str(stranger.pid))
        assert "does not run" in site.appctl("stop", "1.0", port).stdout
        assert stranger.poll() is None
        stranger.terminate()


def test_the_cache_is_used_and_clear_cache_empties_it(site: Site) -> None:
    address = site.start("1.0")
    client = log_in(address)
    assert "in balance" in client.get("/").body
    cached = lambda: list((site.state / "cache").glob("*.djcache"))  # noqa: E731
    assert cached()
    assert "has been cleared" in site.manage("1.0", "clear_cache")
    assert not cached()


def test_maintenance_answers_503_and_health_goes_on(site: Site) -> None:
    address = site.start("1.0")
    client = log_in(address)
    assert "maintenance is on" in site.manage("1.0", "maintenance", "on")
    with pytest.raises(writers.Unserved, match="503"):
        client.get("/")
    assert health(address) == (
        200,
        {"status": "ok", "release": "1.0", "database": site.target.dbname, "maintenance": True},
    )
    site.manage("1.0", "maintenance", "off")
    assert client.get("/").status == 200
    assert "ERROR" not in (site.state / "error.log").read_text()


def test_a_database_that_ended_the_sessions_costs_no_request(site: Site) -> None:
    client = log_in(site.start("1.0"))
    site.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'accounting 1.0'")
    assert client.get("/entries/").status == 200


def test_a_read_only_database_gives_503_and_an_error_line(site: Site) -> None:
    client = log_in(site.start("1.0"))
    form = writers.EntryForm.read(client.get("/entries/new/"))
    site.query(f"ALTER DATABASE {site.target.dbname} SET default_transaction_read_only = on")
    site.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'accounting 1.0'")
    fields, _cents = form.filled(writers.random.Random(1), "00000000-0000-4000-8000-000000000001", "user0001")
    with pytest.raises(writers.Unserved, match="503"):
        client.post("/entries/new/", fields)
    assert "ReadOnlySqlTransaction" in (site.state / "error.log").read_text()


def test_the_form_refuses_what_is_not_balanced_and_posts_a_reference_once(site: Site) -> None:
    client = log_in(site.start("1.0"))
    form = writers.EntryForm.read(client.get("/entries/new/"))
    token = "00000000-0000-4000-8000-000000000002"
    fields = dict(form.filled(writers.random.Random(1), token, "user0001")[0])
    refused = client.post("/entries/new/", list((fields | {"lines-1-credit": "0.01"}).items()))
    assert refused.status == 200
    assert "Debits and credits differ by" in refused.body
    for _twice in range(2):
        answer = client.post("/entries/new/", list(fields.items()))
        assert (answer.status, answer.location) == (302, f"/entries/{token}/")
    assert site.query(f"SELECT count(*) FROM ledger_journalentry WHERE reference = '{token}'") == [(1,)]
    assert fields["memo"] in client.get(f"/entries/{token}/").body


@pytest.mark.slow  # each whole launch under traffic shows it
def test_what_the_writers_hold_acknowledged_is_there_across_both_releases(site: Site) -> None:
    """The app dies, closes and comes back as 2.0 at the same address while entries are posted."""
    port = free_port()
    journal = site.state / "entries.jsonl"
    try:
        site.appctl("start", "1.0", port)
        running = writers.Writers(f"http://127.0.0.1:{port}", 3, journal, 10, password=PASSWORD, max_seconds=60)
        running.start()
        wait_for(running, lambda tally: tally.acknowledged >= 10)
        site.appctl("stop", "1.0", port)
        wait_for(running, lambda tally: tally.failed_requests >= 3)
        site.manage("2.0", "migrate", "--noinput")
        site.appctl("start", "2.0", port)
        wait_for(running, lambda tally: tally.by_release.get("2.0", 0) >= 10)
        tally = running.stop()
    finally:
        site.appctl("stop", "1.0", port)
        site.appctl("stop", "2.0", port)
    acknowledged = posted_entries.acknowledged(journal)
    assert len(acknowledged) == tally.acknowledged == sum(tally.by_release.values())
    posted = {
        str(reference): (user, cents)
        for reference, user, cents in site.query(
            "SELECT reference, username, sum(amount_cents) FILTER (WHERE amount_cents > 0) "
            "FROM ledger_journalentry e JOIN auth_user u ON u.id = user_id JOIN ledger_posting p ON entry_id = e.id "
            "WHERE posted_at > now() - interval '5 minutes' GROUP BY 1, 2"
        )
    }
    assert {token: (line["user"], line["cents"]) for token, line in acknowledged.items()}.items() <= posted.items()
    assert posted.keys() - acknowledged.keys() <= set(tally.unsettled)
    assert site.query("SELECT count(*) > 0 FROM ledger_journalentry_tags") == [(True,)]
    assert tally.failures.keys() <= {"ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected", "503"}


def log_in(address: str) -> writers.Client:
    """A client that has logged in as user0001."""
    client = writers.Client(address)
    reader = writers.FormReader()
    reader.feed(client.get("/accounts/login/").body)
    answer = client.post(
        "/accounts/login/", list((reader.values | {"username": "user0001", "password": PASSWORD}).items())
    )
    assert answer.status == 302
    return client


def wait_for(running: writers.Writers, reached: object, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not reached(running.tally()):  # type: ignore[operator]
        assert time.monotonic() < deadline, running.tally()
        time.sleep(0.05)
