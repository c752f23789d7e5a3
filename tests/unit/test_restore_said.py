"""What `safepoint restore` says once a snapshot stands."""

from __future__ import annotations

from safepoint.backup.placement import Placed
from safepoint.cli.restore import lines_of
from safepoint.launch.snapshots.restoring import Replaced

PLACED = Placed("s1", "2026-03-01T08:00:00", "shop_restored", (), 12, 3, 1.0, (), ())


def test_whoever_replaced_the_live_database_is_told_to_restart_what_used_it() -> None:
    done = Replaced(PLACED, "shop", "shop_before_restore", 0.2, ("ALTER DATABASE a RENAME TO b",))
    assert any("restart the application and clear its cache" in line for line in lines_of(done))
    assert not any("restart" in line for line in lines_of(PLACED))
