"""Tables that are hashed while their restore goes on: as exact as afterwards, or not used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from awkward import run, snap

from safepoint.backup import ahead as ahead_module
from safepoint.backup.ahead import Ahead, hashing_ahead
from safepoint.backup.contents import Hashed
from safepoint.backup.fingerprint import take
from safepoint.backup.prints import Fingerprint
from safepoint.backup.proof import prove
from safepoint.backup.restoring import Restored
from safepoint.errors import ProofFailed
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

BIG = "create table big as select n, md5(n::text) as x from generate_series(1, 3000) n"


@pytest.fixture(autouse=True)
def small_is_big(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' tables count as big ones."""
    monkeypatch.setattr(ahead_module, "_ROWS", 1000)


def hashed_after(target: Target, expected: Fingerprint, then: str = "select") -> Hashed:
    """Let all big tables be hashed ahead, do something to them, and finish."""
    with hashing_ahead(target, expected, jobs=2) as ahead:
        wait_for(ahead)
        run(target, then)
        return ahead.finish()


def wait_for(ahead: Ahead) -> None:
    wait_until(lambda: len(ahead._sums) > 0)


def wait_until(ready: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.02)


def asleep(target: Target) -> int:
    with connect(target) as connection:
        row = connection.execute("select count(*) from pg_stat_activity where wait_event = 'PgSleep'").fetchone()
        return row[0] if row else 0


def test_a_table_hashed_ahead_is_not_hashed_again(database: Target) -> None:
    run(database, BIG)
    expected = take(database)
    hashed = hashed_after(database, expected)
    assert [part.name for part in hashed.sums] == ["public.big"]
    assert hashed.inserted == {"public.big": 3000}
    # That it is used shows where it is wrong.
    wrong = Hashed(dict.fromkeys(hashed.sums, (3000, 1, 2)), hashed.inserted)
    assert take(database, hashed=wrong).tables["public.big"].content == f"{1:016x}{2:016x}"
    assert take(database, hashed=hashed) == expected


@pytest.mark.parametrize(
    "change",
    [
        "update big set x = 'other' where n = 7",
        "insert into big values (0, 'more')",
        "delete from big where n = 7",
        "delete from big where n = 7; insert into big values (7, 'other')",
        "truncate big; insert into big select n, 'other' from generate_series(1, 3000) n",
        "begin; truncate big; insert into big select n, 'other' from generate_series(1, 3000) n; commit",
    ],
    ids=["update", "insert", "delete", "exchange", "truncate", "truncate-at-once"],
)
def test_what_is_changed_after_it_was_hashed_is_hashed_again(database: Target, change: str) -> None:
    run(database, BIG)
    before = take(database)
    hashed = hashed_after(database, before, change)
    found = take(database, hashed=hashed)
    assert found == take(database)
    assert found.tables != before.tables


def test_without_the_servers_counts_nothing_ahead_is_used(database: Target) -> None:
    run(database, f"set track_counts = off; {BIG}")
    expected = take(database)
    hashed = hashed_after(database, expected, "set track_counts = off; update big set x = 'other' where n = 7")
    assert hashed.sums
    assert take(database, hashed=hashed) == take(database) != expected


def test_rows_that_are_not_committed_yet_do_not_count(database: Target) -> None:
    run(database, BIG)
    expected = take(database)
    run(database, "drop table big", "create table big (n int, x text)")
    with connect(database, autocommit=False) as loading:
        loading.execute("insert into big select n, md5(n::text) as x from generate_series(1, 3000) n")
        with hashing_ahead(database, expected, jobs=2) as ahead:
            wait_for(ahead)
            loading.commit()
            loading.close()
            hashed = ahead.finish()
    assert [rows for rows, _, _ in hashed.sums.values()] == [0]
    assert take(database, hashed=hashed) == take(database)
    assert take(database).tables == expected.tables


def test_nobody_waits_behind_a_table_that_is_locked(database: Target) -> None:
    run(database, BIG)
    expected = take(database)
    with connect(database, autocommit=False) as busy:
        busy.execute("lock table big in access exclusive mode")
        with hashing_ahead(database, expected, jobs=2) as ahead:
            time.sleep(0.5)
            assert ahead.finish() == Hashed()
        with hashing_ahead(database, expected, jobs=2) as ahead:
            time.sleep(0.3)
            busy.rollback()
            wait_for(ahead)
            busy.close()
            assert ahead.finish().inserted == {"public.big": 3000}


def test_no_more_sessions_work_than_there_are_jobs(database: Target) -> None:
    run(database, BIG)
    expected = take(database)
    threads = [threading.Thread(target=run, args=(database, "select pg_sleep(3)")) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: asleep(database) == 2)
    with hashing_ahead(database, expected, jobs=2) as ahead:
        time.sleep(0.5)
        while_they_sleep = dict(ahead._sums)
        assert asleep(database) == 2
        assert not while_they_sleep
        wait_for(ahead)
    for thread in threads:
        thread.join()


def test_a_proof_uses_what_was_hashed_ahead(
    server: Server, database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check that takes its time keeps one of two jobs busy; the other one is free for hashing."""
    used: list[Hashed] = []
    run(
        database,
        BIG,
        "create function slow(int) returns int immutable language sql as 'select $1 from pg_sleep(0.006)'",
        "create table small as select n from generate_series(1, 500) n",
        "create index on small (slow(n))",
    )

    def look(copy: Restored, found: Fingerprint) -> None:
        del found
        used.append(copy.hashed)

    folder = snap(database, server, tmp_path / "snapshots")
    proof = prove(folder, scratch_parent=tmp_path / "scratch", look=look)
    assert proof.rows == 3500
    assert used[0].inserted == {"public.big": 3000}
    assert sum(rows for rows, _, _ in used[0].sums.values()) == 3000


def test_a_restore_that_changes_rows_late_is_found_out(
    server: Server, new_database: Callable[[Server], Target], tmp_path: Path
) -> None:
    """A materialised view is computed at the end, by a function that may do anything."""
    database = new_database(server)
    run(
        database,
        BIG,
        "create function meddling() returns int language plpgsql as "
        "$$ begin perform pg_sleep(1); update public.big set x = 'other' where n = 7; return 1; end $$",
        "create materialized view late as select public.meddling() as one with no data",
        "refresh materialized view late",
        "update big set x = md5('7') where n = 7",
    )
    folder = snap(database, server, tmp_path / "snapshots")
    with pytest.raises(ProofFailed, match=r"table public\.big: expected"):
        prove(folder, scratch_parent=tmp_path / "scratch")
