"""The numbers of a rehearsal: how well it foresees the live migration, and what looking and comparing cost.

Run: python bench/rehearsal.py [journal lines] [pairs]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from psycopg import sql
from results import Result, merge, show

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


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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


def run_bare(stage: Stage) -> float:
    """Seconds of `migrate` on a copy of live, as the launch runs it."""
    with trial(stage) as (manage, _):
        return timed(lambda: migrate(manage))


def run_observed(stage: Stage) -> float:
    """Seconds of the same, watched."""
    with trial(stage) as (manage, target):
        return timed(lambda: watch(manage, target))


def measure(lines: int = 200_000, pairs: int = 5) -> list[Result]:
    """Rehearse first, then migrate copies of the live database, bare and watched in turn."""
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-") as folder:
        Path(folder).chmod(0o711)
        with Stage(Path(folder) / "stage", lines=lines, own_ports=False) as stage:
            os.environ.update(stage.environment)
            stage.safepoint("backup", capture=True)
            answer = json.loads(stage.safepoint("rehearse", "--json", capture=True, timeout=1800).stdout)
            for release in (stage.plan.releases.old, stage.plan.releases.new):
                stage.run(release, *release.stop, check=False)
            runs = [(run_bare(stage), run_observed(stage)) for _ in range(pairs)]
            hashed = timed(lambda: fingerprint.take(stage.server.target.on(stage.plan.database.name)))
    return results(lines, answer, runs, hashed)


def results(lines: int, answer: dict[str, object], runs: list[tuple[float, float]], hashed: float) -> list[Result]:
    """The numbers. Pure."""
    bare = statistics.median(one for one, _ in runs)
    expected = answer["forecast"]["migrate"]["expected"]  # type: ignore[index]
    seconds: dict[str, float] = answer["seconds"]  # type: ignore[assignment]
    extra = sum(value for name, value in seconds.items() if name not in ("snapshot", "restore", "migrate"))
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
            "rehearsal_extra_vs_migrate_and_fingerprints",
            round(extra / (bare + hashed), 3),
            "x",
            1.5,
            f"{size}: {extra:.2f} s beyond restore and migrate ({parts}) "
            f"against {bare:.2f} s migrate + {hashed:.2f} s fingerprint",
        ),
    ]


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]]
    found = measure(*words)
    merge("rehearsal.json", found)  # runs of other sizes stay
    show(found)
