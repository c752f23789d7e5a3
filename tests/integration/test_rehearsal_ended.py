"""A rehearsal that is ended by a signal: a real process, struck in the middle, that leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from plan_file import PASSWORD_ENV

from safepoint.backup import fingerprint
from safepoint.config import PlanFile
from safepoint.errors import ExitCode
from safepoint.launch.rehearsal.rehearsals import newest_rehearsal
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

MARK = "SAFEPOINT_TESTS_STRUCK"
ROLES = "select rolname from pg_roles union all select datname from pg_database order by 1"
# A statement that nothing of ours looks at while it lasts.
SLEEPS = '\n[rehearsal.invariants]\nslow = "select pg_sleep(600)"\n'


def family(mark: str) -> list[str]:
    """The processes that came from the one that was given this mark, whoever is their parent now."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def struck(
    made: PlanFile, errors: Path, at: str, *signals: signal.Signals, after: float = 0.2
) -> tuple[int, str, float]:
    """`safepoint rehearse`, given signals soon after it says `at`: its exit code, what it said, and in which time it
    ended."""
    with errors.open("wb") as sink:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("safepoint"), "rehearse", "--plan", str(made.path)],
            stdout=sink,
            stderr=sink,
            env={**os.environ, PASSWORD_ENV: os.environ[PASSWORD_ENV], MARK: str(errors)},
            # Whoever runs the tests in the background of a shell ignores SIGINT, and so would this child.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    deadline = time.monotonic() + 120
    while at not in errors.read_text(encoding="utf-8"):
        assert process.poll() is None and time.monotonic() < deadline, errors.read_text(encoding="utf-8")
        time.sleep(0.01)
    time.sleep(after)
    began = time.monotonic()
    for one in signals:
        process.send_signal(one)
        time.sleep(0.1)
    try:
        code = process.wait(60)
    finally:
        process.kill()
    return code, errors.read_text(encoding="utf-8"), time.monotonic() - began


@pytest.mark.parametrize(
    ("at", "signals", "more"),
    [
        pytest.param("find the newest", (signal.SIGINT,), "", marks=pytest.mark.slow),
        pytest.param("rehearsal: restore", (signal.SIGTERM,), "", marks=pytest.mark.slow),
        pytest.param("prepare the copy", (signal.SIGINT,), "", marks=pytest.mark.slow),
        pytest.param("rehearsal: migrate", (signal.SIGTERM, signal.SIGINT), "", marks=pytest.mark.slow),
        pytest.param("compare every", (signal.SIGINT, signal.SIGINT), SLEEPS),
        pytest.param("take every row back", (signal.SIGINT, signal.SIGINT), "", marks=pytest.mark.slow),
        pytest.param("rehearse a rollback", (signal.SIGHUP,), "", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_a_rehearsal_and_leaves_nothing(
    shop_plan: Callable[..., PlanFile],
    shop: tuple[Path, Target],
    tmp_path: Path,
    at: str,
    signals: tuple[signal.Signals, ...],
    more: str,
) -> None:
    made = shop_plan(more)
    with connect(shop[1]) as connection:
        names = connection.execute(ROLES).fetchall()
    before = fingerprint.take(shop[1], jobs=1).digest
    # The rollback of so small a database takes little more than a tenth of a second.
    after = 1.0 if more else 0.0 if at == "rehearse a rollback" else 0.2
    code, said, seconds = struck(made, tmp_path / "said", at, *signals, after=after)
    for _ in range(2):
        if code == ExitCode.DONE and not after:  # a busy machine may strike when all is done
            shutil.rmtree(made.state)
            code, said, seconds = struck(made, tmp_path / "said", at, *signals, after=after)
    assert code == ExitCode.INTERRUPTED, said
    assert "Traceback" not in said and "Exception" not in said, said
    # Who sees both at once, on a busy machine, may tell the one that came second.
    assert any(f"ended by {one.name}" in said for one in signals) and "live database was only read" in said
    assert "scratch server" in said and "safepoint rehearse --plan" in said
    assert seconds < 15
    assert family(str(tmp_path / "said")) == []
    assert list((made.state / "scratch").glob("*")) == [] and newest_rehearsal(made) is None
    with connect(shop[1]) as connection:
        assert connection.execute(ROLES).fetchall() == names
    assert fingerprint.take(shop[1], jobs=1).digest == before
