"""What reads on a standby, while the databases of its primary are swapped."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from postgres_servers import Servers
from standby_server import primary_and_standby

from safepoint.launch.doctor.database import replication
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm
from safepoint.wayback.capture.standbys import after_failover, left_reading, standbys
from safepoint.wayback.fence.fence import survey_fence
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.swap import swap
from safepoint.wayback.twin.twin import make_twin


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Target, Target]]:
    with primary_and_standby() as found:
        yield found


def test_what_was_connected_on_a_standby_reads_the_migrated_database_and_that_is_told(
    both: tuple[Target, Target],
) -> None:
    primary, standby = both
    with connect(primary) as connection:
        connection.execute("create database shop")
    live = primary.on("shop")
    with connect(live) as connection:
        prior = survey_fence(live, ())
        connection.execute("create table release as select 'old' as name")
        connection.execute("checkpoint")
    facts = make_twin(live, "shop_twin", "shop-2.0", at="0/0", prior=prior)
    with connect(live) as connection:
        connection.execute("update release set name = 'new'")
    deadline = time.monotonic() + 20
    with connect(primary) as writer, connect(standby.on("shop")) as reader:
        while reader.execute("select name from release").fetchone() != ("new",):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        swap(Pair.beside(live, "shop_twin", "shop-2.0"), facts)
        while not _there(standby):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with connect(live) as anew:
            assert anew.execute("select name from release").fetchone() == ("old",)
        assert reader.execute("select name from release").fetchone() == ("new",)  # the fault itself
        (found,) = standbys(writer)
        assert found in left_reading([found]) and "RECONNECT" in left_reading([found])
        told = [one for one in replication(writer, survey(writer)) if one.check == "standbys"]
        assert [(one.verdict, found in one.message) for one in told] == [("warning", True)], told
        assert "sync_replication_slots = on" in told[0].message
        writer.execute("alter system set synchronized_standby_slots = 'standby'")
        writer.execute("select pg_reload_conf()")
        while "is lost" not in after_failover(writer):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        arm(live, "shop-2.0")  # what is to wait for standbys is not what a rollback reads
        slot = "select failover from pg_replication_slots where not temporary"
        assert writer.execute(slot).fetchall() == [(False,)]


def _there(standby: Target) -> bool:
    """Whether the swap has got there: whoever connects now is in the old release's database."""
    with connect(standby.on("shop")) as connection:
        return connection.execute("select name from release").fetchone() == ("old",)


def test_before_postgresql_17_no_standby_has_a_copy_of_a_slot(servers: Servers) -> None:
    with connect(servers(15).target) as connection:
        assert "is lost" in after_failover(connection)


def test_a_server_without_standbys_says_nothing_of_them(database: Target) -> None:
    with connect(database) as connection:
        assert standbys(connection) == [] and left_reading([]) == ""
