"""The numbers of the way back, each measured by a function of its own; one run may measure some of them only.

Run: python bench/wayback.py [names of MEASURES; all of them without any]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import carrying
import rollbacks
from launch import _bare_migrate, _hold, _peak_of_launch
from results import Result, merge, show
from stage import Stage  # the demo's own module
from throughput import writers

from safepoint.config.durations import parse_duration
from safepoint.launch.begin import entries_of
from safepoint.launch.report import build
from safepoint.postgres.connections import connect

FILE = "wayback.json"
LINES_PER_GB = 2_900_000
LAUNCHES = 3


def logical(text: str) -> str:
    """The demo's plan with a twin that is kept level before the window."""
    return text.replace("[wayback.tables", '[wayback]\ntwin = "logical"\nprove = false\n\n[wayback.tables', 1)


def window(name: str, gigabytes: float, count: int = LAUNCHES) -> list[Result]:
    """Stop to green, minus the canary's hold and a bare `migrate` of a copy, under traffic, with the logical twin."""
    hold = parse_duration(_hold()).total_seconds()
    found, bare, logins, size = [], [], [], 0
    for _ in range(count):
        with _stage(int(gigabytes * LINES_PER_GB)) as stage:
            with connect(stage.server.target.on(stage.plan.database.name)) as connection:
                row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            size = int(row[0]) if row else 0
            bare.append(_bare_migrate(stage))
            stage.writers()
            _peak_of_launch(stage)
            report = build(entries_of(stage.plan))
            found.append(float(report["window"]["seconds"]) - bare[-1] - hold)
            checks = next(one["evidence"]["checkpoints"] for one in report["steps"] if one["id"] == "checkpoints")
            logins.append(next(one["seconds"] for one in checks if one["name"] == "login"))
    detail = (
        f"{size / 1e9:.2f} GB, {count} launches under traffic: {', '.join(f'{one:.1f}' for one in found)} s "
        f"(traffic stopped to green, without the {hold:g} s that the plan holds the canary) beyond a bare migrate of "
        f"{statistics.median(bare):.1f} s; the login in a browser is {statistics.median(logins):.1f} s of it"
    )
    return [Result(f"window_minus_migrate_seconds_{name}", round(statistics.median(found), 2), "s", 3, detail)]


def _stage(lines: int) -> Stage:
    folder = Path(tempfile.mkdtemp(prefix="safepoint-bench-"))
    folder.chmod(0o755)
    return Stage(folder / "stage", lines=lines, change=logical)


MEASURES: Mapping[str, Callable[[], list[Result]]] = {
    **carrying.MEASURES,
    **rollbacks.MEASURES,
    "window_minus_migrate_seconds_0.1gb": lambda: window("0.1gb", 0.1),
    "window_minus_migrate_seconds_1gb": lambda: window("1gb", 1, 1),
    "window_minus_migrate_seconds_4gb": lambda: window("4gb", 4, 1),
    "writers_with_capture": lambda: writers("logical", "writers_with_capture", 0.95),
    # What triggers cost is told, not limited: they are for servers where there is no other way.
    "writers_with_triggers": lambda: writers("triggers", "writers_with_triggers", 0.0),
}


def main(names: list[str]) -> int:
    """Measure what was named, and put it into the file at once: a later one may fail."""
    for name in names or MEASURES:
        found = MEASURES[name]()
        merge(FILE, found)
        show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
