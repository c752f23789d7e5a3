"""Grants of a role that owns nothing: it needs its own right to enter the schema first, whichever job is quicker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from awkward import run, snap

from safepoint.backup.fingerprint import take
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

TABLES = 8
TRIES = 3  # one alone was lucky now and then


@pytest.fixture
def granted(database: Target) -> Iterator[Target]:
    """A database in which one role passes on what it was granted."""
    run(database, "create role passing", "create role given")
    run(database, "create schema s", "grant usage on schema s to passing")
    for n in range(TABLES):
        run(
            database,
            f"create table s.t{n} (a int); grant select on s.t{n} to passing with grant option; "
            f"set role passing; grant select on s.t{n} to given",
        )
    yield database
    run(database, "drop schema s cascade", "drop role passing", "drop role given")


def test_they_come_back_whole_and_in_part(granted: Target, server: Server, tmp_path: Path) -> None:
    folder = snap(granted, server, tmp_path / "snapshots")
    copy = granted.on(f"{granted.dbname}_copy")
    for _ in range(TRIES):
        assert prove(folder, scratch_parent=tmp_path / "scratch", jobs=4).notes == ()
        try:
            place(folder, server.target, copy.dbname, only=("s.t1", "s.t2"), jobs=4)
            now = take(copy).ownership
            assert now["grants by others of table s.t1"] == "given=select by passing"
        finally:
            run(granted, f"drop database if exists {copy.dbname} with (force)")
