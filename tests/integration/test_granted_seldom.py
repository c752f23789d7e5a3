"""Grants that stand apart from those of whole objects: of columns, of parameters, of PostgreSQL's own catalogues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from awkward import run, snap

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.placement import place
from safepoint.backup.prints import lost
from safepoint.backup.proof import prove
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

TABLES = 8


@pytest.fixture
def granted(database: Target) -> Iterator[Target]:
    """A database in which one role may pass on what it was granted, of columns alone; and a role of another's."""
    run(database, "create role passing", "create role given", "create role strange")
    run(database, "create schema s", "grant usage on schema s to passing")
    for n in range(TABLES):
        run(database, f"create table s.t{n} (a int, b int); grant select (a) on s.t{n} to passing with grant option")
    yield database
    run(database, "revoke all on parameter work_mem from strange, public")
    run(database, "drop schema s cascade", "drop owned by given", "drop role passing, given, strange")


def test_grants_of_columns_by_others_come_back_whole_and_in_part(
    granted: Target, server: Server, tmp_path: Path
) -> None:
    run(granted, *(f"set role passing; grant select (a) on s.t{n} to given" for n in range(TABLES)))
    run(granted, "grant select (rolname) on pg_authid to given", "create extension pg_stat_statements schema s")
    run(granted, "grant select on s.pg_stat_statements to passing with grant option")
    run(granted, "set role passing; grant select on s.pg_stat_statements to given")
    folder = snap(granted, server, tmp_path / "snapshots")
    copy = granted.on(f"{granted.dbname}_copy")
    assert prove(folder, scratch_parent=tmp_path / "scratch", jobs=4).notes == ()
    try:
        place(folder, server.target, copy.dbname, only=("s.t1", "s.t2"), jobs=4)
        assert take(copy).ownership["grants by others of table column s.t1.a"] == "given=select by passing"
    finally:
        run(granted, f"drop database if exists {copy.dbname} with (force)")


def test_each_is_told(granted: Target) -> None:
    run(granted, "set role passing; grant select (a) on s.t1 to given")
    untold, before = [], take(granted)
    for change in (
        "set role passing; revoke select (a) on s.t1 from given; reset role; grant select (a) on s.t1 to given",
        "grant select (rolname) on pg_authid to given",
        "grant select (rolname) on pg_authid to given with grant option",
        "grant update (setting) on pg_settings to given",
    ):
        run(granted, change)
        after = take(granted)
        untold += [] if compare(before, after) and before.digest != after.digest else [change]
        before = after
    assert untold == []


def test_of_a_parameter_that_somebody_else_may_set_nothing_is_told_and_of_one_that_everybody_may_a_note_is(
    granted: Target,
) -> None:
    before = take(granted)
    run(granted, "grant set on parameter work_mem to strange")
    assert take(granted).digest == before.digest
    run(granted, "grant set on parameter work_mem to public")
    after = take(granted)
    assert compare(before, after) == () and "parameter work_mem (set)" in lost(after, before)[0]
