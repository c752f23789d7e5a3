"""The spool on disk: what is whole is kept, what is torn is cut off, what is damaged is said."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safepoint.errors import CaptureLost, Refused, StorageError
from safepoint.wayback.capture.spool import Spool, durable_end, read_changes, read_header, read_messages

HEADER = {"launch": "books-2.0", "slot": "safepoint_x"}
RELATION = (
    b"R" + struct.pack("!I", 7) + b"public\0entry\0d" + struct.pack("!H", 1) + b"\1id\0" + struct.pack("!Ii", 23, -1)
)


def insert(number: int) -> bytes:
    text = str(number).encode()
    return b"I" + struct.pack("!I", 7) + b"N" + struct.pack("!H", 1) + b"t" + struct.pack("!I", len(text)) + text


def transaction(number: int, rows: int) -> list[bytes]:
    lsn = number * 100
    begin = b"B" + struct.pack("!QqI", lsn, 0, number)
    commit = b"C" + struct.pack("!BQQq", 0, lsn, lsn + 8, 0)
    return [begin, RELATION, *(insert(number) for _ in range(rows)), commit]


def write(path: Path, transactions: Iterable[tuple[int, int]], *, sync: bool = True) -> None:
    with Spool(path, HEADER) as spool:
        for number, rows in transactions:
            spool.extend(transaction(number, rows))
            if sync:
                spool.sync(number * 100, 1, {"7": "shape"})


def numbers(path: Path) -> list[tuple[int, int]]:
    transactions = groupby(one.transaction for one in read_changes(path))
    return [(found.xid, sum(1 for _ in changes)) for found, changes in transactions]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 6), st.data())
def test_only_what_was_made_durable_counts_wherever_the_rest_is_cut_and_it_can_be_written_again(
    rows: list[int], durable: int, data: st.DataObject
) -> None:
    all_of_them = list(enumerate(rows, start=1))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        write(path, all_of_them[:durable])
        least = path.stat().st_size
        write(path, all_of_them[durable:], sync=False)
        cut = data.draw(st.integers(least, path.stat().st_size))
        path.write_bytes(path.read_bytes()[:cut])
        assert numbers(path) == all_of_them[:durable]
        with Spool(path, HEADER) as spool:
            assert spool.position.transactions == len(all_of_them[:durable])
            assert spool.position.commit_lsn == spool.position.transactions * 100
        write(path, all_of_them[durable:])
        assert numbers(path) == all_of_them


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data())
def test_without_its_position_file_all_whole_transactions_count(rows: list[int], data: st.DataObject) -> None:
    """It was copied without it: what is read from a copy is all that there is."""
    all_of_them = list(enumerate(rows, start=1))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        write(path, all_of_them)
        before = durable_end(path)
        _, first = read_header(path)
        path.write_bytes(path.read_bytes()[: data.draw(st.integers(first, path.stat().st_size))])
        (path.parent / "spool.pos").unlink()
        found = durable_end(path)
        whole = numbers(path)
        assert whole == all_of_them[: len(whole)]
        assert (found.commit_lsn, found.transactions) == (len(whole) * 100, len(whole))
        assert len(whole) < len(rows) or found.offset == before.offset
        write(path, all_of_them[len(whole) :])
        assert numbers(path) == all_of_them


def test_a_spool_of_another_version_is_told_as_such(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    write(path, [(1, 2)])
    path.write_bytes(b"SPOOL-1\n" + path.read_bytes()[8:])
    with pytest.raises(CaptureLost, match="another version"):
        numbers(path)
    with pytest.raises(CaptureLost, match="another version"):
        write(path, [(2, 1)])


def test_what_was_found_without_a_position_file_is_made_durable_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "spool", list[str]()
    write(path, [(1, 2), (2, 1)])
    (tmp_path / "spool.pos").unlink()
    fsync = os.fsync

    def noted(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    monkeypatch.setattr("os.fsync", noted)
    with Spool(path, HEADER) as spool:
        assert spool.position.transactions == 2
    assert synced[:2] == ["spool", "spool.pos.new"] and (tmp_path / "spool.pos").exists()


@pytest.mark.parametrize("earlier", [0, 1])
def test_what_a_failed_sync_left_in_the_file_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: int
) -> None:
    """After a failed fsync nobody knows what is on the disk, and the next one says that all is well."""
    path, fsync = tmp_path / "spool", os.fsync
    write(path, [(1, 2)][:earlier])

    def failing(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().name == "spool":
            raise OSError(errno.EIO, "Input/output error")
        fsync(handle)

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", failing)
        with pytest.raises(StorageError, match="Input/output error"):
            write(path, [(2, 1)])
    assert numbers(path) == [(1, 2)][:earlier]
    with Spool(path, HEADER) as spool:
        assert (spool.position.transactions, spool.position.commit_lsn) == (earlier, earlier * 100)


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_reader_beside_a_writer_does_not_see_what_is_being_written(tmp_path: Path, earlier: int) -> None:
    path = tmp_path / "spool"
    write(path, [(1, 2)][:earlier])
    with Spool(path, HEADER) as spool:
        for number in (2, 3):
            for message in transaction(number, 50_000):  # more than is kept in memory
                spool.extend([message])
        assert path.stat().st_size > 1 << 20
        assert durable_end(path).transactions == len(numbers(path)) == earlier
        spool.sync(300, 2, {})
        assert durable_end(path).transactions == len(numbers(path)) == earlier + 2


def test_a_lock_that_cannot_be_made_is_told_as_the_fault_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "spool.lock").mkdir()  # as on a disk that has no room, or no right, for another file
    with pytest.raises(StorageError, match="cannot be written"), Spool(tmp_path / "spool", {"launch": "x"}):
        pass


def test_a_spool_that_is_shorter_than_what_was_durable_is_an_error_for_readers_and_writers(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    write(path, [(1, 2), (2, 1)])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CaptureLost, match="damaged"):
        numbers(path)
    with pytest.raises(CaptureLost, match="damaged"):
        write(path, [(3, 1)])


def test_damage_before_the_durable_end_is_an_error_and_not_a_shorter_list(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    write(path, [(1, 2), (2, 1), (3, 1)])
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CaptureLost, match="damaged"):
        list(read_changes(path))


def test_no_flipped_bit_of_what_is_carried_goes_unseen(tmp_path: Path) -> None:
    """Neither by the replay, which makes nothing of the messages, nor by the list of what was written."""
    path = tmp_path / "spool"
    write(path, [(1, 2), (2, 1)])
    whole, (_, first) = path.read_bytes(), read_header(path)
    for place in range(first, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        for read in (read_messages, read_changes):
            with pytest.raises(CaptureLost, match="damaged"):
                list(read(path))
    path.write_bytes(whole)
    assert list(read_messages(path)) == [*transaction(1, 2), *transaction(2, 1)]


@pytest.mark.parametrize("content", [b"", b"SPOOL-2\n", b"something else entirely"])
def test_a_file_that_is_no_spool_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spool"
    path.write_bytes(content)
    with pytest.raises(CaptureLost, match="not a spool"):
        list(read_changes(path))


def test_a_spool_of_another_capture_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "spool", [(1, 1)])
    with pytest.raises(Refused, match="another capture"), Spool(tmp_path / "spool", {**HEADER, "slot": "other"}):
        pass
    assert numbers(tmp_path / "spool") == [(1, 1)]
