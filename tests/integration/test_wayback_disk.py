"""The way back when a disk fills up: the spool's, the server's. Nothing is lost, and with room made it goes on."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from replay_ground import RELAX, RELAXED, SHOP, ground

from safepoint.errors import DatabaseError, ResourcesExhausted, StorageError
from safepoint.launch.storage import LEAST, ROOM, probe_room
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.fence.quiet import mark_quiet, prove_quiet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root")
MANY = "insert into customer (name) select repeat('x', 20) from generate_series(1, {})"


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="safepoint-small-disk-"))
    folder.chmod(0o755)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False).returncode:
        folder.rmdir()
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


@contextmanager
def small_server() -> Iterator[tuple[Server, Path]]:
    """A server with a database `books` on a disk of 400 MB, and the disk."""
    with small_disk("400m") as folder:
        server = Server.create(folder / "cluster", installation(17), password="x", settings={"wal_level": "logical"})
        server.start()
        try:
            with connect(server.target) as connection:
                connection.execute("create database books")
            yield server, folder
        finally:
            server.remove()


def fill(file: Path, keep: int = 0) -> None:
    """Take all the room there is, but for so many bytes."""
    room = os.statvfs(file.parent)
    left = room.f_bavail * room.f_frsize - keep
    with file.open("wb", buffering=0) as out, suppress(OSError):
        while left > 0:
            left -= out.write(b"x" * min(left, 1 << 20))


def test_a_spool_whose_disk_fills_up_goes_on_where_it_was(database: Target) -> None:
    with small_disk("3m") as folder, ground(database, folder, SHOP, RELAX, RELAXED) as made:
        made.write(MANY.format(10))
        made.drain()
        made.write(MANY.format(20_000))
        fill(folder / "full", keep=200_000)
        for _ in range(2):
            with pytest.raises(StorageError, match="No space left") as caught:
                made.drain()
            assert "Make room" in str(caught.value.remedy)
            room = os.statvfs(folder)  # what does not count takes none from the ledger
            assert room.f_bavail * room.f_frsize > 150_000
        (folder / "full").unlink()
        outcome = made.carry()
        assert (outcome.transactions, outcome.put_aside) == (2, 0)
        assert made.old("select count(*), count(distinct id) from customer") == [(20_015, 20_015)]


def test_who_began_with_just_enough_room_does_not_leave_for_want_of_it_with_the_site_closed() -> None:
    """A rollback writes a megabyte, which had to be free before it began, and at each look since."""
    with small_disk("8m") as folder:
        fill(folder / "full", keep=ROOM + 100_000)
        probe_room(folder)
        (folder / "ledger and engine").write_bytes(bytes(1 << 20))
        probe_room(folder, LEAST)
        with pytest.raises(OSError, match="No space left"):
            probe_room(folder)
        (folder / "more").write_bytes(bytes(ROOM - (1 << 20)))
        with pytest.raises(OSError, match="No space left"):
            probe_room(folder, LEAST)


def test_a_server_whose_disk_fills_up_in_the_replay_changes_nothing_and_carries_all_once_there_is_room() -> None:
    with (
        small_server() as (server, folder),
        ground(server.target.on("books"), folder, SHOP, RELAX, RELAXED) as made,
    ):
        made.write(MANY.format(100_000))
        made.drain()
        fill(folder / "full", keep=8_000_000)
        with pytest.raises(ResourcesExhausted) as caught:
            made.replay()
        assert "No space left" in str(caught.value.found)
        assert "Make room" in str(caught.value.remedy)
        (folder / "full").unlink()
        outcome = made.replay()
        assert (outcome.carried, outcome.put_aside) == (1, 0)
        assert made.old("select count(*) from customer") == [(100_005,)]


def test_a_full_disk_of_the_server_is_said_as_that_and_not_as_somebody_elses_writes() -> None:
    """Its log could not be decoded, so transaction ids were compared: those of our own copy were said to be others'.
    Whoever was not let in for want of room was told to look at the plan file.
    """
    with small_server() as (server, folder):
        books = server.target.on("books")
        mark = mark_quiet(books, "launch")
        with connect(server.target) as connection:
            connection.execute("create database twin template books strategy file_copy")
            connection.execute("select pg_log_standby_snapshot()")  # whoever decodes past that writes a file of it
            fill(folder / "full")
            with pytest.raises(ResourcesExhausted, match="the server's disk is full") as caught:
                prove_quiet(books, mark)
            assert "No space left" in str(caught.value.found)
            for cache in (server.data / "base").glob("*/pg_internal.init"):  # as a database that nobody was in yet
                cache.unlink()
            fill(folder / "full too")
            with pytest.raises(DatabaseError, match="No space left") as refused:
                connect(server.target.on("twin"))
            assert "disk is full" in str(refused.value.remedy)
        for full in folder.glob("full*"):
            full.unlink()
        assert prove_quiet(books, mark).verdict == "pass"
