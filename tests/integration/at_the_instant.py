"""Something is changed once the instant of a snapshot is fixed, before it is dumped."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward import run

from safepoint.backup.contents import reading
from safepoint.backup.fingerprint import export
from safepoint.backup.snapshot import Instant, take_snapshot
from safepoint.errors import DatabaseError
from safepoint.hosts.here import Here
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


def is_not_taken(database: Target, server: Server, folder: Path, change: str, match: str) -> None:
    """No snapshot is taken of it, and the message says why, and what to do."""
    with reading(database) as connection:
        at = Instant("0/0", export(connection))
        run(database, change)
        with pytest.raises(DatabaseError, match=match) as raised:
            take_snapshot(
                database,
                Here("here", Path.cwd()),
                installation=server.installation,
                folder=folder,
                snapshot_id="s",
                launch_id=None,
                at=at,
            )
    assert "Take it again" in (raised.value.remedy or "")
    assert not (folder / "s").exists()
