"""What was rolled back is no transaction: not where PostgreSQL 18 tells of it all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from postgres_servers import Servers, has_postgres
from replay_ground import Ground, ground, whole

from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import drain

ITEM = "create table item (id int primary key, what text)"
FILLED = "select g, repeat('x', 100) from generate_series({}, {}) g"


def roll_back(made: Ground, savepoints: int) -> None:
    """A transaction that is too much for the decoder's memory, after parts of it that were whole."""
    with connect(made.live, autocommit=False) as connection:
        connection.execute("select 1")
        for place in range(savepoints):
            with connection.transaction():  # a savepoint
                connection.execute("insert into item values (%s, 'of a part')", [100 + place])
        connection.execute(f"insert into item {FILLED.format(10_000, 12_000)}".encode())
        connection.rollback()


@pytest.mark.parametrize("savepoints", [1, 30])
def test_a_great_transaction_that_is_rolled_back_with_its_parts_keeps_nothing_from_being_read(
    servers: Servers, new_database: Callable[[Server], Target], tmp_path: Path, savepoints: int
) -> None:
    """30 parts are more than the reads of 10 that are made: what comes behind them must not be let go of unread."""
    if not has_postgres(18):
        pytest.skip("PostgreSQL 18 is not here")
    with ground(new_database(servers(18)), tmp_path, ITEM, "select 1", how="logical") as made:
        made.write(f"alter database \"{made.live.dbname}\" set logical_decoding_work_mem = '64kB'")
        roll_back(made, savepoints)
        made.drain()
        made.write("insert into item values (1, 'before')")
        roll_back(made, savepoints)
        made.write("insert into item values (2, 'behind')")
        roll_back(made, savepoints)
        drain(made.live, made.facts, made.spool, batch=10)
        whole(made, made.carry())
        assert made.old("select id from item order by 1") == [(1,), (2,)]
