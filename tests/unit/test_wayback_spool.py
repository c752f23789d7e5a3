"""The spool on disk: what is whole is kept, what is torn is cut off, what is damaged is said."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safepoint.errors import CaptureLost, Refused
from safepoint.wayback.spool import Spool, durable_position, read_changes, read_header, read_transactions

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
            for message in transaction(number, rows):
                spool.append(number * 100, number, message)
            if sync:
                spool.sync(number * 100, 1, {"7": "shape"})


def numbers(path: Path) -> list[tuple[int, int]]:
    return [(found.xid, sum(1 for _ in changes)) for found, changes in read_transactions(path)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.data(), st.booleans())
def test_wherever_the_file_is_cut_only_whole_transactions_are_read_and_the_rest_can_be_written_again(
    rows: list[int], data: st.DataObject, synced: bool
) -> None:
    all_of_them = list(enumerate(rows, start=1))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        write(path, all_of_them, sync=synced)
        _, first = read_header(path)
        cut = data.draw(st.integers(first, path.stat().st_size))
        path.write_bytes(path.read_bytes()[:cut])
        whole = numbers(path)
        assert whole == all_of_them[: len(whole)]
        with Spool(path, HEADER) as spool:
            assert spool.position.commit_lsn == len(whole) * 100
            assert spool.position.transactions == len(whole)
        write(path, all_of_them[len(whole) :])
        assert numbers(path) == all_of_them


def test_without_its_position_file_the_spool_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    write(path, [(1, 2), (2, 1)])
    before = durable_position(path, read_header(path)[1])
    (tmp_path / "spool.pos").unlink()
    after = durable_position(path, read_header(path)[1])
    assert (after.offset, after.commit_lsn, after.transactions) == (before.offset, before.commit_lsn, 2)


def test_damage_before_the_durable_end_is_an_error_and_not_a_shorter_list(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    write(path, [(1, 2), (2, 1), (3, 1)])
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CaptureLost, match="damaged"):
        list(read_changes(path))


@pytest.mark.parametrize("content", [b"", b"SPOOL-1\n", b"something else entirely"])
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
