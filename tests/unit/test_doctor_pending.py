"""What the doctor says of many pending migrations: the first by name, and how many more there are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from safepoint.launch.doctor.releases import _migrations_of


def test_of_many_pending_migrations_it_is_said_how_many_are_not_named() -> None:
    pending: Any = [
        SimpleNamespace(label=f"shop.000{number}_x", runs_python=False, runs_sql=False, atomic=True)
        for number in range(9)
    ]
    project: Any = SimpleNamespace(pending=pending, conflicts=(), inconsistent=None, unmade=())
    release: Any = SimpleNamespace(version="2.0")
    (said,) = _migrations_of(release, project, "new")
    assert said.message.startswith("9 pending (0 run Python, 0 run SQL): shop.0000_x, ")
    assert said.message.endswith("shop.0004_x and 4 more")
