"""The seed of a twin that is kept level: what it needs, what hinders it, and what is said then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from level_ground import LAUNCH, followed, seed
from psycopg import sql

from safepoint.errors import DatabaseError, SafepointError
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.twin import choice, feed, level
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.twin import drop_twin


@pytest.fixture
def live(database: Target) -> Iterator[Target]:
    with followed(database) as made:
        yield made


@pytest.mark.parametrize(
    "timeout", ["idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout"]
)
def test_the_seeds_snapshot_lives_as_long_as_it_is_needed_whatever_the_databases_timeouts_are(
    live: Target, timeout: str
) -> None:
    """A dump, and what is asked after it, take hours; nothing is said on the connection that exported the snapshot."""
    with connect(live) as connection:
        connection.execute(f"alter database {live.dbname} set {timeout} = '200ms'".encode())
    with feed.opened(live, LAUNCH) as now:
        time.sleep(0.6)
        with connect(live, autocommit=False) as connection:
            connection.execute("set transaction isolation level repeatable read")
            connection.execute(f"set transaction snapshot '{now.snapshot}'".encode())
    feed.end(live, LAUNCH)


def test_an_open_transaction_holds_the_seed_up_and_it_gives_up_with_the_reason(live: Target) -> None:
    with psycopg.connect(**live.conninfo()) as busy:  # type: ignore[arg-type]
        busy.execute("insert into line (amount) values (1)")
        with pytest.raises(DatabaseError, match="transactions are open"), feed.opened(live, LAUNCH, timeout=0.5):
            pass
    assert feed.begins_at(live, LAUNCH) is None
    assert feed.end(live, LAUNCH) is False
    with connect(live) as connection:
        assert connection.execute("select count(*) from pg_publication").fetchone() == (0,)


def test_a_half_made_seed_is_removed_and_somebody_elses_database_is_not(live: Target, tmp_path: Path) -> None:
    level.begin(Pair.beside(live, f"{live.dbname}_twin", LAUNCH))
    made = seed(live, tmp_path)  # over what a kill left
    assert level.seeded_at(made.pair) == made.at
    assert drop_twin(live, made.twin, LAUNCH) is True
    with connect(live.on("postgres")) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(made.twin)))
    with pytest.raises(SafepointError, match="not a twin of this launch"):
        level.begin(made.pair)


def test_what_is_measured_is_what_stands_in_the_way(live: Target) -> None:
    with connect(live) as connection:
        assert choice.choose(choice.measure(connection), "logical", 0).kind == "logical"
        connection.execute("create table bare (n int)")
        connection.execute("insert into bare values (1)")
        facts = choice.measure(connection)
        assert facts.keyless == ("public.bare",) and 8192 <= facts.keyless_bytes < 100_000 and facts.unnamed == ()
        connection.execute("create unlogged table fast (n int primary key)")
        connection.execute("create materialized view seen as select count(*) from item")
        connection.execute("create table hollow ()")
        connection.execute("select lo_create(0)")
        found = choice.choose(choice.measure(connection), "logical", 0)
        connection.execute("select lo_unlink(oid) from pg_largeobject_metadata")
    assert found.kind == "template"
    text = "; ".join(found.against)
    for said in ("public.fast", "1 large objects", "public.seen", "public.hollow"):
        assert said in text


def test_where_replication_connections_are_used_up_the_twin_is_copied_and_the_reason_said(
    server: Server, tmp_path: Path
) -> None:
    settings = {"wal_level": "logical", "max_wal_senders": "1", "fsync": "off", "shared_buffers": "32MB"}
    with Server.create(tmp_path / "pg", server.installation, settings=settings) as busy:
        with psycopg.connect(**busy.target.conninfo(), replication="database", autocommit=True):  # type: ignore[arg-type]
            with connect(busy.target) as connection:
                found = choice.choose(choice.measure(connection), "logical", 0)
            assert found.kind == "template" and "max_wal_senders" in "; ".join(found.against)
            with pytest.raises(DatabaseError, match="max_wal_senders") as caught, feed.opened(busy.target, LAUNCH):
                pytest.fail("there was no connection for it")
            assert "end one" in str(caught.value.remedy)
        with feed.opened(busy.target, LAUNCH):
            pass
        feed.end(busy.target, LAUNCH)
