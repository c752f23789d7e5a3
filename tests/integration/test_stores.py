"""One suite for all stores, against real ones: a folder, an S3 server, an SFTP server; then what one of them does."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
import pytest
from broken_link import BrokenLink, broken_link
from faulty_s3 import ERROR_WITHIN_200, EXPIRED, FORBIDDEN, SLOW_DOWN, faulty_s3
from s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, Address
from small_disk import small_disk
from ssh_server import SshServer
from store_places import BIG, SNAPSHOT, Place, make_snapshot, s3_store, sftp_store, sums

from safepoint.config import Store
from safepoint.errors import Interrupted, SafepointError, StoreError
from safepoint.progress import Progress
from safepoint.stores import open_store
from safepoint.stores.retry import Retrying


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


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


def where_it_lies(place: Place) -> Path:
    return next(path for path in place.folder.rglob("3012.dat.zst") if SNAPSHOT in path.parts)


def test_what_was_put_in_comes_back_bit_by_bit(place: Place, snapshot: Path, tmp_path: Path) -> None:
    store = place.open()
    seen: list[Progress] = []
    sent = store.upload(snapshot, SNAPSHOT, seen.append)
    assert store.ids() == [SNAPSHOT]
    assert (seen[-1].done, seen[-1].total) == (sent.bytes, sent.bytes)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    proof = place.open().read_back(SNAPSHOT, sums(snapshot))
    assert proof.files == 4 and proof.bytes == sent.bytes - (snapshot / "manifest.json").stat().st_size
    store.fetch(SNAPSHOT, tmp_path / "fetched")
    assert sums(tmp_path / "fetched") == sums(snapshot)
    assert store.manifest(SNAPSHOT) == (snapshot / "manifest.json").read_bytes()
    json.dumps(sent.as_json())


def test_an_upload_that_is_repeated_sends_nothing(place: Place, snapshot: Path) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    seen: list[Progress] = []
    store.upload(snapshot, SNAPSHOT, seen.append)
    assert not seen


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


def test_another_snapshot_of_the_same_id_is_refused_and_the_first_one_stays(
    place: Place, snapshot: Path, tmp_path: Path
) -> None:
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    with pytest.raises(StoreError, match="another snapshot"):
        store.upload(make_snapshot(tmp_path / "other", big=1000), SNAPSHOT)
    store.read_back(SNAPSHOT, sums(snapshot))


def test_a_stopped_upload_shows_no_snapshot_and_can_be_repeated(place: Place, snapshot: Path) -> None:
    store = place.open()
    seen: list[Progress] = []
    with pytest.raises(Interrupted):
        store.upload(snapshot, SNAPSHOT, seen.append, lambda: len(seen) > 2)
    assert place.open().ids() == []
    assert not list(place.folder.rglob("3012.dat.zst"))  # what was half sent is given up, not completed
    store.upload(snapshot, SNAPSHOT)
    store.read_back(SNAPSHOT, sums(snapshot))


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


def peak_megabytes() -> float:
    """The most memory that this process has used since the peak was last set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def test_memory_does_not_grow_with_a_snapshot(place: Place, tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path / "large", big=5 * BIG)
    place.open().check_writable()  # the libraries are loaded before the measurement
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back to what is used now, see proc_pid_clear_refs(5)
    before = peak_megabytes()
    store = place.open()
    store.upload(snapshot, SNAPSHOT)
    store.fetch(SNAPSHOT, tmp_path / "fetched")
    assert peak_megabytes() - before < 60  # of 100 MB that passed twice


def test_a_folder_that_is_not_a_snapshot_is_not_uploaded(place: Place, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.dump").write_bytes(b"truncated")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        place.open().upload(tmp_path / "x", SNAPSHOT)


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_link_that_breaks_twice_in_an_upload_costs_nothing_but_time(
    kind: str, request: pytest.FixtureRequest, snapshot: Path, tmp_path: Path
) -> None:
    server = request.getfixturevalue("s3" if kind == "s3" else "sshd")
    with broken_link(server.port, after=6_000_000, breaks=2) as link:
        if kind == "s3":
            place = s3_store(server, tmp_path.name, port=link.port)
        else:
            place = sftp_store(server, tmp_path / "appliance", port=link.port)
        place.open().upload(snapshot, SNAPSHOT)
        assert link.broken == 2
        place.open().read_back(SNAPSHOT, sums(snapshot))


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_an_encrypted_upload_goes_on_where_the_link_broke_opens_again_and_needs_no_more_memory(
    kind: str, request: pytest.FixtureRequest, snapshot: Path, tmp_path: Path
) -> None:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    seal = {"encrypt_to": (str(identity.to_public()),)}
    server = request.getfixturevalue("s3" if kind == "s3" else "sshd")
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_megabytes()
    with broken_link(server.port, after=10_000_000, breaks=2) as link:
        place = through(kind, request, link, tmp_path)
        store = open_store(place.settings.model_copy(update=seal), tmp_path, identity=tmp_path / "key")
        sent = store.upload(snapshot, SNAPSHOT)
        assert link.broken == 2
        assert link.passed < BIG * 1.6  # anew it would be twice as much
        store.read_back(SNAPSHOT, sent.sha256)
        store.fetch(SNAPSHOT, tmp_path / "fetched")
    assert sums(tmp_path / "fetched") == sums(snapshot)
    assert not list(place.folder.rglob("*.safepoint-part"))
    assert peak_megabytes() - before < 60  # of 20 MB that passed several times


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("answer", [SLOW_DOWN, ERROR_WITHIN_200], ids=["503", "error-within-200"])
def test_a_store_that_answers_badly_for_a_while_loses_nothing(
    s3: Address, snapshot: Path, tmp_path: Path, answer: tuple[int, bytes]
) -> None:
    """An error may stand in a 200 answer to what completes an upload in parts (API page of CompleteMultipartUpload)."""
    left = [2]

    def fault(method: str, path: str) -> tuple[int, bytes] | None:
        wanted = method == "POST" and "uploadId=" in path if answer is ERROR_WITHIN_200 else method == "PUT"
        if wanted and left[0]:
            left[0] -= 1
            return answer
        return None

    with faulty_s3(s3.port, fault) as door:
        store = s3_store(s3, tmp_path.name, port=door.port).open()
        store.upload(snapshot, SNAPSHOT)
        assert door.faults == 2
        store.read_back(SNAPSHOT, sums(snapshot))


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(
    ("answer", "remedy"),
    [(EXPIRED, "have expired"), (FORBIDDEN, "Allow these credentials")],
    ids=["expired", "forbidden"],
)
def test_a_login_that_ends_in_the_middle_of_an_upload_is_told_and_shows_no_snapshot(
    s3: Address, snapshot: Path, tmp_path: Path, answer: tuple[int, bytes], remedy: str
) -> None:
    sent = []

    def fault(method: str, path: str) -> tuple[int, bytes] | None:
        sent.extend([path] if method == "PUT" else [])
        return answer if len(sent) > 2 else None

    with faulty_s3(s3.port, fault) as door, pytest.raises(StoreError) as caught:
        s3_store(s3, tmp_path.name, port=door.port).open().upload(snapshot, SNAPSHOT)
    assert remedy in str(caught.value.remedy)
    store = s3_store(s3, tmp_path.name).open()
    assert store.ids() == []
    store.upload(snapshot, SNAPSHOT)  # with a login that is renewed it goes on
    store.read_back(SNAPSHOT, sums(snapshot))


@pytest.mark.usefixtures("_soon")
def test_a_store_that_only_says_that_it_took_a_file_is_found_out(s3: Address, snapshot: Path, tmp_path: Path) -> None:
    """A 200 for a file that was never kept: the reading back names it."""

    def fault(method: str, path: str) -> tuple[int, bytes] | None:
        return (200, b"") if method == "PUT" and path.endswith("globals.sql") else None

    with faulty_s3(s3.port, fault) as door:
        store = s3_store(s3, tmp_path.name, port=door.port).open()
        store.upload(snapshot, SNAPSHOT)
        with pytest.raises(StoreError, match=r"globals\.sql"):
            store.read_back(SNAPSHOT, sums(snapshot))


@pytest.mark.usefixtures("_soon")
def test_a_link_that_stays_broken_is_told_with_what_to_check(s3: Address, snapshot: Path, tmp_path: Path) -> None:
    with broken_link(s3.port, after=3_000_000, breaks=1000) as link:
        store = s3_store(s3, tmp_path.name, port=link.port).open()
        with pytest.raises(StoreError, match="network") as caught:
            store.upload(snapshot, SNAPSHOT)
    assert caught.value.subject and "3012.dat.zst" in caught.value.subject
    assert s3_store(s3, tmp_path.name).open().ids() == []


def through(kind: str, request: pytest.FixtureRequest, link: BrokenLink, folder: Path) -> Place:
    server = request.getfixturevalue("s3" if kind == "s3" else "sshd")
    if kind == "sftp":
        return sftp_store(server, folder / "appliance", port=link.port)
    place = s3_store(server, folder.name, port=link.port)
    # An answer must come sooner than a part takes to be sent; the time that sending takes is no silence.
    options = {**place.settings.options, "config_kwargs": {"read_timeout": 2}}
    return Place(place.settings.model_copy(update={"options": options}), place.folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_link_that_only_trickles_is_followed_with_progress_and_left_at_an_order(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    small = make_snapshot(tmp_path / "small", big=16_000_000)
    server = request.getfixturevalue("s3" if kind == "s3" else "sshd")
    with broken_link(server.port, rate=3_000_000) as link:
        place = through(kind, request, link, tmp_path)
        seen: list[Progress] = []
        began = time.monotonic()
        place.open().upload(small, SNAPSHOT, seen.append)
        assert time.monotonic() - began > 4  # it was slow indeed
        sizes = [one.done for one in seen if one.done]
        assert sizes == sorted(sizes) and len(set(sizes)) > 5
        link.rate = 400_000  # half a minute for all of it
        ordered: list[float] = []

        def stop() -> bool:
            ordered.extend([time.monotonic()] if not ordered and len(seen) > 3 else [])
            return bool(ordered)

        seen.clear()
        with pytest.raises(Interrupted):
            place.open().upload(small, f"{SNAPSHOT}-2", seen.append, stop)
        assert time.monotonic() - ordered[0] < 8
        assert place.open().ids() == [SNAPSHOT]


@pytest.mark.slow
@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_link_that_passes_nothing_any_more_is_given_up_and_the_error_says_for_how_long(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safepoint.stores.sftp._STALLED_SECONDS", 2.0)
    monkeypatch.setitem(Retrying.__init__.__kwdefaults__, "attempts", 1)
    small = make_snapshot(tmp_path / "small", big=9_000_000)
    server = request.getfixturevalue("s3" if kind == "s3" else "sshd")
    with broken_link(server.port, rate=30_000_000) as link:
        place = through(kind, request, link, tmp_path)
        store = place.open()
        assert store.ids() == []

        def stall(progress: Progress) -> None:
            link.rate = 0 if progress.done > 1_000_000 else link.rate

        began = time.monotonic()
        with pytest.raises(StoreError) as caught:
            store.upload(small, SNAPSHOT, stall)
        assert time.monotonic() - began < 25
        assert re.search("time[d ]*out", told(caught.value), re.I), told(caught.value)


def told(error: SafepointError) -> str:
    return json.dumps(error.as_json()) + str(error) + repr(error)


def test_wrong_s3_credentials_are_told_and_not_shown(
    s3: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG", "wrong-secret-key")
    place = s3_store(s3, tmp_path.name)
    options = {**place.settings.options, "key": ACCESS_KEY, "secret_env": "WRONG"}
    store = open_store(place.settings.model_copy(update={"options": options}), tmp_path)
    with pytest.raises(StoreError, match="credentials") as caught:
        store.check_writable()
    assert "wrong-secret-key" not in told(caught.value)


def test_missing_s3_credentials_are_told(s3: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        s3_store(s3, tmp_path.name).open().check_writable()


def test_a_bucket_that_is_not_there_is_told_and_not_made(s3: Address, tmp_path: Path) -> None:
    place = s3_store(s3, tmp_path.name)
    settings = place.settings.model_copy(update={"url": "s3://no-such-bucket/x"})
    with pytest.raises(StoreError, match="url"):
        open_store(settings, tmp_path).check_writable()
    assert not (s3.folder / "no-such-bucket").exists()


def test_an_sftp_server_with_an_unknown_key_is_refused(sshd: SshServer, tmp_path: Path) -> None:
    place = sftp_store(sshd, tmp_path)
    (tmp_path / "known_hosts").touch()
    options = {**place.settings.options, "known_hosts": str(tmp_path / "known_hosts")}
    with pytest.raises(StoreError, match="known_hosts"):
        open_store(place.settings.model_copy(update={"options": options}), tmp_path).check_writable()


def test_a_wrong_sftp_password_is_told_and_not_shown(
    sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPLIANCE_PASSWORD", "wr0ng-passw0rd")
    options = {
        "known_hosts": str(sshd.known_hosts),
        "password_env": "APPLIANCE_PASSWORD",
        "allow_agent": False,
        "look_for_keys": False,
    }
    url = f"sftp://{sshd.user}:in-the-url@127.0.0.1:{sshd.port}{tmp_path}"
    store = open_store(Store(name="x", url=url, options=options), tmp_path)
    with pytest.raises(StoreError, match="credentials") as caught:
        store.check_writable()
    assert "wr0ng-passw0rd" not in told(caught.value)
    assert "in-the-url" not in told(caught.value) + store.where


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


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_big_file_goes_on_where_the_link_broke(
    kind: str, request: pytest.FixtureRequest, snapshot: Path, tmp_path: Path
) -> None:
    server = request.getfixturevalue("s3" if kind == "s3" else "sshd")
    with broken_link(server.port, after=10_000_000, breaks=2) as link:
        place = through(kind, request, link, tmp_path)
        place.open().upload(snapshot, SNAPSHOT)
        assert link.broken == 2
        assert link.passed < BIG * 1.4  # anew it would be twice as much
        place.open().read_back(SNAPSHOT, sums(snapshot))
    assert not list(place.folder.rglob("*.safepoint-part"))


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("kind", ["s3", "sftp"])
@pytest.mark.parametrize("changed", [False, True], ids=["the-same", "changed-meanwhile"])
def test_a_later_process_goes_on_with_a_big_file_as_far_as_it_is_the_same(
    kind: str, changed: bool, request: pytest.FixtureRequest, snapshot: Path, tmp_path: Path
) -> None:
    server = request.getfixturevalue("s3" if kind == "s3" else "sshd")
    with broken_link(server.port) as link:
        place = through(kind, request, link, tmp_path)

        def break_for_good(progress: Progress) -> None:
            if progress.done > 12_000_000 and link.breaks == 0:
                link.after, link.breaks = 0, 1000
                link.cut()

        with pytest.raises(StoreError):
            place.open().upload(snapshot, SNAPSHOT, break_for_good)
        link.after, link.breaks = 1 << 62, 0
        assert place.open().ids() == [] and not any(place.open()._files.names(SNAPSHOT))
        if changed:
            path = snapshot / "archive" / "3012.dat.zst"
            path.write_bytes(b"other" + path.read_bytes()[5:])
        before = link.passed
        place.open().upload(snapshot, SNAPSHOT)
        assert (link.passed - before < BIG * 0.8) is not changed
        place.open().read_back(SNAPSHOT, sums(snapshot))
    assert not list(place.folder.rglob("*.safepoint-part"))


def test_what_a_killed_upload_left_in_a_folder_is_gone_on_with_or_replaced(snapshot: Path, tmp_path: Path) -> None:
    store = open_store(Store(name="x", url=f"file:{tmp_path}/away"), tmp_path)
    whole = (snapshot / "archive" / "3012.dat.zst").read_bytes()
    part = tmp_path / "away" / SNAPSHOT / "archive" / "3012.dat.zst.safepoint-part"
    for left in (whole[:9_999_999], b"x" + whole[1:9_999_999], whole + b"more", b""):
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(left)
        store.upload(snapshot, SNAPSHOT)
        store.read_back(SNAPSHOT, sums(snapshot))
        assert not part.exists()
        store.remove(SNAPSHOT)


def test_uploads_that_nobody_goes_on_with_are_given_up_and_others_are_left(
    s3: Address, snapshot: Path, tmp_path: Path
) -> None:
    place, stamped = s3_store(s3, tmp_path.name), "shop-manual-20260228T180000Z"
    store = place.open()
    store.check_writable()
    fs, root = store._files._files._opened

    def begin(name: str) -> None:
        bucket, key, _ = fs.split_path(f"{root}/{name}")
        fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)

    def left() -> set[str]:
        answer = fs.call_s3("list_multipart_uploads", Bucket=BUCKET, Prefix=f"{tmp_path.name}/")
        return {one["Key"].partition("/")[2] for one in answer.get("Uploads") or ()}

    theirs = {"photos/2026.tar", f"{SNAPSHOT}-b/archive/1.dat"}
    for name in (*theirs, f"{stamped}/archive/1.dat", f"{SNAPSHOT}/archive/1.dat"):
        begin(name)
    store.tidy()  # they are of today: somebody may be at it
    assert len(left()) == 4
    store._files.tidy(datetime.now(UTC) + timedelta(minutes=1))
    assert left() == {*theirs, f"{SNAPSHOT}/archive/1.dat"}
    store.remove(SNAPSHOT)
    assert left() == theirs
