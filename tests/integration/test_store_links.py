"""Uploads over links that break, trickle or stay silent, to servers that answer badly: they go on where they were."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pyrage
import pytest
from broken_link import BrokenLink, broken_link
from faulty_s3 import (
    BAD_GATEWAY,
    ERROR_WITHIN_200,
    EXPIRED,
    FORBIDDEN,
    GATEWAY_TIMEOUT,
    SKEWED,
    SLOW_DOWN,
    TOO_MANY,
    faulty_s3,
)
from s3_server import BUCKET, Address
from store_places import (
    BIG,
    SNAPSHOT,
    Place,
    make_snapshot,
    peak_megabytes,
    s3_store,
    sftp_store,
    sums,
    told,
)

from safepoint.config import Store
from safepoint.errors import Interrupted, StoreError
from safepoint.progress import Progress
from safepoint.stores import open_store
from safepoint.stores.retry import Retrying
from safepoint.stores.sending import PREFIX

pytestmark = pytest.mark.usefixtures("s3_credentials")


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return make_snapshot(tmp_path / "snapshot")


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
@pytest.mark.parametrize(
    "answer",
    [SLOW_DOWN, ERROR_WITHIN_200, BAD_GATEWAY, GATEWAY_TIMEOUT, TOO_MANY],
    ids=["503", "error-within-200", "502", "504", "429"],
)
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
    [(EXPIRED, "have expired"), (FORBIDDEN, "Allow these credentials"), (SKEWED, "clock is wrong")],
    ids=["expired", "forbidden", "skewed"],
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
    """A 200 for a file that was never kept: the reading back names it, and there is no snapshot to rely on."""

    def fault(method: str, path: str) -> tuple[int, bytes] | None:
        return (200, b"") if method == "PUT" and path.endswith("globals.sql") else None

    with faulty_s3(s3.port, fault) as door:
        store = s3_store(s3, tmp_path.name, port=door.port).open()
        with pytest.raises(StoreError, match=r"globals\.sql"):
            store.upload(snapshot, SNAPSHOT)
    store = s3_store(s3, tmp_path.name).open()
    assert store.ids() == []
    store.upload(snapshot, SNAPSHOT)
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
        for what in (f"upload to {place.settings.name}", f"read back from {place.settings.name}"):
            sizes = [one.done for one in seen if one.done and one.what == what]
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
        assert place.open().ids() == []
        assert all(name.startswith(PREFIX) for name in place.open()._files.names(SNAPSHOT))  # whose upload it is
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


def test_an_upload_that_was_begun_long_ago_and_goes_on_is_not_given_up(s3: Address, tmp_path: Path) -> None:
    store = s3_store(s3, tmp_path.name).open()
    store.check_writable()
    fs, root = store._files._files._opened
    uploads = {}
    for name in ("shop-manual-20260228T180000Z", "shop-manual-20260301T180000Z"):
        bucket, key, _ = fs.split_path(f"{root}/{name}/archive/1.dat")
        place = {"Bucket": bucket, "Key": key}
        uploads[name] = {**place, "UploadId": fs.call_s3("create_multipart_upload", **place)["UploadId"]}
    time.sleep(1.1)  # a store's times may be in whole seconds
    since = datetime.now(UTC)
    time.sleep(1.1)
    goes_on, stands = uploads
    fs.call_s3("upload_part", **uploads[goes_on], PartNumber=1, Body=b"x" * 5 * 1024**2)
    assert [(store._files.touched(name) or since) > since for name in (goes_on, stands)] == [True, False]
    store._files.tidy(since)
    answer = fs.call_s3("list_multipart_uploads", Bucket=BUCKET, Prefix=f"{tmp_path.name}/")
    assert [one["UploadId"] for one in answer["Uploads"]] == [uploads[goes_on]["UploadId"]]
    store.remove(goes_on)


def test_a_clock_that_is_days_ahead_gives_up_no_upload_of_another_machine(
    s3: Address, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = s3_store(s3, tmp_path.name).open()
    store.upload(snapshot, SNAPSHOT)
    fs, root = store._files._files._opened
    bucket, key, _ = fs.split_path(f"{root}/shop-manual-20260228T180000Z/archive/1.dat")
    fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=9)

    for module in ("abandoned", "store"):
        monkeypatch.setattr(f"safepoint.stores.{module}.datetime", Ahead)
    store.tidy()
    answer = fs.call_s3("list_multipart_uploads", Bucket=BUCKET, Prefix=f"{tmp_path.name}/")
    assert len(answer.get("Uploads") or ()) == 1
