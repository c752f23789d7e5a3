"""The twin and the swap on the versions of PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from books import books, count
from postgres_servers import Servers, drop_database, fresh_database, has_postgres
from twin_ground import ENTRY, drop_others, pair, twin_of

from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.wayback.twin.swap import swap


def test_the_twin_and_the_swap_work_on_postgresql_15(servers: Servers) -> None:
    if not has_postgres(15):
        pytest.skip("PostgreSQL 15 is not on this machine")
    database = fresh_database(servers(15))
    try:
        with books(database) as site:
            facts = twin_of(site)
            assert swap(pair(database, facts), facts).seconds < 2
            drop_others(database)
    finally:
        drop_database(database)


@pytest.mark.parametrize("major", [15, 17, 18])
def test_a_crash_soon_after_the_swap_gives_no_committed_id_out_again(tmp_path: Path, major: int) -> None:
    """A sequence writes its log ahead; in a copy of pages (`wal_log`) it believes to have done so, and has not."""
    if not has_postgres(major):
        pytest.skip(f"PostgreSQL {major} is not on this machine")
    with Server.create(tmp_path / "pg", installation(major)).start() as server:
        database = fresh_database(server)
        with books(database) as site:
            facts = twin_of(site)
            swap(pair(site.target, facts), facts)
            with connect(site.application) as connection:
                connection.execute(ENTRY, ["acknowledged"])
            server.stop("immediate")
            server.start()
            with connect(site.application) as connection:
                connection.execute(ENTRY, ["after the crash"])  # a unique violation, where an id comes twice
            assert count(site.target) == 3
            drop_others(database)
