"""A partition that is a foreign table: its rows are on another server, and both databases look at the same ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from replay_ground import BOTH, ask, ground

from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

PARTS = (
    "create table part (id int, what text) partition by range (id)",
    "create table near partition of part for values from (0) to (100)",
    "create foreign table far partition of part for values from (100) to (200) server there",
)


@BOTH
def test_what_is_written_there_is_there_once(
    server: Server, new_database: Callable[[Server], Target], tmp_path: Path, how: How
) -> None:
    live, away = new_database(server), new_database(server)
    with connect(away) as connection:
        connection.execute("create table far (id int, what text)")
    there = f"host '{away.host}', port '{away.port}', dbname '{away.dbname}'"
    before = [
        "create extension postgres_fdw",
        f"create server there foreign data wrapper postgres_fdw options ({there})",
        f"create user mapping for current_user server there options (user '{away.user}', password '{away.password}')",
        *PARTS,
    ]
    with ground(live, tmp_path, before, "select 1", how=how) as made:
        made.write("insert into part values (1, 'near'), (2, 'leaves'), (101, 'far')")
        made.write("update part set what = 'changed' where id = 101")
        made.write("update part set id = 102 where id = 2")
        assert not made.carry().put_aside
        assert made.old("select * from part order by id") == made.new("select * from part order by id")
    assert ask(away, "select id, what from far order by id") == [(101, "changed"), (102, "leaves")]
