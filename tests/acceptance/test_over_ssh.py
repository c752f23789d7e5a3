"""Whole launches where the application and PostgreSQL's tools are on another machine, reached by a real sshd.

The other side has nothing of the conductor's environment: what it needs stands in the plan file (absolute programs,
`releases.*.env`) and in a file of its own that its wrapper scripts read, as on a server.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forked
import psycopg
import pytest
from broken_link import BrokenLink, broken_link
from scene import brisk, until
from ssh_server import SSHD, SshServer, ssh_server
from stage import Stage

from safepoint.backup.dumping import session_name
from safepoint.backup.manifest import read_manifest
from safepoint.launch.begin import entries_of, status_of
from safepoint.launch.faults import VARIABLE
from safepoint.postgres.binaries import installation

SAFEPOINT = str(Path(sys.executable).parent / "safepoint")
MAJOR = 18
# What the conductor's own terminal has; all else is the other side's.
CONDUCTOR = ("SAFEPOINT_DB_PASSWORD", "ACCOUNTING_DEMO_PASSWORD")
DUMPING = "SELECT pid, wait_event_type FROM pg_stat_activity WHERE application_name LIKE 'safepoint dump %'"
MIGRATING = "SELECT pid, wait_event_type FROM pg_stat_activity WHERE usename LIKE 'safepoint_migrate_%'"

WRAPPER = """\
#!/bin/sh
# As a server's own scripts do: settings from a file, unless whoever calls says something else.
[ -f {folder}/site.env ] && . {folder}/site.env
exec {python} {program} "$@"
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if SSHD is None:
        pytest.skip("there is no sshd on this machine (Debian: apt-get install openssh-server)")
    with ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def link(sshd: SshServer) -> Iterator[BrokenLink]:
    with broken_link(sshd.port) as link:
        yield link


def local(text: str) -> str:
    """Everything here; a migration that waits for a lock waits long."""
    return brisk(text).replace('lock_timeout = "5s"', 'lock_timeout = "60s"')


def remote(sshd: SshServer, port: int, folder: Path) -> Callable[[str], str]:
    """The demo's plan with application and tools on the other side."""
    settings = sshd.settings(port=port)
    host = (
        f'\n[hosts.prod]\nkind = "ssh"\naddress = "{settings.address}"\nport = {port}\nuser = "{settings.user}"\n'
        f'identity = "{settings.identity}"\noptions = [{", ".join(repr(word) for word in settings.options)}]\n'
    )

    def change(text: str) -> str:
        text = brisk(text).replace('"python", "src/manage.py"', f'"{folder}/manage"')
        lines: list[str] = []
        there = f"localhost:{tomllib.loads(text)['database']['port']}"  # here it is 127.0.0.1
        for line in text.splitlines():
            if line.startswith(("start = [", "stop = [")):
                name, words = line.split(" = ", 1)
                line = f'{name} = ["{folder}/appctl", {words.split(", ", 2)[2]}'
            lines.append(line)
            if line == "[application]":
                lines += ['host = "prod"', f'database_address = "{there}"']
            if line == "[database]":
                lines += [
                    'tools_host = "prod"',
                    f'tools_address = "{there}"',
                    f'tools = "{installation(MAJOR).bin_dir}"',
                ]
        return "\n".join(lines) + host

    return change


def write_wrappers(folder: Path) -> None:
    folder.mkdir(parents=True)
    demo = Path(__file__).resolve().parents[2] / "demo"
    for name, program in (("manage", "src/manage.py"), ("appctl", str(demo / "appctl.py"))):
        script = folder / name
        script.write_text(WRAPPER.format(folder=folder, python=sys.executable, program=program))
        script.chmod(0o755)


def write_site_env(folder: Path, environment: dict[str, str]) -> None:
    """The other side's settings. It alone may read them: they hold secrets."""
    kept = {name: value for name, value in environment.items() if name not in (*CONDUCTOR, "PATH")}
    lines = [f': "${{{name}:={value}}}"; export {name}' for name, value in sorted(kept.items())]
    file = folder / "site.env"
    file.touch(mode=0o600)
    file.write_text("\n".join(lines) + "\n")


@dataclass
class Launched:
    """A stage whose commands get only what the conductor's own terminal would have."""

    stage: Stage
    environment: dict[str, str] = field(repr=False)

    def popen(self, *words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SAFEPOINT, *words, "--plan", str(self.stage.plan_path)],
            env={**self.environment, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def safepoint(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        said = self.stage.folder / f"said-{time.monotonic_ns()}"
        words = (*words, "--plan", str(self.stage.plan_path))
        return forked.safepoint(words, {**self.environment, **env}, said, timeout=200, bare=True)

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        login = self.stage.server.target.on("accounting").conninfo()
        with psycopg.connect(**login) as connection:  # type: ignore[arg-type]
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    def evidence(self, step: str) -> dict[str, Any]:
        done = [e for e in entries_of(self.stage.plan) if e.kind == "step.done" and e.step == step]
        assert len(done) == 1, (step, done)
        return dict(done[0].data["evidence"])


def bare() -> dict[str, str]:
    """This machine's environment without the virtual environment's programs."""
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if one != here)
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}


def on_the_other_side(make_stage: Callable[..., Stage], sshd: SshServer, port: int, folder: Path) -> Launched:
    write_wrappers(folder)
    stage = make_stage(lines=1_000, major=MAJOR, change=remote(sshd, port, folder))
    write_site_env(folder, stage.environment)
    return Launched(stage, {**bare(), **{name: stage.environment[name] for name in CONDUCTOR}})


@contextmanager
def watched_argvs(signs: list[str]) -> Iterator[list[str]]:
    """Collects the command lines of this machine (which is both sides) that hold one of the signs."""
    found: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue  # it has ended meanwhile
                found.extend(line for sign in signs if sign in line)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def processes(sign: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if sign.encode() in path.read_bytes().replace(b"\0", b" "):
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


@contextmanager
def locked(launched: Launched, mode: str) -> Iterator[None]:
    """A person's session that holds a lock on a table, until it lets go or the fence ends it."""
    locker = psycopg.connect(**launched.stage.server.target.on("accounting").conninfo())  # type: ignore[arg-type]
    try:
        locker.execute(f"LOCK TABLE ledger_journalentry IN {mode} MODE")  # type: ignore[arg-type]
        yield
    finally:
        locker.close()


def waits(launched: Launched, query: str, but: Collection[int] = ()) -> bool:
    """Whether a session of this kind (other than these) waits for a lock."""
    return any(event == "Lock" and pid not in but for pid, event in launched.asked(query))


@contextmanager
def caught_waiting(launched: Launched, query: str, but: Collection[int] = ()) -> Iterator[subprocess.Popen[str]]:
    """A conductor whose command waits in the server for a lock."""
    conductor = launched.popen("launch", "--now", "--plain", "--no-wait")
    try:
        assert until(lambda: waits(launched, query, but) or conductor.poll() is not None)
        assert conductor.poll() is None, conductor.communicate()[0]
        yield conductor
    finally:
        conductor.kill()
        conductor.communicate(timeout=20)


def snapshots(stage: Stage) -> list[str]:
    return sorted(path.name for path in (stage.plan.state / "snapshots").iterdir())


def test_a_launch_with_everything_on_another_machine_whose_link_breaks_and_whose_conductor_is_killed(
    make_stage: Callable[..., Stage], link: BrokenLink, sshd: SshServer, tmp_path: Path
) -> None:
    launched = on_the_other_side(make_stage, sshd, link.port, tmp_path / "prod")
    stage = launched.stage
    own_password = stage.environment["DATABASE_URL"].split(":")[2].split("@")[0]
    secrets = [*(stage.environment[name] for name in (*CONDUCTOR, "SECRET_KEY")), own_password]
    # The migration's login has a password that nobody knows: no argv may hold an address with it.
    with watched_argvs([*secrets, "//safepoint_migrate_"]) as told:
        the_link_breaks_in_the_dump(launched, link)
        the_conductor_is_killed_in_the_dump(launched)
        writers = stage.writers()
        done = launched.safepoint("launch", "--now", "--plain", "--no-wait")
        assert done.returncode == 0, done.stdout
        time.sleep(1.0)
        back = launched.safepoint("rollback", "--plain")
        assert back.returncode == 0, back.stdout
    time.sleep(0.3)
    tally = writers.stop()
    assert tally.by_release["2.0"] > 0 and tally.by_release["1.0"] > 0
    # The copy on which the way back was proven listened here alone; the release over there reached it.
    assert launched.evidence("prove-way-back")["proven"], launched.evidence("prove-way-back")
    assert launched.evidence("back-carry")["carried"] > 0 and stage.acknowledged() <= stage.present()

    # The dump came over as a stream and was proven here.
    manifest = read_manifest(stage.plan.state / "snapshots" / launched.evidence("final-snapshot")["id"])
    assert manifest.archive == "archive.dump" and "PGHOST=localhost" in manifest.commands[0]
    assert launched.evidence("final-proof")["server_version"].startswith(f"{MAJOR}.")
    errors = [one for one in launched.evidence("checkpoints")["checkpoints"] if one["name"] == "errors"]
    assert [one["verdict"] for one in errors] == ["pass"]

    assert told == []
    written = (stage.launch_folder / "ledger.jsonl").read_text() + done.stdout + back.stdout
    assert not [secret for secret in secrets if secret in written]


def the_link_breaks_in_the_dump(launched: Launched, link: BrokenLink) -> None:
    """A typed failure; nothing is left on either side."""
    stage = launched.stage
    assert launched.safepoint("launch", "--now", "--plain", **{VARIABLE: "survey:recorded"}).returncode == -9
    with locked(launched, "ACCESS EXCLUSIVE"), caught_waiting(launched, DUMPING) as conductor:
        link.cut()
        said = conductor.communicate(timeout=60)[0]
        assert conductor.returncode == 1, said
        assert "The SSH connection to prod" in said and "broke" in said
        assert until(lambda: not launched.asked(DUMPING), 15)
    failed = [entry for entry in entries_of(stage.plan) if entry.kind == "step.failed"]
    assert [(entry.step, entry.data["error"]["error"]) for entry in failed] == [("snapshot", "CommandFailed")]
    assert status_of(entries_of(stage.plan)) == "failed"
    assert snapshots(stage) == []


def the_conductor_is_killed_in_the_dump(launched: Launched) -> None:
    """The other side notices that nobody is there, and ends the dump by itself."""
    assert launched.safepoint("launch", "--now", "--plain", **{VARIABLE: "survey:recorded"}).returncode == -9
    with locked(launched, "ACCESS EXCLUSIVE"):
        with caught_waiting(launched, DUMPING) as conductor:
            conductor.send_signal(signal.SIGKILL)
        assert until(lambda: not launched.asked(DUMPING), 15)
    (left,) = snapshots(launched.stage)
    assert left.endswith(".partial")


@pytest.mark.slow
def test_a_release_on_another_machine_is_rehearsed_on_a_copy_that_listens_here_alone(
    make_stage: Callable[..., Stage], sshd: SshServer, tmp_path: Path
) -> None:
    launched = on_the_other_side(make_stage, sshd, sshd.port, tmp_path / "prod")
    done = launched.safepoint("rehearse", "--json")
    assert done.returncode in (0, 3), done.stdout
    said = json.loads(done.stdout)
    assert said["way_back"]["proven"] and said["migrations"], done.stdout


@pytest.mark.slow
def test_a_dump_and_a_migration_that_outlived_their_conductor_are_ended_before_they_are_begun_again(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=local)
    launched = Launched(stage, {**os.environ, **stage.environment})
    assert launched.safepoint("launch", "--now", "--plain", **{VARIABLE: "survey:recorded"}).returncode == -9
    with locked(launched, "ACCESS EXCLUSIVE"):
        with caught_waiting(launched, DUMPING):
            pass  # killed
        orphans = {pid for pid, _ in launched.asked(DUMPING)}
        assert orphans  # nobody ended them: once they had their table they would write into the snapshot's folder
        snapshot = stage_fact(stage, "snapshot:prelaunch")["id"]
        with caught_waiting(launched, DUMPING, but=orphans):
            name = session_name(snapshot)
            mine = launched.asked(f"SELECT pid FROM pg_stat_activity WHERE application_name = '{name}'")
            assert mine and not {row[0] for row in mine} & orphans
    killed = launched.safepoint("launch", "--now", "--plain", **{VARIABLE: "prove-quiet:recorded"})
    assert killed.returncode == -9, killed.stdout
    assert snapshots(stage) == sorted([snapshot, stage_fact(stage, "snapshot:final")["id"]])
    assert launched.evidence("proof")["snapshot_id"] == snapshot

    with locked(launched, "ACCESS SHARE"):
        with caught_waiting(launched, MIGRATING):
            running = processes("manage.py migrate --noinput")
        assert running and waits(launched, MIGRATING)  # it runs on, though its conductor was killed
        done = launched.safepoint("launch", "--now", "--plain", "--no-wait")
        assert done.returncode == 0, done.stdout
    assert not set(processes("manage.py migrate --noinput")) & set(running)
    assert stage.query("SELECT app, name FROM django_migrations GROUP BY 1, 2 HAVING count(*) > 1") == []
    assert status_of(entries_of(stage.plan)) == "launched"


def stage_fact(stage: Stage, name: str) -> dict[str, Any]:
    return dict(next(entry.data for entry in entries_of(stage.plan) if entry.key == f"fact:0:{name}"))


def test_the_wrappers_let_whoever_calls_say_something_else(tmp_path: Path) -> None:
    write_wrappers(tmp_path / "prod")
    write_site_env(tmp_path / "prod", {"DATABASE_URL": "postgresql://own"})
    line = f'. {shlex.quote(str(tmp_path / "prod" / "site.env"))}; echo "$DATABASE_URL"'
    for env, expected in (({}, "postgresql://own"), ({"DATABASE_URL": "postgresql://other"}, "postgresql://other")):
        said = subprocess.run(["sh", "-c", line], env={**bare(), **env}, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == expected
