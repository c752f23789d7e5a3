"""What the system refuses on Safepoint's own disk: what to do depends on whether a launch has its record there."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest
from stories import PLAN_FILE, launched

from safepoint.cli.orders import retire
from safepoint.config import load
from safepoint.errors import SafepointError, StorageError
from safepoint.launch.stepping import as_told
from safepoint.launch.storage import told
from safepoint.wayback.capture.spool import Spool

FOLDER = Path("/state/launches/shop-2.0-20260301")
NUMBERS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST]


def refused(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize("number", NUMBERS)
def test_no_launch_that_has_begun_is_sent_to_a_folder_that_knows_nothing_of_it(number: int, tmp_path: Path) -> None:
    lock = str(tmp_path / "conductor.lock")
    spool = str(tmp_path / "launches/shop-2.0-20260301/spool/0000.spool")
    for said in (told(refused(number, lock), begun=True), told(refused(number, spool))):
        assert said.remedy is not None and "another place" not in said.remedy
        assert said.remedy.endswith("; then run the command again.")


def test_of_a_full_disk_it_is_said_what_may_be_moved_away_and_nothing_that_the_launch_needs(tmp_path: Path) -> None:
    """At 3 a.m. nobody knows what in that folder may go."""
    launch = "shop-2.0-20260301"
    sizes = {
        "shop-manual-3f-20260227T020000Z": 3,
        "shop-1.9-20260101-final-1": 5,
        f"{launch}-final-1": 9,
        f"{launch}-prelaunch-1": 7,
    }
    for folder in (launch, "shop-1.9-20260101"):
        (tmp_path / "launches" / folder).mkdir(parents=True)
    for name, megabytes in {**sizes, "shop-manual-4a-20260228T020000Z": 0}.items():
        (tmp_path / "snapshots" / name).mkdir(parents=True)
        (tmp_path / "snapshots" / name / "manifest.json").write_text("{}")
        (tmp_path / "snapshots" / name / "archive").write_bytes(bytes(megabytes << 20))
    (tmp_path / "snapshots" / "shop-manual-5b.partial").mkdir()
    folder, lock = str(tmp_path / "launches" / launch), str(tmp_path / "conductor-shop.lock")
    older, manual = (tmp_path / "snapshots" / name for name in list(sizes)[1::-1])
    for error, subject in ((refused(errno.ENOSPC, lock), folder), (OSError(errno.ENOSPC, "No space left"), folder)):
        remedy = str(told(error, subject=subject, begun=True).remedy)
        assert "4 MB at the least. Neither the launch nor its way back needs these now" in remedy
        assert f"to another disk: {older} (" in remedy
        assert f", {manual} (" in remedy and f"{launch}-final" not in remedy and "4a" not in remedy
        assert remedy.endswith("; then run the command again.")
    remedy = str(told(refused(errno.ENOSPC, lock), begun=True).remedy)  # of which launch, nobody has said
    assert str(manual) in remedy and str(older) not in remedy
    own = manual.with_name(f"{launch}-prelaunch-1")
    for path in (own, manual):  # which the gate before the window asks for
        (path / "rehearsal.json").write_text("{}")
    remedy = str(told(refused(errno.ENOSPC, folder), begun=True).remedy)
    assert str(older) in remedy and str(own) not in remedy and str(manual) not in remedy
    closed = '{"key":"1:stop-traffic:1:begun"}\n'
    ledger = tmp_path / "launches" / launch / "ledger.jsonl"
    ledger.write_text(f'{closed}{{"key":"end:1","kind":"end","data":{{"status":"aborted"}}}}\n')
    assert str(own) not in str(told(refused(errno.ENOSPC, folder), begun=True).remedy)  # the next try begins anew
    ledger.write_text(closed)
    remedy = str(told(refused(errno.ENOSPC, folder), begun=True).remedy)
    assert f"to another disk: {own} (" in remedy and str(older) in remedy and str(manual) in remedy
    assert f"{launch}-final" not in remedy
    for path in (older, manual, own):
        (path / "manifest.json").unlink()
    assert "nothing in the state folder can be spared" in str(told(refused(errno.ENOSPC, folder), begun=True).remedy)


def test_where_nothing_has_begun_another_place_is_an_answer(tmp_path: Path) -> None:
    remedy = told(refused(errno.ENOSPC, str(tmp_path / "conductor.lock"))).remedy
    assert remedy is not None and "launch.state" in remedy


def test_what_sqlite_says_of_a_full_disk_is_told_like_the_systems_own_words(tmp_path: Path) -> None:
    folder = str(tmp_path / "launches/shop-2.0-20260301")
    said = told(RuntimeError("(sqlite3.OperationalError) database or disk is full"), subject=folder)
    assert said.subject == folder and "No space left" in said.message
    assert said.remedy is not None and "another place" not in said.remedy


def test_a_disk_that_is_full_within_a_step_is_no_fault_of_safepoint() -> None:
    said = as_told(refused(errno.ENOSPC, "/mnt/scratch/dump"), "final-snapshot", FOLDER)
    assert said.subject == "/mnt/scratch/dump" and said.remedy is not None and said.remedy.startswith("Make room there")
    assert "fault of Safepoint" in (as_told(KeyError("x"), "watch", FOLDER).remedy or "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left"),
        (sqlite3.OperationalError("database or disk is full"), "No space left"),
        (sqlite3.OperationalError("disk I/O error"), "Input/output error"),
    ],
)
def test_where_the_system_names_no_file_the_folder_of_the_launch_is_named(error: Exception, words: str) -> None:
    said = as_told(error, "back-list", FOLDER)
    assert said.subject == str(FOLDER) and said.message.startswith(f"{FOLDER}: {words}")
    assert "fault of Safepoint" not in (said.remedy or "")


def test_what_a_link_says_is_told_of_the_step_and_of_no_folder() -> None:
    said = as_told(OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)), "store", FOLDER)
    assert said.subject == "store"


def test_a_spool_that_cannot_be_written_for_another_reason_than_room_asks_for_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match=r"Not a directory|File exists") as caught,
        Spool(tmp_path / "file/spool", {}),
    ):
        pass
    assert "room" not in str(caught.value.remedy) and "the server keeps" in str(caught.value.remedy)


@pytest.mark.parametrize("damage", [b"no database at all " * 300, None])
def test_a_damaged_state_of_the_engine_is_told_with_what_to_move_away(tmp_path: Path, damage: bytes | None) -> None:
    state = tmp_path / "engine.sqlite"
    with sqlite3.connect(state) as database:
        database.executescript("create table t (x text); create index i on t (x)")
        database.executemany("insert into t values (?)", [(str(number) * 100,) for number in range(500)])
    database.close()
    whole = state.read_bytes()
    state.write_bytes(damage or whole[: len(whole) // 2])
    database = sqlite3.connect(state)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        database.execute("select count(*) from t not indexed where x > ''").fetchall()
    database.close()
    for said in (told(caught.value), told(caught.value, subject=str(tmp_path))):
        assert said.message.startswith("The engine's state is damaged: ") and said.remedy is not None
        assert "engine.sqlite" in said.remedy and "goes on by the ledger" in said.remedy


def test_who_retires_a_launch_on_a_full_disk_is_not_sent_to_another_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PLAN_FILE.format(date="2026-03-01", zone="Europe/Berlin", more="")
    plan = tmp_path / "launch.toml"
    plan.write_text(text.replace("[launch]", f'[launch]\nstate = "{tmp_path}"'))
    folder = tmp_path / "launches" / load(plan).launch_id
    folder.mkdir(parents=True)
    launched(folder / "ledger.jsonl")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.ftruncate", full)  # the lock names its holder
    with pytest.raises(SafepointError, match=r"conductor-accounting\.lock: No space left") as caught:
        retire(plan, now=True)
    assert str(caught.value.remedy).startswith("Make room there (or move the whole state folder")
