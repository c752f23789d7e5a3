"""The checkpoint of the capture while somebody else brings a giant transaction into the spool."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from replay_ground import ground

from safepoint.checkpoints.checkpoint import timed
from safepoint.launch.background import Background
from safepoint.launch.ground import Ground
from safepoint.launch.verbs import opening
from safepoint.postgres.target import Target
from safepoint.wayback.capture import spool
from safepoint.wayback.capture.spool import Spool


def test_a_look_beside_a_follower_that_is_long_at_it_goes_by_what_the_server_keeps(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_PATIENCE", 0.1)
    with ground(database, tmp_path, "create table entry (id int primary key)", "") as made:
        made.write("insert into entry values (1)")
        made.drain()
        made.write("insert into entry values (2)")
        header = {"launch": made.facts.launch_id, "slot": made.facts.slot, "start_lsn": made.facts.start_lsn}

        def look(allowed_gb: float) -> tuple[str, str]:
            limits, every = SimpleNamespace(capture_wal_gb=allowed_gb), SimpleNamespace(every=timedelta(seconds=1))
            facts: Any = SimpleNamespace(
                need=lambda _name: made.facts.as_json(),
                target=made.live,
                folder=made.folder,
                cancelled=lambda: False,
                background=Background(),
                plan=SimpleNamespace(checkpoints=limits, watch=every),
            )
            found = timed("capture", "Capture", lambda: opening._capture(cast(Ground, facts)))
            return found.verdict, found.detail

        with Spool(made.spool, header):
            assert look(1)[0] == "pass" and look(1)[1].startswith("1 transactions spooled")
            assert look(0)[0] == "fail"
        assert look(1)[1].startswith("2 transactions spooled")
