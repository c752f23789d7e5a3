"""The numbers of a rehearsal: how well it foresees the live migration, and what looking and comparing cost.

Run: python bench/rehearsal.py [journal lines] [pairs]; without them, all three sizes (12 minutes on two quiet cores).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from psycopg import sql
from results import Result, merge, show, timed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

from stage import Stage  # the demo's own module

from safepoint.backup import fingerprint
from safepoint.django.managepy import Manage
from safepoint.django.migrations import migrate
from safepoint.hosts import open_host
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.rehearsal.observation import watch

TRIAL = "trial"
# Journal lines, and how many pairs of migrations: the longer one takes, the less two differ.
SIZES = {200_000: 5, 1_000_000: 2, 4_000_000: 1}
# Live, a copy of it, the snapshot, and in the scratch server the copies before, undone and twin, each with its log.
BYTES_OF_LINE = 6_000


def limit(lines: int) -> float:
    """Seconds after which whatever runs is ended, and nothing was measured."""
    return 300 + lines / 2_000


def room(lines: int, folder: Path) -> None:
    """Refuse what the disk cannot hold.

    Raises:
        SystemExit: too little is free.
    """
    free, needed = shutil.disk_usage(folder).free, lines * BYTES_OF_LINE
    if free < needed:
        sys.exit(f"{lines:,} lines need {needed / 1e9:.0f} GB in {folder}, and {free / 1e9:.0f} GB are free")


@contextmanager
def trial(stage: Stage) -> Iterator[tuple[Manage, Target]]:
    """A copy of the live database on the live server, with the new release pointed at it."""
    superuser, login = stage.server.target, urlsplit(stage.environment["DATABASE_URL"])
    live, role = stage.plan.database.name, str(login.username)
    with connect(superuser) as connection:
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [live])
        connection.execute(
            sql.SQL("create database {} template {} owner {} strategy file_copy").format(
                sql.Identifier(TRIAL), sql.Identifier(live), sql.Identifier(role)
            )
        )
        connection.execute("checkpoint")
        url = superuser.on(TRIAL).login(role, unquote(login.password or "")).url()
        host = open_host("here", stage.plan.host("here"), stage.plan.folder)
        try:
            yield Manage(host, stage.plan.releases.new, secrets={"DATABASE_URL": url}), superuser.on(TRIAL)
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(TRIAL)))


def run_bare(stage: Stage, seconds: float | None = None) -> float:
    """Seconds of `migrate` on a copy of live, as the launch runs it; it is ended after `seconds`."""
    with trial(stage) as (manage, _):
        return timed(lambda: migrate(manage, timeout=seconds))


def run_observed(stage: Stage, seconds: float | None = None) -> float:
    """Seconds of the same, watched."""
    with trial(stage) as (manage, target):
        return timed(lambda: watch(manage, target, timeout=seconds))


def measure(lines: int, pairs: int) -> list[Result]:
    """Rehearse first, as often as is migrated afterwards: copies of the live database, bare and watched in turn.

    What a rehearsal costs is the median; what the first one foresaw is held against the migrations.
    """
    most = limit(lines)
    room(lines, Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-") as folder:
        Path(folder).chmod(0o711)
        with Stage(Path(folder) / "stage", lines=lines, own_ports=False) as stage:
            os.environ.update(stage.environment)
            stage.safepoint("backup", capture=True, timeout=3 * most)
            answers = [rehearse(stage, most) for _ in range(pairs)]
            for release in (stage.plan.releases.old, stage.plan.releases.new):
                stage.run(release, *release.stop, check=False)
            runs = [(run_bare(stage, most), run_observed(stage, most)) for _ in range(pairs)]
            hashed = timed(lambda: fingerprint.take(stage.server.target.on(stage.plan.database.name)))
    return results(lines, answers, runs, hashed)


def rehearse(stage: Stage, most: float) -> dict[str, Any]:
    """What a rehearsal says of itself."""
    found: dict[str, Any] = json.loads(stage.safepoint("rehearse", "--json", capture=True, timeout=3 * most).stdout)
    return found


def beyond(seconds: dict[str, float]) -> float:
    """Seconds of a rehearsal beyond taking or finding the snapshot, restoring it and migrating. Pure."""
    return sum(value for name, value in seconds.items() if name not in ("snapshot", "restore", "migrate"))


def results(lines: int, answers: list[dict[str, Any]], runs: list[tuple[float, float]], hashed: float) -> list[Result]:
    """The numbers. Pure."""
    bare = statistics.median(one for one, _ in runs)
    expected = answers[0]["forecast"]["migrate"]["expected"]
    costs = sorted(((beyond(answer["seconds"]), answer["seconds"]) for answer in answers), key=itemgetter(0))
    extra = statistics.median(cost for cost, _ in costs)
    seconds = costs[len(costs) // 2][1]
    spread = ", ".join(f"{cost:.2f}" for cost, _ in costs)
    size = f"{lines:,} lines"
    busy = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    parts = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
    return [
        Result(
            f"forecast_error_{lines}",
            round(abs(expected / bare - 1), 3),
            "",
            0.25,
            f"{size}: {expected:.2f} s foreseen, then {bare:.2f} s (median of {len(runs)} copies of live: "
            f"{min(one for one, _ in runs):.1f} to {max(one for one, _ in runs):.1f} s); load of the machine {busy}",
        ),
        Result(
            "observed_vs_bare_migrate",
            round(statistics.median(two / one for one, two in runs), 3),
            "x",
            1.10,
            f"{size}, median of {len(runs)} pairs in turn",
        ),
        Result(
            f"rehearsal_extra_vs_migrate_and_fingerprints_{lines}",
            round(extra / (bare + hashed), 3),
            "x",
            1.5,
            f"{size}: {extra:.2f} s beyond restore and migrate (median of {spread}; {parts}) "
            f"against {bare:.2f} s migrate + {hashed:.2f} s fingerprint",
        ),
    ]


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    sizes = {words[0]: words[1] if len(words) > 1 else SIZES.get(words[0], 3)} if words else SIZES
    for size, pairs in sizes.items():
        found = measure(size, pairs)
        merge("rehearsal.json", found)  # runs of other sizes stay
        show(found)
