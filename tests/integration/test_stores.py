"""One suite for all stores, against real ones: a folder, an S3 server, an SFTP server; then what one of them does."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from small_disk import small_disk
from ssh_server import SshServer
from store_places import (
    BIG,
    SNAPSHOT,
    Place,
    make_snapshot,
    peak_megabytes,
    s3_store,
    sftp_store,
    sums,
    where_it_lies,
)

from safepoint.config import Store
from safepoint.errors import Interrupted, StoreError
from safepoint.progress import Progress
from safepoint.stores import GivenBackOtherwise, SnapshotStore, open_store
from safepoint.stores.files import Sent

pytestmark = pytest.mark.usefixtures("s3_credentials")


@pytest.fixture(params=["file", "s3", "sftp"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "file":
        return Place(Store(name="local", url="file:backups/production"), tmp_path / "plan")
    if request.param == "s3":
        return s3_store(request.getfixturevalue("s3"), tmp_path.name)
    return sftp_store(request.getfixturevalue("sshd"), tmp_path / "appliance")


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return make_snapshot(tmp_path / "snapshot")


def test_what_was_put_in_comes_back_bit_by_bit(place: Place, snapshot: Path, tmp_path: Path) -> None:
    store = place.open()
    seen: list[Progress] = []
    sent = store.upload(snapshot, SNAPSHOT, seen.append)
    assert store.ids() == [SNAPSHOT]
    assert (seen[-1].done, seen[-1].total) == (sent.bytes, sent.bytes)
    for what in ("upload to", "read back from"):  # one after the other: nothing is seen before all is read back
        done = [p.done for p in seen if p.what.startswith(what)]
        assert done and done == sorted(done)
    proof = place.open().read_back(SNAPSHOT, sums(snapshot))
    assert proof.files == 4 and proof.bytes == sent.bytes - (snapshot / "manifest.json").stat().st_size
    store.fetch(SNAPSHOT, tmp_path / "fetched")
    assert sums(tmp_path / "fetched") == sums(snapshot)
    assert store.manifest(SNAPSHOT) == (snapshot / "manifest.json").read_bytes()


def test_an_upload_that_is_repeated_sends_nothing_and_reads_all_back(
    place: Place, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    seen: list[Progress] = []
    monkeypatch.setattr(store._files, "put", lambda *_words: pytest.fail("nothing is sent again"))
    store.upload(snapshot, SNAPSHOT, seen.append)
    assert {one.what.split(" ")[0] for one in seen} == {"read"}


def test_an_upload_that_was_cut_short_goes_on_with_the_files_that_are_missing(
    place: Place, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    store._files.remove(f"{SNAPSHOT}/manifest.json")
    store._files.remove(f"{SNAPSHOT}/globals.sql")
    store._files.write(f"{SNAPSHOT}/archive/toc.dat", b"PGDMP")  # cut short itself
    again, sent = place.open(), []
    put = again._files.put
    monkeypatch.setattr(again._files, "put", lambda local, *words: (sent.append(local.name), put(local, *words))[1])
    again.upload(snapshot, SNAPSHOT)
    assert sent == ["toc.dat", "globals.sql", "manifest.json"]
    again.read_back(SNAPSHOT, sums(snapshot))


def damaging(store: SnapshotStore, name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files of that name are kept otherwise than they were sent; which files were sent is told."""
    sent, put = [], store._files.put

    def damaged(local: Path, at: str, *words: Any) -> Sent:
        sent.append(local.name)
        found = put(local, at, *words)
        if local.name == name:
            store._files.write(at, b"otherwise")
        return found

    monkeypatch.setattr(store._files, "put", damaged)
    return sent


@pytest.mark.parametrize("name", ["globals.sql", "manifest.json"])
def test_a_snapshot_that_does_not_come_back_as_it_was_sent_is_never_seen_and_only_that_file_goes_again(
    place: Place, snapshot: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store = place.open()
    damaging(store, name, monkeypatch)
    with pytest.raises(GivenBackOtherwise, match=name):
        store.upload(snapshot, SNAPSHOT)
    assert place.open().ids() == []
    again = place.open()
    sent = damaging(again, "nothing", monkeypatch)
    again.upload(snapshot, SNAPSHOT)
    assert sent == [*([name] if name != "manifest.json" else []), "manifest.json"]
    again.read_back(SNAPSHOT, sums(snapshot))


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "gone"])
def test_a_copy_that_was_damaged_in_its_store_is_mended_by_storing_it_again(
    place: Place, snapshot: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    at = f"{SNAPSHOT}/archive/toc.dat"
    store._files.remove(at) if gone else store._files.write(at, b"otherwise")
    damaging(store, "toc.dat", monkeypatch)
    with pytest.raises(GivenBackOtherwise, match=r"toc\.dat"):  # it could not be mended: it counts for nothing any more
        store.upload(snapshot, SNAPSHOT)
    assert place.open().ids() == []
    again = place.open()
    sent = damaging(again, "nothing", monkeypatch)
    again.upload(snapshot, SNAPSHOT)
    assert sent == ["toc.dat", "manifest.json"]
    again.read_back(SNAPSHOT, sums(snapshot))


def test_another_snapshot_of_the_same_id_is_refused_and_the_first_one_stays(
    place: Place, snapshot: Path, tmp_path: Path
) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    with pytest.raises(StoreError, match="another snapshot"):
        store.upload(make_snapshot(tmp_path / "other", big=1000), SNAPSHOT)
    store.read_back(SNAPSHOT, sums(snapshot))


def test_two_of_one_id_that_are_stored_at_once_do_not_write_over_each_other(
    place: Place, snapshot: Path, tmp_path: Path
) -> None:
    """Two machines, say, whose timetables are the same."""
    other = make_snapshot(tmp_path / "other", big=9 * 1024 * 1024)
    outcomes: list[StoreError | None] = []

    def meanwhile(progress: Progress) -> None:
        if progress.what.startswith("upload") and progress.done and not outcomes:
            outcomes.append(None)
            try:
                place.open().upload(other, SNAPSHOT)
            except StoreError as error:
                outcomes[0] = error

    place.open().upload(snapshot, SNAPSHOT, meanwhile)
    assert outcomes[0] is not None and "on its way" in outcomes[0].message
    store = place.open()
    store.read_back(SNAPSHOT, sums(snapshot))
    store.fetch(SNAPSHOT, tmp_path / "back")
    assert {path.name for path in (tmp_path / "back").iterdir()} == {path.name for path in snapshot.iterdir()}
    assert not [name for name in store._files.names(SNAPSHOT) if name.startswith(".")]


def test_a_stopped_upload_shows_no_snapshot_and_can_be_repeated(place: Place, snapshot: Path) -> None:
    store = place.open()
    seen: list[Progress] = []
    with pytest.raises(Interrupted):
        store.upload(snapshot, SNAPSHOT, seen.append, lambda: len(seen) > 2)
    assert place.open().ids() == []
    assert not list(place.folder.rglob("3012.dat.zst"))  # what was half sent is given up, not completed
    store.upload(snapshot, SNAPSHOT)
    store.read_back(SNAPSHOT, sums(snapshot))


@pytest.mark.parametrize("left", [b"", b'{"files": {"archive', bytes(700)], ids=["empty", "torn", "zeros"])
def test_a_manifest_that_a_kill_left_torn_is_none_and_storing_it_again_completes_it(
    place: Place, snapshot: Path, left: bytes
) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    store._files.write(f"{SNAPSHOT}/manifest.json", left)
    store.upload(snapshot, SNAPSHOT)
    assert store.manifest(SNAPSHOT) == (snapshot / "manifest.json").read_bytes()
    store.read_back(SNAPSHOT, sums(snapshot))


def test_a_small_file_is_seen_under_its_name_only_when_it_is_whole(place: Place, snapshot: Path) -> None:
    """A kill while a manifest is written leaves none, and not the beginning of one."""
    store, seen = place.open(), list[bool]()
    (snapshot / "manifest.json").write_text(json.dumps({"files": sums(snapshot), "notes": "x" * 900_000}))

    def look(_done: int) -> None:
        seen.append(any(path.is_file() for path in place.folder.rglob("manifest.json")))

    store._files.put(snapshot / "manifest.json", f"{SNAPSHOT}/manifest.json", look)
    assert seen and not any(seen)
    assert store.manifest(SNAPSHOT) == (snapshot / "manifest.json").read_bytes()
    assert not list(place.folder.rglob("*.safepoint-part"))


def test_what_nobody_went_on_with_for_two_days_goes_and_all_else_stays(place: Place, snapshot: Path) -> None:
    """Uploads that were given up, and what a removal left that was killed: they would be invisible for ever."""
    store = place.open()
    store.upload(snapshot, "shop-manual-20260301T180000Z")
    for name in ("shop-manual-20260228T180000Z", "shop-manual-20260302T180000Z", "photos", "photos-2026"):
        store._files.write(f"{name}/archive/1.dat", b"1")
        store._files.write(f"{name}/archive/2.dat", b"2")
    then = time.time() - 49 * 3600
    for path in place.folder.rglob("*"):
        if path.is_file() and not (path.name == "2.dat" and "20260302" in str(path)):
            os.utime(path, (then, then))
    assert store.tidy() == ()  # nothing complete is newer, so it may be this machine's clock that is wrong
    store.upload(snapshot, "shop-manual-20260303T180000Z")
    (gone,) = store.tidy()
    assert (gone.snapshot_id, gone.locked_until) == ("shop-manual-20260228T180000Z", None)
    assert abs(gone.touched.timestamp() - then) < 2
    assert not store._files.names("shop-manual-20260228T180000Z")
    for name in ("shop-manual-20260302T180000Z", "photos", "photos-2026"):
        assert store._files.names(name) == ["archive/1.dat", "archive/2.dat"]
    assert store.ids() == ["shop-manual-20260301T180000Z", "shop-manual-20260303T180000Z"]


def test_a_changed_byte_is_found_and_its_file_named(place: Place, snapshot: Path) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    path = where_it_lies(place)
    with path.open("r+b") as file:
        file.seek(12_345_678)
        byte = file.read(1)
        file.seek(12_345_678)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(StoreError, match=r"archive/3012\.dat\.zst") as caught:
        place.open().read_back(SNAPSHOT, sums(snapshot))
    assert "SHA-256" in str(caught.value.expected)


def test_a_missing_file_is_found_and_named(place: Place, snapshot: Path) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    store._files.remove(f"{SNAPSHOT}/archive/3012.dat.zst")
    with pytest.raises(StoreError, match=r"archive/3012\.dat\.zst"):
        place.open().read_back(SNAPSHOT, sums(snapshot))


def test_a_removed_snapshot_is_gone_and_its_neighbour_is_not(place: Place, snapshot: Path) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    store.upload(snapshot, SNAPSHOT + "-b")
    store.remove(SNAPSHOT)
    store.remove(SNAPSHOT)
    assert store.ids() == [SNAPSHOT + "-b"]
    assert not list(place.folder.glob(f"**/{SNAPSHOT}/**/*.zst"))
    with pytest.raises(StoreError, match="no complete snapshot"):
        store.fetch(SNAPSHOT, snapshot.parent / "nothing")


def test_the_probe_leaves_nothing_behind(place: Place) -> None:
    place.open().check_writable()
    assert not list(place.folder.rglob(".safepoint-probe*"))
    assert place.open().ids() == []


def test_memory_does_not_grow_with_a_snapshot(place: Place, tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path / "large", big=3 * BIG)
    place.open().check_writable()  # the libraries are loaded before the measurement
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is used now, see proc_pid_clear_refs(5)
    before = peak_megabytes()
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    store.fetch(SNAPSHOT, tmp_path / "fetched")
    assert peak_megabytes() - before < 40  # of 60 MB that passed twice


def test_a_folder_that_is_not_a_snapshot_is_not_uploaded(place: Place, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.dump").write_bytes(b"truncated")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        place.open().upload(tmp_path / "x", SNAPSHOT)


def test_an_sftp_server_that_cannot_replace_a_file_in_one_takes_snapshots_too(
    sshd: SshServer, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all have OpenSSH's posix-rename. This one has it, so it is taken away on our side."""
    store = sftp_store(sshd, tmp_path / "appliance").open()
    store.check_writable()
    fs, _root = store._files._files._opened

    def unsupported(_old: str, _new: str) -> None:
        raise OSError("Operation unsupported")

    monkeypatch.setattr(fs.ftp, "posix_rename", unsupported)
    store.upload(snapshot, SNAPSHOT)
    store._files.write(f"{SNAPSHOT}/globals.sql", b"otherwise")
    store.upload(snapshot, SNAPSHOT)
    store.read_back(SNAPSHOT, sums(snapshot))


def modes(folder: Path) -> set[str]:
    return {f"{'d' if path.is_dir() else 'f'}{path.stat().st_mode & 0o777:o}" for path in folder.rglob("*")}


def test_what_lies_in_the_clear_in_a_folder_is_for_its_owner_alone(snapshot: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = open_store(Store(name="x", url="file:new/backups"), tmp_path)
        store.upload(snapshot, SNAPSHOT)
        assert modes(tmp_path / "new") == {"d700", "f600"}
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
        (tmp_path / "there").mkdir(mode=0o755)
        open_store(Store(name="x", url="file:there"), tmp_path).upload(snapshot, SNAPSHOT)
        assert (tmp_path / "there").stat().st_mode & 0o7777 == 0o755  # somebody else made it
        assert modes(tmp_path / "there") == {"d700", "f600"}
    finally:
        os.umask(before)


def test_a_folder_that_is_shared_with_its_group_lets_the_group_read(snapshot: Path, tmp_path: Path) -> None:
    before, group = os.umask(0o022), 12345 if os.geteuid() == 0 else os.getgid()
    try:
        shared = tmp_path / "shared"
        shared.mkdir()
        os.chown(shared, -1, group)
        shared.chmod(0o2750)
        open_store(Store(name="x", url=f"file:{shared}"), tmp_path).upload(snapshot, SNAPSHOT)
        assert modes(shared) == {"d750", "f640"}
        assert {path.stat().st_gid for path in shared.rglob("*")} == {group}
    finally:
        os.umask(before)


def test_a_store_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="failed to write"):
        open_store(Store(name="x", url="file:file/backups"), tmp_path).check_writable()


def test_a_full_disk_is_told(tmp_path: Path, snapshot: Path) -> None:
    with small_disk(tmp_path / "small", 4) as small:
        store = open_store(Store(name="x", url=f"file:{small}"), tmp_path)
        assert (store.free_bytes() or 0) <= 4 * 1024 * 1024
        with pytest.raises(StoreError, match="full"):
            store.upload(snapshot, SNAPSHOT)
        assert store.ids() == []


def test_a_store_in_memory_works_as_any_other(tmp_path: Path, snapshot: Path) -> None:
    store = open_store(Store(name="x", url="memory://stores/test"), tmp_path)
    store.check_writable()
    store.upload(snapshot, SNAPSHOT)
    store.read_back(SNAPSHOT, sums(snapshot))
    assert store.ids() == [SNAPSHOT]
    assert store.free_bytes() is None
