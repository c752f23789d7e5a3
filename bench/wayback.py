"""The numbers of the way back, each measured by a function of its own; one run may measure some of them only.

Run: python bench/wayback.py [names of MEASURES; all of them without any]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
LINES_PER_GB = 4_750_000  # of release 1.0, with all indexes
LAUNCHES = 3


def logical(text: str) -> str:
    """The demo's plan with a twin that is kept level before the window."""
    return text.replace("[wayback.tables", '[wayback]\ntwin = "logical"\nprove = false\n\n[wayback.tables', 1)


def followed(text: str) -> str:
    """The demo's plan with a level twin that follows live, the way back proven."""
    return _whole(text, 'twin = "logical"\nfollow = "live"')


def spooled(text: str) -> str:
    """The demo's plan with a level twin, the way back proven; what is written is only spooled."""
    return _whole(text, 'twin = "logical"')


def _whole(text: str, settings: str) -> str:
    text = text.replace("[wayback.tables", f"[wayback]\n{settings}\n\n[wayback.tables", 1)
    return f"{text}\n[rehearsal]\nrequired = false\n"


def window(name: str, gigabytes: float, count: int = LAUNCHES) -> list[Result]:
    """Stop to green, minus the canary's hold and a bare `migrate` of a copy, under traffic, with the logical twin."""
    launched = []
    for _ in range(count):
        with _stage(gigabytes, logical) as stage:
            launched.append(_Window.measured(stage))
    return [_beyond_migrate(name, launched)]


def whole_life(name: str, gigabytes: float, follow: str = "spool") -> list[Result]:
    """One launch under traffic, 100,000 transactions on it, and its rollback: both numbers of one size."""
    with _stage(gigabytes, followed if follow == "live" else spooled) as stage:
        launched = _Window.measured(stage, bare=gigabytes < 4)
        seconds, detail = rollbacks.write_and_roll_back(stage, follow)
    which, limit = ("live", 2) if follow == "live" else ("100k", 10)
    back = Result(f"rollback_seconds_{which}_{name}", seconds, "s", limit, f"{launched.size / 1e9:.2f} GB: {detail}")
    return [_beyond_migrate(name, [launched]), back]


@dataclass(frozen=True)
class _Window:
    """What one launch took: seconds beyond a migrate, that migrate and which it was, its own one, the login in a
    browser, the longest steps beside it; bytes of its data."""

    beyond: float
    migrate: float
    own: float
    which: str
    login: float
    steps: str
    size: int

    @classmethod
    def measured(cls, stage: Stage, *, bare: bool = True) -> _Window:
        """Launch under traffic, which ends with it.

        Without `bare` the launch's own step is what is taken off: where a migration takes minutes, two of them differ
        by more than all the rest of a window takes.
        """
        with connect(stage.server.target.on(stage.plan.database.name)) as connection:
            # As autovacuum does it with what was loaded just now, between the two migrations: each page whose rows are
            # visible to all has to be marked otherwise by a migration, which costs one of them 2 %.
            connection.execute("VACUUM (ANALYZE)")
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        alone = _bare_migrate(stage) if bare else None
        writers = stage.writers()
        _peak_of_launch(stage)
        writers.stop()
        report = build(entries_of(stage.plan))
        checks = next(one["evidence"]["checkpoints"] for one in report["steps"] if one["id"] == "checkpoints")
        login = next(one["seconds"] for one in checks if one["name"] == "login")
        steps = {
            one["id"]: one["seconds"] or 0.0 for one in report["steps"] if one["phase"] in ("stop", "migrate", "green")
        }
        own = steps.pop("migrate", 0.0)
        migrate = own if alone is None else alone
        longest = sorted(((seconds, step) for step, seconds in steps.items()), reverse=True)[:6]
        return cls(
            float(report["window"]["seconds"]) - migrate - _held(),
            migrate,
            own,
            "the launch's own migrate" if alone is None else "a bare migrate",
            login,
            ", ".join(f"{step} {seconds:.2f}" for seconds, step in longest),
            int(row[0]) if row else 0,
        )


def _held() -> float:
    return parse_duration(_hold()).total_seconds()


def _beyond_migrate(name: str, launched: Sequence[_Window]) -> Result:
    beyond = [one.beyond for one in launched]
    own = [one.beyond + one.migrate - one.own for one in launched]
    compared = f"{launched[-1].which} of {statistics.median(one.migrate for one in launched):.1f} s"
    if own != beyond:
        compared += f", and {', '.join(f'{one:.1f}' for one in own)} s beyond its own of "
        compared += f"{statistics.median(one.own for one in launched):.1f} s"
    detail = (
        f"{launched[-1].size / 1e9:.2f} GB, launches under traffic: {', '.join(f'{one:.1f}' for one in beyond)} s "
        f"(traffic stopped to green, without the {_held():g} s that the plan holds the canary) beyond {compared}; "
        f"the login in a browser "
        f"is {statistics.median(one.login for one in launched):.1f} s of it; steps of the last: {launched[-1].steps}"
    )
    return Result(f"window_minus_migrate_seconds_{name}", round(statistics.median(beyond), 2), "s", 3, detail)


@contextmanager
def _stage(gigabytes: float, change: Callable[[str], str]) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with Stage(Path(folder) / "stage", lines=int(gigabytes * LINES_PER_GB), change=change) as stage:
            yield stage


MEASURES: Mapping[str, Callable[[], list[Result]]] = {
    **carrying.MEASURES,
    **rollbacks.MEASURES,
    "window_minus_migrate_seconds_0.1gb": lambda: window("0.1gb", 0.1),
    # Half an hour on two cores: each of its four copies of the data is loaded, and one is migrated besides.
    "4gb": lambda: whole_life("4gb", 4),
    "rollback_seconds_100k_0.1gb": lambda: whole_life("0.1gb", 0.1)[1:],
    "1gb": lambda: whole_life("1gb", 1),
    "window_minus_migrate_seconds_1gb": lambda: window("1gb", 1),
    "rollback_seconds_live_1gb": lambda: whole_life("1gb", 1, "live")[1:],
    "writers_with_capture": lambda: writers("logical", "writers_with_capture", 0.95),
    # The same where no disk is shared with others: what the processors have to do for it.
    "writers_with_capture_in_memory": lambda: writers(
        "logical", "writers_with_capture_in_memory", 0.95, Path("/dev/shm")
    ),
    # What triggers cost is told, not limited: they are for servers where there is no other way.
    "writers_with_triggers": lambda: writers("triggers", "writers_with_triggers", 0.0),
}


# What another one measures too, by more launches: only when it is named.
_MORE = frozenset({"window_minus_migrate_seconds_1gb"})


def main(names: list[str]) -> int:
    """Measure what was named, and put it into the file at once: a later one may fail."""
    for name in names or [one for one in MEASURES if one not in _MORE]:
        found = MEASURES[name]()
        merge(FILE, found)
        show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
