"""Many rows that are put aside at once hold nobody up: the site is closed meanwhile."""

from __future__ import annotations

from pathlib import Path

from replay_ground import RELAX, RELAXED, SHOP, ground

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target


def test_many_rows_of_several_tables_are_put_aside_as_fast_as_they_are_read(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        with connect(made.live) as connection:
            numbers = "generate_series(11, 10010) n"
            connection.execute(f"insert into customer (id, name) select n, repeat('x', 30) from {numbers}".encode())
            connection.execute(f"insert into purchase (id, customer_id, total) select n, n, 1 from {numbers}".encode())
        outcome = made.carry()
        assert outcome.put_aside == 20_000
        # Some twice, however slow the machine; a hundred times where each line was held against each row.
        assert outcome.phases["account"] < 25 * outcome.phases["stage"]
