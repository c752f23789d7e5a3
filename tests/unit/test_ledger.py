"""The ledger: what was written can be read, and what was changed is seen."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.launch.ledger import GENESIS, Ledger, LedgerBroken, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "launches" / "ledger.jsonl"


def write(path: Path, count: int) -> None:
    with Ledger(path) as ledger:
        for number in range(count):
            ledger.append("fact", f"fact:{number}", {"number": number, "name": "Größe"}, step="survey")


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_entries_are_chained_from_the_genesis_hash(path: Path) -> None:
    write(path, 4)
    entries = list(read(path))
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    assert [entry.prev for entry in entries] == [GENESIS, *(entry.hash for entry in entries[:-1])]
    assert entries[2].data == {"number": 2, "name": "Größe"}


def test_a_ledger_that_is_not_there_is_empty(path: Path) -> None:
    assert list(read(path)) == []


def test_a_key_is_written_once_and_answers_its_first_entry(path: Path) -> None:
    with Ledger(path) as ledger:
        first = ledger.append("fact", "fact:slot", {"lsn": "0/1"})
        again = ledger.append("fact", "fact:slot", {"lsn": "0/2"})
    assert again == first
    with Ledger(path) as reopened:
        assert reopened.append("fact", "fact:slot", {"lsn": "0/3"}) == first
    assert len(list(read(path))) == 1


def test_a_repeated_key_is_not_told_to_listeners_again(path: Path) -> None:
    heard: list[str] = []
    with Ledger(path) as ledger:
        ledger.listeners.append(lambda entry: heard.append(entry.key))
        for key in ("a", "b", "a"):
            ledger.append("fact", key, {})
    assert heard == ["a", "b"]


def test_appending_after_reopening_continues_the_chain(path: Path) -> None:
    write(path, 2)
    with Ledger(path) as ledger:
        ledger.append("end", "end:1", {"status": "launched"})
    assert [entry.key for entry in read(path)] == ["fact:0", "fact:1", "end:1"]


CHANGES: dict[str, Any] = {
    "seq": 7,
    "at": "2026-03-01T09:00:00+00:00",
    "kind": "order",
    "key": "fact:9",
    "step": "migrate",
    "data": {"number": 99},
    "prev": "f" * 64,
    "hash": "e" * 64,
}


@given(line=st.integers(0, 3), field=st.sampled_from(sorted(CHANGES)))
def test_a_changed_field_breaks_the_chain_at_its_line(line: int, field: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        write(path, 4)
        lines = lines_of(path)
        lines[line][field] = CHANGES[field]
        path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
        with pytest.raises(LedgerBroken, match=rf"line {line + 1}"):
            list(read(path))


@given(data=st.data())
def test_no_flipped_bit_goes_unseen(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        write(path, 3)
        before = path.read_bytes()
        position = data.draw(st.integers(0, len(before) - 2), label="byte")
        flipped = before[position] ^ (1 << data.draw(st.integers(0, 7), label="bit"))
        path.write_bytes(before[:position] + bytes([flipped]) + before[position + 1 :])
        with pytest.raises(LedgerBroken):
            list(read(path))


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_removed_line_is_seen_unless_it_is_the_last(path: Path, removed: int) -> None:
    write(path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:removed] + lines[removed + 1 :]))
    with pytest.raises(LedgerBroken):
        list(read(path))


def test_swapped_lines_are_seen(path: Path) -> None:
    write(path, 3)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + third + second)
    with pytest.raises(LedgerBroken, match="line 2"):
        list(read(path))


def test_a_line_forged_with_a_fitting_hash_breaks_the_line_after_it(path: Path) -> None:
    from safepoint.launch.ledger import digest

    write(path, 3)
    lines = lines_of(path)
    lines[1]["data"] = {"number": 1000}
    del lines[1]["hash"]
    lines[1]["hash"] = digest(lines[1])
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    with pytest.raises(LedgerBroken, match="line 3"):
        list(read(path))


@pytest.mark.parametrize("kept", [1, 20, -2])
def test_a_torn_last_line_is_ignored_by_readers_and_cut_by_the_next_writer(path: Path, kept: int) -> None:
    write(path, 3)
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    path.write_bytes(whole[: -len(last)] + last[:kept])
    assert [entry.key for entry in read(path)] == ["fact:0", "fact:1"]
    with Ledger(path) as ledger:
        ledger.append("fact", "fact:2", {"number": 2})
    assert [entry.key for entry in read(path)] == ["fact:0", "fact:1", "fact:2"]


def test_a_broken_ledger_is_not_opened_for_writing(path: Path) -> None:
    write(path, 2)
    path.write_bytes(path.read_bytes().replace(b'"number":0', b'"number":5'))
    with pytest.raises(LedgerBroken) as raised:
        Ledger(path)
    assert raised.value.subject == f"{path}:1"
    assert raised.value.remedy


def test_the_data_in_memory_is_what_a_reader_sees(path: Path) -> None:
    with Ledger(path) as ledger:
        written = ledger.append("fact", "a", {"pair": (1, 2), 3: "three"})
    assert next(read(path)) == written
    assert written.data == {"pair": [1, 2], "3": "three"}


def test_later_changes_of_the_given_data_do_not_reach_the_ledger(path: Path) -> None:
    data = {"tables": ["a"]}
    with Ledger(path) as ledger:
        entry = ledger.append("fact", "a", data)
        data["tables"].append("b")
        assert entry.data == {"tables": ["a"]}


def test_reading_while_another_writes_sees_a_whole_prefix(path: Path) -> None:
    done = threading.Event()
    seen: list[int] = []

    def look() -> None:
        while not done.is_set():
            seen.append(len(list(read(path))))

    reader = threading.Thread(target=look)
    reader.start()
    write(path, 150)
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert len(list(read(path))) == 150


@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
            lambda children: (
                st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_any_json_data_comes_back_as_it_was(data: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        with Ledger(path) as ledger:
            ledger.append("fact", "a", data)
        assert next(read(path)).data == data
