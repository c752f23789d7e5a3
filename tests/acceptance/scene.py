"""A stage for several launches, one after the other: each with an id and a plan of its own, by the real commands."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import forked
import psycopg
from psycopg import sql
from stage import Stage

from safepoint.config import load
from safepoint.launch.begin import entries_of
from safepoint.launch.faults import VARIABLE
from safepoint.launch.ledger import GENESIS, Entry, digest, read
from safepoint.launch.lock import held
from safepoint.postgres.connections import Connection, connect
from safepoint.wayback.names import kept_name

SAFEPOINT = str(Path(sys.executable).parent / "safepoint")
Change = Callable[[str], str]
# One entry of release 2.0, with two postings that balance.
POST = """
WITH entry AS (
    INSERT INTO ledger_journalentry (reference, user_id, booked_on, memo, currency, posted_at)
    SELECT gen_random_uuid(), (SELECT min(id) FROM auth_user), current_date, 'by hand', 'EUR', now() RETURNING id)
INSERT INTO ledger_posting (entry_id, account_id, amount_cents, note)
SELECT entry.id, account.id, cents, '' FROM entry,
    (SELECT min(id) AS id FROM ledger_account) account, (VALUES (100), (-100)) amounts (cents)
"""
TRACEBACK = "Traceback (most recent call last)"


def same(text: str) -> str:
    """The plan as it is."""
    return text


def brisk(text: str) -> str:
    """The demo's plan without the waiting: no time in canary and watch, the login without a browser, no rehearsal."""
    text = text.replace('hold = "1s"', 'hold = "0s"').replace('duration = "2s"', 'duration = "0s"')
    text = text.replace("[checkpoints.login]", '[checkpoints.login]\nbrowser = "http"')
    return text + "\n[rehearsal]\nrequired = false\n"


def unproven(text: str) -> str:
    """Brisk, and without the proof of the way back: a migration that cannot run is found out in the window only."""
    return brisk(text) + "\n[wayback]\nprove = false\n"


def patient(text: str) -> str:
    """A migration that waits for locks for a long time."""
    return text.replace('lock_timeout = "5s"', 'lock_timeout = "40s"')


def release_that_answers(stage: Stage) -> str | None:
    """The release that people see; None where the site is closed."""
    try:
        with urllib.request.urlopen(stage.plan.router.url + "/healthz", timeout=10) as answer:
            return str(answer.headers["X-Release"])
    except urllib.error.HTTPError:
        return None


def application_may_write(stage: Stage) -> bool:
    """Whether the application's own role can log in and is not read-only by default."""
    return stage.query("SHOW default_transaction_read_only") == [("off",)]


@contextmanager
def conducting(stage: Stage, program: Sequence[object], *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that conducts, and is ended with the context; what it says goes to the stage's `conducting.log`."""
    with (stage.folder / "conducting.log").open("w") as log:
        process = subprocess.Popen(
            [*map(str, program), *words, "--plain", "--plan", str(stage.plan_path)],
            env={**os.environ, **stage.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def slots_and_roles_left(stage: Stage) -> tuple[list[object], list[object]]:
    """What Safepoint may have left in the server: replication slots, roles."""
    with psycopg.connect(**stage.server.target.conninfo()) as connection:  # type: ignore[arg-type]
        slots = connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall()
        roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'safepoint%'").fetchall()
    return [row[0] for row in slots], [row[0] for row in roles]


def evidence(stage: Stage, step: str) -> dict[str, Any]:
    """The newest evidence of a step that was done."""
    done = [entry for entry in entries_of(stage.plan) if entry.kind == "step.done" and entry.step == step]
    return dict(done[-1].data["evidence"])


def open_to_others(folder: Path) -> list[str]:
    """The files below that another user can read who may walk into `folder`: what no folder on the way keeps out."""
    found = []
    for path in folder.iterdir():
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) and mode & 0o011:
            found += open_to_others(path)
        elif stat.S_ISREG(mode) and mode & 0o044:
            found.append(str(path))
    return sorted(found)


def let_hours_pass(ledger: Path, hours: float) -> None:
    """Nobody went on with the launch for so long: all that its ledger says was said so much earlier."""
    previous, lines = GENESIS, []
    for entry in read(ledger):
        at = (entry.when - timedelta(hours=hours)).isoformat()
        content = {**entry.as_json(), "at": at, "prev": previous}
        del content["hash"]
        previous = digest(content)
        lines.append(json.dumps({**content, "hash": previous}))
    ledger.write_text("".join(f"{line}\n" for line in lines))


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    text: str

    def json(self) -> dict[str, Any]:
        """The JSON object that it answered: the last line."""
        answer: dict[str, Any] = json.loads(self.text.strip().splitlines()[-1])
        return answer


class Live:
    """A conductor in a process of its own, while a test gives orders from another terminal."""

    def __init__(self, scene: Scene, process: subprocess.Popen[str]) -> None:
        self.scene, self.process = scene, process

    def until(self, kind: str, step: str | None = None, seconds: float = 40.0) -> Entry:
        """Wait until its ledger has a new entry of that kind (and step)."""
        deadline, looked_at = time.monotonic() + seconds, -1
        ledger = self.scene.stage.launch_folder / "ledger.jsonl"
        while time.monotonic() < deadline:
            size = ledger.stat().st_size if ledger.exists() else 0
            new = [] if size == looked_at else self.scene.entries[self.scene.seen :]  # each look checks the whole chain
            looked_at = size
            for entry in new:
                if entry.kind == kind and step in (None, entry.step):
                    return entry
            assert self.process.poll() is None, self.process.communicate()[0]
            time.sleep(0.03)
        raise AssertionError(f"no {kind} of {step} within {seconds} s: {[e.key for e in self.scene.entries]}")

    def end(self, seconds: float = 60.0) -> Said:
        """Wait for its end."""
        text, _ = self.process.communicate(timeout=seconds)
        assert TRACEBACK not in text, text
        return Said(self.process.returncode, text)


class Scene:
    """One stage, its present launch, and what may be left of it."""

    def __init__(self, stage: Stage, *, proven: bool = False) -> None:
        self.stage = stage
        # Without the proof of the way back: the faults are to happen in the window, and many launches are made.
        self._text = (brisk if proven else unproven)(stage.plan_path.read_text())
        self._numbers = itertools.count(1)
        self._live: list[Live] = []
        self._kept = ExitStack()
        self.seen = 0
        self.databases = self._databases()

    def new_launch(self, change: Change = same) -> None:
        """Another launch on the same site."""
        name = f'[launch]\nid = "launch-{next(self._numbers)}"'
        self.stage.plan_path.write_text(change(self._text).replace("[launch]", name, 1))
        self.stage.plan = load(self.stage.plan_path)
        self.seen = 0
        self.databases = self._databases()

    @property
    def entries(self) -> list[Entry]:
        """The ledger of the present launch."""
        return entries_of(self.stage.plan)

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> Said:
        """A command to its end; it never shows a traceback."""
        done = forked.safepoint(
            [*words, "--plan", str(self.stage.plan_path)],
            {**self.stage.environment, **(env or {})},
            self.stage.folder / "said.log",
        )
        assert TRACEBACK not in done.stdout, done.stdout
        return Said(done.returncode, done.stdout)

    def conduct(self, *words: str, env: Mapping[str, str] | None = None) -> Live:
        """A command that conducts, in the background."""
        self.seen = len(self.entries)
        process = subprocess.Popen(
            [SAFEPOINT, *words, "--plain", "--plan", str(self.stage.plan_path)],
            env={**os.environ, **self.stage.environment, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._live.append(Live(self, process))
        return self._live[-1]

    def close(self) -> None:
        """End what a failed test left running."""
        for live in self._live:
            if live.process.poll() is None:
                live.process.kill()
                live.process.communicate(timeout=20)
        self._kept.close()

    def keep(self, thing: AbstractContextManager[Any]) -> None:
        """Something that the site needs from now on; it is gone with the scene."""
        self._kept.enter_context(thing)

    def status(self) -> dict[str, Any]:
        """What `safepoint status` says; `safepoint report` says the same."""
        said = self.run("status", "--json")
        assert said.code == 0, said.text
        if self.entries:
            report = self.run("report", "--json").json()
            assert report["launch"]["id"] == self.stage.plan.launch_id
        return said.json()

    # -- the world ---------------------------------------------------------------------------------------------

    def release(self) -> str | None:
        """The release that people see; None where the site is closed."""
        return release_that_answers(self.stage)

    def _databases(self) -> set[str]:
        return {str(row[0]) for row in self.ask("SELECT datname FROM pg_database")}

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the server as its superuser, outside the live database."""
        with psycopg.connect(**self.stage.server.target.conninfo()) as connection:  # type: ignore[arg-type]
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    def new_answers(self) -> bool:
        """Whether the new release is at work, with traffic or without."""
        host, port = self.stage.plan.releases.new.upstream.rsplit(":", 1)
        with socket.socket() as client:
            return client.connect_ex((host, int(port))) == 0

    def left(self) -> list[str]:
        """What is not as it was before the launch: nothing, where it failed or was taken back.

        The migrated database is kept after a rollback, under its own name.
        """
        stage = self.stage
        kept = kept_name(stage.plan.database.name, stage.plan.launch_id)
        found = {
            "databases": sorted(self._databases() - self.databases - {kept}),
            "slots": self.ask("SELECT slot_name FROM pg_replication_slots"),
            "roles": self.ask("SELECT rolname FROM pg_roles WHERE rolname LIKE 'safepoint%'"),
            "locked out": self.ask("SELECT rolname FROM pg_roles WHERE rolname = 'accounting' AND NOT rolcanlogin"),
            "read-only": [row for row in stage.query("SHOW default_transaction_read_only") if row != ("off",)],
            "publications": stage.query("SELECT pubname FROM pg_publication"),
            "at work": ["2.0"] if self.new_answers() else [],
            "not 2.0's": stage.query("SELECT name FROM django_migrations WHERE name = '0006_memo_prefix'"),
            "half snapshots": sorted(str(p) for p in (stage.plan.state / "snapshots").glob("*.partial")),
            "scratch": sorted(str(p) for p in (stage.plan.state / "scratch").glob("*")),
            "processes": self.gone("manage.py", "pg_dump", "pg_restore"),
            "conductor": ["held"] if held(stage.plan.conductor_lock) else [],
        }
        return [f"{what}: {things}" for what, things in found.items() if things]

    def gone(self, *words: str, seconds: float = 5.0) -> list[str]:
        """Those that do not end: what a killed conductor left sees the end of its input, and needs a moment."""
        deadline = time.monotonic() + seconds
        while (found := self.processes(*words)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def processes(self, *words: str) -> list[str]:
        """Running commands of this stage with one of the words in their command line."""
        marks = (str(self.stage.folder).encode(), f"PGPORT={self.stage.server.target.port}\0".encode())
        found = []
        for argv, environ in processes():
            if any(word in argv for word in words) and any(mark in environ for mark in marks):
                found.append(argv)
        return found

    def done(self) -> Counter[str | None]:
        """How often each step was done."""
        return Counter(entry.step for entry in self.entries if entry.kind == "step.done")


def processes(*, environments: bool = True) -> Iterable[tuple[str, bytes]]:
    """The command line and the environment of every process that we may look at."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                argv = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield argv, (folder / "environ").read_bytes() + b"\0" if environments else b""
            except OSError:
                continue  # it has ended, or is not ours to read


@contextmanager
def blocked(scene: Scene) -> Iterator[None]:
    """A session of another superuser holds a lock that the migration needs; the fence may well end it."""
    holder = psycopg.connect(**scene.stage.server.target.on("accounting").conninfo())  # type: ignore[arg-type]
    try:
        holder.execute("LOCK TABLE ledger_journalentry IN ACCESS SHARE MODE")
        yield
    finally:
        holder.close()


def waits_for_the_lock(scene: Scene) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'accounting'"
    deadline = time.monotonic() + 20
    while not scene.ask(waiting):
        assert time.monotonic() < deadline, "the migration does not wait"
        time.sleep(0.05)


def kill_at(stage: Stage, boundary: str, *words: str) -> None:
    """Run a command that dies at a boundary of a step."""
    killed = forked.safepoint(
        [*words, "--plain", "--plan", str(stage.plan_path)],
        {**stage.environment, VARIABLE: boundary},
        stage.folder / "killed.log",
    )
    assert killed.returncode == -signal.SIGKILL, (boundary, killed.returncode, killed.stdout[-3000:])


def open_twin(stage: Stage) -> Connection:
    """A connection to the twin, which lets nobody in; in a transaction, that a lock may be held in."""
    with connect(stage.server.target.on("postgres")) as admin:
        twin = next(row[0] for row in admin.execute("SELECT datname FROM pg_database").fetchall() if "twin" in row[0])
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(twin)))
    return connect(stage.server.target.on(twin), autocommit=False)


def until(true: Callable[[], object], seconds: float = 60.0) -> bool:
    """Wait until it is so; whether it came to be."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
