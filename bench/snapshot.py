"""Snapshots and proofs against the runbook's dump, restore and count, against counting, and against pgBackRest.

Paired: all are run in turn, and the median of the ratios counts.
Run: python bench/snapshot.py [entries] [pairs]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from physical import MAJOR, PgBackRest
from physical import program as pgbackrest
from results import Result, merge, show, timed

from safepoint.backup.fingerprint import take
from safepoint.backup.proof import prove
from safepoint.backup.snapshot import take_snapshot
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import Installation, installation, installations
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

DATA = Path(__file__).parent / "data.sql"
PASSWORD = "bench"
SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "8GB", "fsync": "off", "autovacuum": "off"}
BIG = ("journal_line", "journal_entry")


def tool(programs: Installation, target: Target, *argv: str) -> None:
    """Run one of PostgreSQL's programs."""
    env = {**os.environ, **target.env(), **target.secrets()}
    subprocess.run([programs.program(argv[0]), *argv[1:]], env=env, check=True, stdout=subprocess.DEVNULL)


def load(programs: Installation, target: Target, entries: int) -> None:
    """Fill a database."""
    tool(programs, target, "psql", "-q", "-v", f"entries={entries}", "-f", str(DATA))


def count(target: Target) -> None:
    """The bare count of the two big tables."""
    with connect(target) as connection:
        for table in BIG:
            connection.execute(f"select count(*) from {table}")  # type: ignore[call-overload]


@dataclass
class Times:
    """Seconds of each piece of work, one a round."""

    of: dict[str, list[float]] = field(default_factory=dict)

    def run(self, name: str, work: Callable[[], object]) -> None:
        """Do it and keep its time."""
        self.of.setdefault(name, []).append(timed(work))

    def ratio(self, name: str, ours: tuple[str, ...], theirs: tuple[str, ...], limit: float, detail: str) -> Result:
        """The median over the rounds of one sum of times against another."""
        mine, other = (
            [sum(parts) for parts in zip(*(self.of[part] for part in names), strict=True)] for names in (ours, theirs)
        )
        told = ", ".join(f"{one:.2f} s / {two:.2f} s" for one, two in zip(mine, other, strict=True))
        value = statistics.median(one / two for one, two in zip(mine, other, strict=True))
        return Result(name, round(value, 3), "ratio", limit, f"{told}; {detail}")

    def middle(self, name: str) -> str:
        """The median, as text."""
        return f"{name} {statistics.median(self.of[name]):.2f} s"


def measure(entries: int, pairs: int) -> list[Result]:
    """All numbers of this file."""
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        programs = installation(17)
        server = stack.enter_context(Server.create(folder / "server", programs, password=PASSWORD, settings=SETTINGS))
        load(programs, server.target, entries)
        ground = Ground(folder, programs, server.target, Times())
        peer = _peer(stack, folder, entries)
        for number in range(pairs):
            ground.round(number)
            if peer is not None:
                ground.times.run("pgBackRest backup", peer.backup)
                ground.times.run("pgBackRest restore", peer.restore)
                peer.forget_copy()
        return ground.results(peer is not None)


def _peer(stack: ExitStack, folder: Path, entries: int) -> PgBackRest | None:
    """The peer on a server of its own; None, and a word about it, where it is not installed."""
    if pgbackrest() is None or all(found.major != MAJOR for found in installations()):
        print(f"pgBackRest or PostgreSQL {MAJOR} is not installed: proven_vs_pgbackrest_backup_restore is left out")
        return None
    programs = installation(MAJOR)
    home = folder / "pgbackrest"
    home.mkdir()
    home.chmod(0o777)
    settings = {**SETTINGS, **PgBackRest.settings(home)}
    server = stack.enter_context(Server.create(folder / "peer", programs, password=PASSWORD, settings=settings))
    load(programs, server.target, entries)
    return PgBackRest(server, home, PASSWORD)


@dataclass(frozen=True)
class Ground:
    """The server with the data, and what is done to it."""

    folder: Path
    programs: Installation
    target: Target
    times: Times

    def round(self, number: int) -> None:
        """The runbook's way, then ours."""
        dump = self.folder / "runbook.dump"
        test = self.target.on("test_restore")
        run, programs = self.times.run, self.programs
        run("runbook dump", lambda: tool(programs, self.target, "pg_dump", "-F", "c", "-b", "-f", str(dump)))
        tool(programs, self.target, "createdb", "test_restore")
        run("runbook restore", lambda: tool(programs, test, "pg_restore", "-d", "test_restore", str(dump)))
        sanity = "select count(*) from users_userprofile"
        run("runbook count", lambda: tool(programs, test, "psql", "-d", "test_restore", "-c", sanity))
        tool(programs, self.target, "dropdb", "test_restore")
        snapshot = self.folder / "snapshots" / f"s{number}"
        run("snapshot", lambda: self._snapshot(snapshot.name))
        run("proof", lambda: prove(snapshot, scratch_parent=self.folder / "scratch", jobs=os.cpu_count() or 1))
        run("count", lambda: count(self.target))
        run("fingerprint", lambda: take(self.target, jobs=os.cpu_count() or 1))

    def _snapshot(self, name: str) -> None:
        take_snapshot(
            self.target,
            Here("here", self.folder),
            installation=self.programs,
            folder=self.folder / "snapshots",
            snapshot_id=name,
            launch_id=None,
            jobs=os.cpu_count() or 1,
        )

    def results(self, peer: bool) -> list[Result]:
        """The numbers."""
        with connect(self.target) as connection:
            row = connection.execute("select pg_database_size(current_database())").fetchone()
        where = f"{(row[0] if row else 0) / 1024**2:.0f} MB, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}"
        archive = sum(path.stat().st_size for path in (self.folder / "snapshots" / "s0").rglob("*") if path.is_file())
        sizes = f"{archive / 1024**2:.0f} MB / {(self.folder / 'runbook.dump').stat().st_size / 1024**2:.0f} MB"
        times = self.times
        runbook = ("runbook dump", "runbook restore", "runbook count")
        found = [
            times.ratio("snapshot_vs_runbook_dump", ("snapshot",), runbook[:1], 0.25, f"{where}; {sizes}"),
            times.ratio(
                "proven_vs_runbook_path",
                ("snapshot", "proof"),
                runbook,
                0.40,
                f"{where}; {', '.join(times.middle(name) for name in ('snapshot', 'proof', *runbook))}; bounded by the "
                "processors: 34 s of one core, of which the restore's COPY, indexes and keys take 20, the dump 6, and "
                "hashing both sides 8",
            ),
            times.ratio(
                "fingerprint_vs_count",
                ("fingerprint",),
                ("count",),
                3.0,
                f"{where}; a count does not look into the rows (36 ns each in one process). Bounded by calls: each "
                "value is hashed twice for 128 bits, 10 to 19 ns a call, and numeric is written as text first, 115 ns",
            ),
        ]
        if peer:
            found.append(
                times.ratio(
                    "proven_vs_pgbackrest_backup_restore",
                    ("snapshot", "proof"),
                    ("pgBackRest backup", "pgBackRest restore"),
                    1.0,
                    f"{where}; ours on PostgreSQL {self.programs.major}, pgBackRest on {MAJOR} with the same data: it "
                    "copies files and waits for the disk, loads nothing, builds no index and starts no server",
                )
            )
        return found


if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    numbers = measure(*[*arguments, *(2_000_000, 3)[len(arguments) :]])
    merge("snapshot.json", numbers)
    show(numbers)
