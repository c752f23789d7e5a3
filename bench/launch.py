"""The numbers of a launch: the window, the rollback, the conductor's memory, the start of the command.

Run: python bench/launch.py [entries of the big database] [launches]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from results import Result, merge, show, timed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

from stage import Stage  # the demo's own module

from safepoint.launch.begin import entries_of
from safepoint.launch.report import build
from safepoint.postgres.binaries import Installation, installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.fence import fence, quiet
from safepoint.wayback.twin import swap, twin
from safepoint.wayback.twin.pair import Pair

DATA = Path(__file__).parent / "data.sql"
SAFEPOINT = Path(sys.executable).parent / "safepoint"
SETTINGS = {"wal_level": "logical", "shared_buffers": "512MB", "max_wal_size": "4GB"}
LINES = 200_000


def tool(programs: Installation, target: Target, *argv: str, output: Path | None = None) -> None:
    """Run one of PostgreSQL's programs, its output into a file or nowhere."""
    env = {**os.environ, **target.env(), **target.secrets()}
    with (output or Path(os.devnull)).open("wb") as file:
        subprocess.run([programs.program(argv[0]), *argv[1:]], env=env, check=True, stdout=file)


def help_seconds(runs: int = 11) -> Result:
    """The start of the command, as a person waits for it."""
    seconds = [
        timed(lambda: subprocess.run([SAFEPOINT, "--help"], check=True, capture_output=True)) for _ in range(runs)
    ]
    return Result("help_seconds", round(statistics.median(seconds), 3), "s", 0.3, f"median of {runs} whole processes")


def rollback_vs_restore_clean(entries: int, folder: Path, pairs: int = 3) -> Result:
    """The database's part of a rollback against the runbook's, in turn on one database of the named size.

    Ours: put up the fence, swap the twin in, take the fence down. The runbook's: `pg_restore --clean` of its own
    dump, in place. Starting and stopping the application is in neither.
    """
    programs = installation(17)
    with Server.create(folder / "server", programs, settings=SETTINGS, purpose="bench") as server:
        live = server.target.on("accounting")
        tool(programs, server.target, "createdb", "accounting")
        tool(programs, live, "psql", "-q", "-v", f"entries={entries}", "-f", str(DATA))
        dump = folder / "runbook.dump"
        tool(programs, live, "pg_dump", "-F", "c", "-b", output=dump)
        ours, theirs = [], []
        for pair in range(pairs):
            ours.append(_swap_back(live, f"bench-{pair}"))
            theirs.append(timed(lambda: tool(programs, live, "pg_restore", "-d", "accounting", "--clean", str(dump))))
        with connect(live) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        ratios = [mine / his for mine, his in zip(ours, theirs, strict=True)]
    size = int(row[0]) / 1e9 if row else 0.0
    return Result(
        "rollback_vs_restore_clean",
        round(statistics.median(ratios), 4),
        "ratio",
        0.1,
        f"{size:.2f} GB, {pairs} pairs: {statistics.median(ours):.2f} s (fence, swap, unfence) against "
        f"{statistics.median(theirs):.1f} s; ours does not depend on the size, theirs is bounded by the index builds",
    )


def _swap_back(live: Target, launch: str) -> float:
    """One rollback to a twin that stands ready; only the way back is timed."""
    prior = fence.survey_fence(live, ())
    fence.close(live, prior)
    facts = twin.make_twin(live, f"twin_{launch}".replace("-", "_"), launch, at=quiet.safe_point(live), prior=prior)
    fence.reopen(live, prior)

    def back() -> None:
        again = fence.survey_fence(live, ())
        fence.close(live, again)
        swap.swap(Pair.beside(live, facts.twin, launch), facts, f"kept_{launch}".replace("-", "_"))
        fence.reopen(live, again)

    seconds = timed(back)
    with connect(live.on("postgres")) as connection:
        connection.execute(f"DROP DATABASE {f'kept_{launch}'.replace('-', '_')}")  # type: ignore[call-overload]
    return seconds


def launches(folder: Path, count: int) -> list[Result]:
    """Whole launches of the demo's site under traffic: the window and the conductor's memory."""
    windows, bare, peaks = [], [], []
    for number in range(count):
        with Stage(folder / f"stage-{number}", lines=LINES) as stage:
            bare.append(_bare_migrate(stage))
            stage.writers()
            peaks.append(_peak_of_launch(stage))
            window = build(entries_of(stage.plan))["window"]
            windows.append(float(window["seconds"]) - bare[-1])
    return [
        Result(
            "window_minus_migrate_seconds",
            round(statistics.median(windows), 2),
            "s",
            5,
            f"{LINES:,} lines, {count} launches under traffic: traffic stopped to green (with the canary's {_hold()}), "
            f"minus a bare `migrate` of a copy ({statistics.median(bare):.1f} s); the login in a browser is most of it",
        ),
        Result(
            "conductor_rss_mb",
            round(max(peaks), 1),
            "MB",
            150,
            f"highest VmHWM of the conductor's process in {count} whole launches",
        ),
    ]


def _hold() -> str:
    text = (Path(__file__).resolve().parents[1] / "demo" / "launch.toml").read_text()
    return text.split('hold = "')[1].split('"')[0]


def _bare_migrate(stage: Stage) -> float:
    """`manage.py migrate` of the new release on a copy of the database, with nothing around it."""
    admin = stage.server.target
    name = stage.plan.database.name
    url = stage.environment["DATABASE_URL"]
    new = stage.plan.releases.new
    stage.run(stage.plan.releases.old, *stage.plan.releases.old.stop)
    with connect(admin) as connection:
        connection.execute(f"CREATE DATABASE bare TEMPLATE {name} OWNER accounting STRATEGY file_copy")  # type: ignore[call-overload]
    stage.environment["DATABASE_URL"] = url.removesuffix(f"/{name}") + "/bare"
    try:
        seconds = timed(lambda: stage.run(new, *new.manage, "migrate", "--noinput"))
    finally:
        stage.environment["DATABASE_URL"] = url
    with connect(admin) as connection:
        connection.execute("DROP DATABASE bare")
    stage.run(stage.plan.releases.old, *stage.plan.releases.old.start)
    return seconds


def _peak_of_launch(stage: Stage) -> float:
    """Carry the launch out; the conductor's own peak of resident memory, in MB."""
    process = subprocess.Popen(
        [SAFEPOINT, "launch", "--now", "--plain", "--plan", stage.plan_path],
        env={**os.environ, **stage.environment},
        stdout=subprocess.DEVNULL,
    )
    peak = [0.0]

    def sample() -> None:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM")), None)
            except (OSError, ProcessLookupError):
                return
            if line is not None:
                peak[0] = max(peak[0], int(line.split()[1]) / 1024)
            time.sleep(0.05)

    watcher = threading.Thread(target=sample)
    watcher.start()
    code = process.wait(timeout=1800)
    watcher.join()
    if code != 0:
        raise SystemExit(f"the launch ended with {code}")
    return peak[0]


def measure(entries: int = 2_000_000, count: int = 3) -> list[Result]:
    """All numbers of this file but `snapshot_vs_runbook_dump`, which `bench/snapshot.py` measures."""
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        return [help_seconds(), *launches(folder, count), rollback_vs_restore_clean(entries, folder)]


if __name__ == "__main__":
    numbers = measure(*(int(word) for word in sys.argv[1:]))
    merge("launch.json", numbers)
    show(numbers)
