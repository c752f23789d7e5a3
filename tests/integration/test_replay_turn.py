"""A replay in a twin that another session of ours holds, and does not let go of."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from replay_ground import SHOP, ground

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

HOLD = "SELECT pg_advisory_xact_lock(1935763571, 1)"


def test_a_session_that_holds_the_twin_and_is_no_more_is_ended(database: Target, tmp_path: Path) -> None:
    """As of a follower that sleeps, or a conductor whose link went without a word: the site is closed meanwhile."""
    with ground(database, tmp_path, SHOP, "select 1") as made:
        made.write("update customer set name = 'later' where id = 1")
        with connect(made.twin, autocommit=False) as former:
            former.execute(HOLD)
            former.execute("update customer set name = 'never committed' where id = 2")
            assert made.carry().transactions == 1
            with pytest.raises(psycopg.OperationalError):
                former.execute("select 1")
        assert made.old("select id, name from customer where id < 3 order by id") == [(1, "later"), (2, "c2")]


def test_the_server_gives_up_who_went_without_a_word_within_a_minute(database: Target) -> None:
    """It would keep that one's locks for two hours, as the system does by default."""
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    with connect(database) as connection:
        found = [connection.execute("SELECT setting::int FROM pg_settings WHERE name = %s", [name]) for name in names]
        idle, interval, count = (row[0] for one in found for row in one.fetchall())
    assert 0 < idle + interval * count <= 60
