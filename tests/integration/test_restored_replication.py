"""Subscriptions and logical slots: no restore brings them, and they stay with the database that they were made in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from awkward import run, snap
from books import Books
from plan_file import PASSWORD_ENV, plan_file
from postgres_servers import Servers, drop_database
from twin_ground import drop_others, pair, twin_of

from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.errors import Refused
from safepoint.launch.snapshots.restoring import restore_over
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.others import left_with, staying_with
from safepoint.wayback.twin.swap import swap, unswap

OFF = ("alter subscription feed disable", "alter subscription feed set (slot_name = none)")


@pytest.fixture
def fed(database: Target) -> Iterator[Target]:
    """A database with a subscription, to a publisher that is not reached, and a slot of somebody's."""
    run(
        database,
        "create table entry (id int primary key)",
        "insert into entry values (1)",
        "create subscription feed connection 'host=127.0.0.1 port=1 dbname=x' publication told "
        "with (connect = false, slot_name = feed, enabled = false)",
        f"select pg_create_logical_replication_slot('slot_{database.dbname}', 'pgoutput')",
    )
    try:
        yield database
    finally:
        run(database.on("postgres"), f"select pg_drop_replication_slot('slot_{database.dbname}')")
        run(database, *OFF, "drop subscription feed")


def test_a_subscription_is_told_where_a_copy_lacks_it(fed: Target, servers: Servers, tmp_path: Path) -> None:
    copy = fed.on(f"{fed.dbname}_copy")
    folder = snap(fed, servers(17), tmp_path / "snapshots")
    try:
        (told,) = prove(folder, scratch_parent=tmp_path / "scratch").notes
        assert "subscription feed (disabled to told)" in told
        assert place(folder, fed, copy.dbname).notes == (told,)
    finally:
        drop_database(copy)


def test_over_the_live_one_an_enabled_subscription_is_refused_and_what_stays_with_the_former_one_is_told(
    fed: Target, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "only-for-tests")
    plan = plan_file(tmp_path, fed)
    folder = snap(fed, servers(17), tmp_path / "snapshots")
    run(fed, "alter subscription feed enable")
    with pytest.raises(Refused, match="subscriptions hold") as caught:
        restore_over(plan, folder)
    assert caught.value.found == "subscription feed"
    run(fed, "alter subscription feed disable")
    done = restore_over(plan, folder)
    try:
        staying = [note for note in done.placed.notes if note.startswith(f"with the former database, {done.kept_as}, ")]
        assert [f"slot_{fed.dbname} (pgoutput)" in staying[0], "subscription feed" in staying[1]] == [True, True]
    finally:
        with connect(fed.on("postgres")) as connection:
            for statement in done.undo:
                connection.execute(statement.encode())
        drop_database(fed.on(done.placed.database))


def test_a_rollback_leaves_them_with_the_migrated_database_which_is_told(fed: Target) -> None:
    facts = twin_of(Books(fed, fed))
    run(fed, f"select pg_create_logical_replication_slot('safepoint_{fed.dbname}', 'pgoutput')")
    try:
        done = swap(pair(fed, facts), facts)
        with connect(fed.on("postgres")) as connection:
            left = staying_with(connection, done.kept_as)
            assert staying_with(connection, fed.dbname) == []
        assert [f"slot_{fed.dbname} (pgoutput)" in left[0], "subscription feed" in left[1]] == [True, True]
        assert len(left) == 2  # ours is no consumer's
        assert left_with(done.kept_as, left).startswith(f"; with {done.kept_as} stays the logical slot")
    finally:
        unswap(pair(fed, facts), facts)
        run(fed.on("postgres"), f"select pg_drop_replication_slot('safepoint_{fed.dbname}')")
        drop_others(fed)
