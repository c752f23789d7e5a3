"""`coalesce(old.COLUMN, ...)`: rows that were there keep their value, that of a new one is read from other tables."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from replay_ground import BOTH, LAUNCH, Ground, ground, operations, reasons, whole

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.replay.manner import Manner, NotWhole
from safepoint.wayback.replay.replay import READ_ONLY, carry, entering
from safepoint.wayback.trial.roundtrip import doubtful, round_trip

# A run had a version of its own; from now on it is its build's, which the migration gave one of all of them.
BEFORE = """
create table version (id int primary key);
create table build (id int primary key, name text constraint short check (length(name) < 3));
create table run (id int primary key, build_id int not null references build, version_id int not null
    references version, owner text);
insert into version select generate_series(1, 9);
insert into build select n, 'b' || n from generate_series(1, 3) n;
insert into run select n, 1 + n % 3, n, 'o' || n from generate_series(1, 6) n;
"""
CHANGE = """
alter table build add version_id int not null default 1 references version;
alter table build drop constraint short;
alter table run drop version_id, drop owner;
"""
CHANGES = operations(
    ("column-removed", "run", "run", "version_id", None), ("column-removed", "run", "run", "owner", None)
)
READ = "(select b.version_id from build b where b.id = new.build_id)"
MAPPERS = {"run": {"version_id": f"Coalesce( old.version_id, {READ})", "owner": "coalesce(old.owner, 'nobody')"}}
Launch = Callable[[How], AbstractContextManager[Ground]]


@pytest.fixture
def launch(home: Target, tmp_path: Path) -> Launch:
    return lambda how: ground(home, tmp_path, BEFORE, CHANGE, CHANGES, MAPPERS, how)


def runs(made: Ground) -> dict[int, tuple[int, int, str]]:
    return {row[0]: row[1:] for row in made.old("select id, build_id, version_id, owner from run order by id")}  # type: ignore[misc]


@BOTH
def test_rows_that_were_there_keep_their_value_and_that_of_a_new_one_is_read(launch: Launch, how: How) -> None:
    with launch(how) as made:
        trip = round_trip(made.twin, made.live, made.mapping())
        assert doubtful(made.mapping(), trip) == ()
        assert {one.table: one.reads for one in trip.tables}["public.run"] == ("public.build",)
        made.write("insert into run values (7, 1), (8, 2)", "update build set version_id = 5 where id = 2")
        made.write("update run set build_id = 2 where id = 1", "delete from run where id = 6")
        made.write("update run set id = 50 where id = 5", "insert into run values (6, 2)")
        whole(made, made.carry())
        assert runs(made) == {
            1: (2, 1, "o1"),
            2: (3, 2, "o2"),
            3: (1, 3, "o3"),
            4: (2, 4, "o4"),
            50: (3, 5, "o5"),
            6: (2, 5, "nobody"),
            7: (1, 1, "nobody"),
            8: (2, 5, "nobody"),
        }
        made.write("update build set version_id = 9", "update run set build_id = 3 where id = 7")
        made.write("insert into run values (9, 3)")
        whole(made, made.carry())
        assert {key: row[1] for key, row in runs(made).items()} == {
            1: 1,
            2: 2,
            3: 3,
            4: 4,
            50: 5,
            6: 5,
            7: 1,
            8: 5,
            9: 9,
        }


@BOTH
def test_what_was_put_aside_of_what_is_read_reaches_new_rows_alone(launch: Launch, how: How) -> None:
    with launch(how) as made:
        made.write("insert into version values (99)", "update build set version_id = 99, name = name || 'x'")
        made.write("insert into run values (7, 1)")
        made.write("update run set build_id = 3 where id = 1")
        outcome = made.carry(policy="transaction")
        assert {key for table, _, key in reasons(outcome) if table == "run"} == {"7"}, reasons(outcome)
        assert runs(made)[1] == (3, 1, "o1") and 7 not in runs(made)


@BOTH
def test_a_follower_leaves_a_new_row_until_nobody_writes_to_what_is_read(launch: Launch, how: How) -> None:
    with launch(how) as made:
        made.write("update run set build_id = 3 where id = 1")
        _follow(made)
        assert runs(made)[1] == (3, 1, "o1")
        made.write("insert into run values (7, 1)", "update build set version_id = 4")
        with pytest.raises(NotWhole, match="reads was written to"):
            _follow(made)
        whole(made, made.carry())
        assert runs(made)[7] == (1, 4, "nobody")


def _follow(made: Ground) -> None:
    made.drain()
    with entering(made.twin, "postgres") as twin, connect(made.live, options=READ_ONLY) as source:
        carry(twin, source, made.spool, made.mapping(), Manner("row", only_whole=True), launch_id=LAUNCH)


@pytest.mark.parametrize(
    "mapper",
    [
        f"coalesce(old.version_id, {READ}) + {READ} - {READ}",
        f"coalesce(old.owner::int, {READ})",
        f"case when old.version_id is null then {READ} else old.version_id end",
    ],
)
def test_another_form_is_refused_and_says_which_one_there_is(database: Target, tmp_path: Path, mapper: str) -> None:
    mappers = {"run": {**MAPPERS["run"], "version_id": mapper}}
    with ground(database, tmp_path, BEFORE, CHANGE, CHANGES, mappers) as made:
        (doubt,) = doubtful(made.mapping(), round_trip(made.twin, made.live, made.mapping()))
        assert "where other tables are read, `old` is known in the form coalesce(old.version_id, ...) alone" in doubt
