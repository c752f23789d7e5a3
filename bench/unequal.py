"""How well a rehearsal on a fast machine foresees the migration of a live server that is slower, and knows its limits.

The live server is slowed by the kernel: a control group of its own (version 1: cpu, blkio) gives it a share of one
processor, or a share of the disk. The scratch server has the whole machine. Needs root and Linux, else it says so.

Run: python bench/unequal.py [journal lines]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rehearsal import run_bare
from results import Result, merge, show
from stage import Stage  # the demo's own module, which `rehearsal` put on the path

from safepoint.postgres.connections import connect

GROUPS = Path("/sys/fs/cgroup")
PERIOD = 5_000  # microseconds: short, so that a scan of a tenth of a second meets the same share as a long statement
NAME = f"safepoint-bench-{os.getpid()}"

CPU = "cpu/cpu.cfs_quota_us"
BYTES, WRITES = "blkio/blkio.throttle.write_bps_device", "blkio/blkio.throttle.write_iops_device"


@dataclass(frozen=True)
class Case:
    """A kind of slowness: files of the control groups, in which {disk} is the number of the disk that the server stands
    on. `timed`: the live server times its syncs, and has made some."""

    name: str
    limits: Mapping[str, str]
    timed: bool = False


CASES = (
    Case("equal", {}),
    Case("processor_0.4", {CPU: str(int(PERIOD * 0.4))}),
    Case("disk_30MBps", {BYTES: f"{{disk}} {30 * 1024**2}"}),
    Case("processor_0.5_disk_30MBps", {CPU: str(int(PERIOD * 0.5)), BYTES: f"{{disk}} {30 * 1024**2}"}),
    Case("disk_100_writes_timed", {WRITES: "{disk} 100"}, timed=True),
)


def usable() -> str | None:
    """Why it cannot be measured here; None where it can."""
    if os.geteuid() != 0:
        return "control groups need root"
    if not all((GROUPS / one / "cgroup.procs").exists() for one in ("cpu", "blkio")):
        return "no control groups of version 1 with cpu and blkio are mounted"
    return None


@contextmanager
def slowed(stage: Stage, limits: Mapping[str, str]) -> Iterator[None]:
    """The stage's server in control groups with these limits; back where it was, and they gone, at the end."""
    folders = {name: GROUPS / name / NAME for name in sorted({file.split("/")[0] for file in limits})}
    number = stage.server.data.stat().st_dev
    disk = f"{os.major(number)}:{os.minor(number)}"
    try:
        for name, folder in folders.items():
            folder.mkdir()
            if name == "cpu":
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD))
        for file, text in limits.items():
            name, _, file = file.partition("/")
            (folders[name] / file).write_text(text.format(disk=disk))
        for folder in folders.values():
            _move(stage, folder / "cgroup.procs")
        yield
    finally:
        for name, folder in folders.items():
            _move(stage, GROUPS / name / "cgroup.procs")
            for pid in (folder / "cgroup.procs").read_text().split():
                _put(pid, GROUPS / name / "cgroup.procs")
            folder.rmdir()


def _move(stage: Stage, into: Path) -> None:
    """The server and its sessions; what it starts later is born there."""
    with connect(stage.server.target) as connection:
        pids = [row[0] for row in connection.execute("select pid from pg_stat_activity").fetchall()]
    for pid in (stage.server.pid, *pids):
        _put(str(pid), into)


def _put(pid: str, into: Path) -> None:
    try:
        into.write_text(pid)
    except ProcessLookupError:
        return


def commits(stage: Stage) -> None:
    """A live server that has lived: syncs of small commits, timed by itself."""
    with connect(stage.server.target) as connection:
        connection.execute("alter system set track_wal_io_timing = on")
        connection.execute("select pg_reload_conf(), pg_sleep(0.2)")
    with connect(stage.server.target) as connection:
        connection.execute("select pg_stat_reset_shared('wal')")
        for _ in range(600):
            connection.execute("select pg_logical_emit_message(true, 'bench', '')")


def measure_case(stage: Stage, case: Case, lines: int, runs: int = 1) -> list[Result]:
    """The forecast made with the live server slowed, and then migrations of copies on it."""
    with slowed(stage, case.limits):
        if case.timed:
            commits(stage)
        answer = json.loads(stage.safepoint("rehearse", "--json", capture=True, timeout=1800).stdout)
        took = statistics.median(run_bare(stage) for _ in range(runs))
    foreseen, own = answer["forecast"]["migrate"], answer["forecast"]["speeds"]["own"]
    error = abs(foreseen["expected"] / took - 1)
    inside = foreseen["low"] <= took <= foreseen["high"]
    here = answer["migrate"]["seconds"]
    ratio, speeds = answer["forecast"]["ratio"], answer["forecast"]["speeds"]
    detail = (
        f"{lines:,} lines: {here:.2f} s here, {foreseen['expected']:.2f} s ({foreseen['low']:.2f} to "
        f"{foreseen['high']:.2f}) foreseen, then {took:.2f} s (median of {runs}); scanning x {ratio['warm']:.2f}, "
        f"writing x {speeds['write']}, syncing x {speeds['sync']}; of the seconds here the server was at work for "
        f"{own['active_seconds']}, and synced for {own['sync_seconds']:.2f}"
    )
    # What a migration waits for a disk cannot be known where the live server does not time it: then the range has it.
    known = case.timed or not any("blkio" in file for file in case.limits)
    found = Result(f"unequal_forecast_in_range_{case.name}", float(inside), "", 1.0, detail, at_least=True)
    return [
        found,
        *([Result(f"unequal_forecast_error_{case.name}", round(error, 3), "", 0.25, detail)] if known else []),
    ]


def measure(lines: int = 200_000, names: Sequence[str] = ()) -> list[Result]:
    """All cases, one after the other."""
    found: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-") as folder:
        Path(folder).chmod(0o711)
        with Stage(Path(folder) / "stage", lines=lines, own_ports=False) as stage:
            os.environ.update(stage.environment)
            stage.safepoint("backup", capture=True)
            stage.run(stage.plan.releases.old, *stage.plan.releases.old.stop, check=False)
            for case in CASES:
                if not names or case.name in names:
                    found += measure_case(stage, case, lines)
                    show(found[-1:])
    return found


if __name__ == "__main__":
    if why := usable():
        sys.exit(f"not measured: {why}")
    done = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000, sys.argv[2:])
    merge("rehearsal.json", done)
    show(done)
