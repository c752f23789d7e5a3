"""An order does not wait for a server that decodes a giant transaction: it gives no row before it has all of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How, arm, disarm, drain
from safepoint.wayback.capture.spool import read_changes

ROWS: dict[How, int] = {"logical": 250_000, "triggers": 50_000}  # some second of decoding on a fast machine


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_a_drain_is_stopped_while_the_server_gives_nothing_yet(database: Target, tmp_path: Path, how: How) -> None:
    with connect(database) as connection:
        connection.execute("create table entry (id int primary key, memo text)")
        facts = arm(database, "shop-2.0", how)
        connection.execute(f"insert into entry select n, 'memo' from generate_series(1, {ROWS[how]}) n".encode())
    ordered = time.monotonic() + 0.2
    stopped = drain(database, facts, tmp_path / "spool", cancelled=lambda: time.monotonic() > ordered)
    took = time.monotonic() - ordered
    assert not stopped.complete and stopped.total_transactions == 0
    again = time.monotonic()
    assert drain(database, facts, tmp_path / "spool", cancelled=lambda: False).complete
    whole = time.monotonic() - again
    assert took < max(0.5, whole / 3), f"stopped after {took:.1f} s, where all of it takes {whole:.1f} s"
    assert sum(1 for _ in read_changes(tmp_path / "spool")) == ROWS[how]
    disarm(database, facts)
