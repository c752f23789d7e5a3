"""The level twin when PostgreSQL is stopped at once, and when one transaction is very big."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from safepoint.backup import fingerprint
from safepoint.backup.pouring import pour
from safepoint.backup.snapshot import Instant, take_snapshot
from safepoint.errors import SafepointError
from safepoint.hosts.here import Here
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.fence import quiet
from safepoint.wayback.twin import feed, level
from safepoint.wayback.twin.pair import Pair

pytestmark = pytest.mark.slow
LAUNCH = "books-2.0"
TWIN = "books_twin"
SETTINGS = {"wal_level": "logical", "max_connections": "40", "max_wal_size": "4GB", "shared_buffers": "128MB"}
SCHEMA = """
create table entry (id bigserial primary key, token uuid unique default gen_random_uuid(), memo text);
create table line (id bigserial primary key, entry_id bigint not null references entry, cents bigint not null);
"""
POST = """
with e as (insert into entry (memo) values ('m') returning id)
insert into line (entry_id, cents) select id, c from e, (values (1), (-1)) v (c)
"""


@contextmanager
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="safepoint-tests-chaos-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        with Server.create(
            Path(name) / "pg", installation(17), password="only-for-tests", settings=SETTINGS, purpose="tests"
        ) as running:
            yield running


def pair(live: Target) -> Pair:
    return Pair.beside(live, TWIN, LAUNCH)


def seed(live: Target, folder: Path) -> str:
    with feed.opened(live, LAUNCH) as now:
        take_snapshot(
            live,
            Here("here", folder),
            installation=installation(17),
            folder=folder,
            snapshot_id="seed",
            launch_id=LAUNCH,
            at=Instant(now.lsn, now.snapshot),
        )
    pour(folder / "seed", level.begin(pair(live)))
    level.seeded(pair(live), now.lsn)
    return now.lsn


def keeper(live: Target, folder: Path, at: str) -> level.Keeper:
    facts = feed.standing(live, LAUNCH, at)
    assert facts is not None
    return level.Keeper(pair(live), facts, feed.spool_path(folder, at))


def finish(live: Target, folder: Path, at: str) -> list[str]:
    """The safe point; in what the twin differs then."""
    safe_point = quiet.safe_point(live)
    with keeper(live, folder, at) as last:
        last.level(up_to=safe_point)
        last.set_sequences()
    level.finish(pair(live), at=safe_point, prior=None, began=time.monotonic())
    feed.end(live, LAUNCH)
    with connect(live.on("postgres")) as connection:
        connection.execute(f"alter database {TWIN} allow_connections true")
    found = fingerprint.compare(fingerprint.take(live), fingerprint.take(live.on(TWIN)))
    return [str(one) for one in found]


def test_postgresql_stopped_at_once_again_and_again_while_the_twin_is_followed(tmp_path: Path) -> None:
    with server() as running:
        with connect(running.target) as connection:
            connection.execute("create database books")
        live = running.target.on("books")
        with connect(live) as connection:
            connection.execute(SCHEMA)
        at = seed(live, tmp_path)
        done = threading.Event()

        def write() -> None:
            while not done.is_set():
                with suppress(psycopg.Error, SafepointError), connect(live) as connection:
                    while not done.is_set():
                        connection.execute(POST)
                        done.wait(0.002)
                done.wait(0.1)

        def follow() -> None:
            while not done.is_set():
                with suppress(psycopg.Error, SafepointError), keeper(live, tmp_path, at) as one:
                    while not done.is_set():
                        one.level(cancelled=done.is_set)
                done.wait(0.1)

        threads = [threading.Thread(target=work) for work in (write, write, follow)]
        for thread in threads:
            thread.start()
        for pause in (0.4, 0.9, 1.3, 0.2, 1.7):
            time.sleep(pause)
            running.stop("immediate")
            running.start()
        time.sleep(1.0)
        done.set()
        for thread in threads:
            thread.join(30)
        assert finish(live, tmp_path, at) == []
        with connect(live) as connection:
            assert connection.execute("select count(*) > 100, sum(cents) = 0 from line").fetchone() == (True, True)


GIANT = """
import sys
from pathlib import Path
from safepoint.postgres.target import Target
from safepoint.wayback.twin import feed, level
from safepoint.wayback.twin.pair import Pair
live = Target({host!r}, {port}, "books", {user!r}, {password!r})
facts = feed.standing(live, {launch!r}, {at!r})
pair = Pair.beside(live, {twin!r}, {launch!r})
with level.Keeper(pair, facts, feed.spool_path(Path({folder!r}), {at!r})) as one:
    print(one.level().transactions)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def test_a_transaction_of_two_million_rows_passes_through_in_little_memory(tmp_path: Path) -> None:
    with server() as running:
        with connect(running.target) as connection:
            connection.execute("create database books")
        live = running.target.on("books")
        with connect(live) as connection:
            connection.execute(SCHEMA)
            connection.execute("insert into entry (memo) values ('first')")
        at = seed(live, tmp_path)
        with connect(live) as connection:
            connection.execute("insert into line (entry_id, cents) select 1, n from generate_series(1, 2000000) n")
        code = textwrap.dedent(GIANT).format(
            host=live.host,
            port=live.port,
            user=live.user,
            password=live.password,
            launch=LAUNCH,
            at=at,
            twin=TWIN,
            folder=str(tmp_path),
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
        transactions, kilobytes = (int(word) for word in done.stdout.split())
        assert transactions == 1
        print(f"2,000,000 rows in one transaction: {kilobytes / 1024:.0f} MB")
        assert kilobytes < 200 * 1024
        assert finish(live, tmp_path, at) == []
