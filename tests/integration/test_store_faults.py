"""What else a store can do wrong: a link that breaks while a snapshot comes back, full disks on either side."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pyrage
import pytest
from broken_link import BrokenLink, broken_link
from faulty_s3 import SLOW_DOWN, faulty_s3
from s3_server import Address
from small_disk import small_disk
from ssh_server import SshServer
from store_places import SNAPSHOT, make_snapshot, s3_store, sftp_store, sums

from safepoint.config import Store
from safepoint.errors import StoreError
from safepoint.stores import open_store
from safepoint.stores.retry import Retrying

WAYS = (
    pytest.param("s3", True, id="s3-sealed"),
    pytest.param("sftp", False, id="sftp-clear", marks=pytest.mark.slow),
)
SIZES = (pytest.param(5, id="one-piece"), pytest.param(9, id="parts", marks=pytest.mark.slow))
NO_BUCKET = (404, b"<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>")
BROKEN_INSIDE = (500, b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>")

pytestmark = pytest.mark.usefixtures("s3_credentials")


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return make_snapshot(tmp_path / "snapshot", big=9_000_000)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize(("kind", "sealed"), WAYS)
def test_a_snapshot_that_comes_back_goes_on_where_the_link_broke(
    kind: str, sealed: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server = request.getfixturevalue("s3" if kind == "s3" else "sshd")
    snapshot = make_snapshot(tmp_path / "big", big=24_000_000)
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    seal = {"encrypt_to": (str(identity.to_public()),)} if sealed else {}
    with broken_link(server.port, after=10_000_000, answers=True) as link:
        if kind == "s3":
            place = s3_store(server, tmp_path.name, port=link.port)
        else:
            place = sftp_store(server, tmp_path / "appliance", port=link.port)
        settings = place.settings.model_copy(update=seal)
        store = open_store(settings, tmp_path, identity=tmp_path / "key" if sealed else None)
        sent = store.upload(snapshot, SNAPSHOT)
        link.breaks, before = 2, link.passed
        store.read_back(SNAPSHOT, sent.sha256 or sums(snapshot))
        assert link.broken == 2
        link.breaks, back = 4, link.passed
        store.fetch(SNAPSHOT, tmp_path / "fetched")
        assert link.broken == 4
        for passed in (back - before, link.passed - back):  # anew it would be 44 MB
            assert passed < 36_000_000
    assert sums(tmp_path / "fetched") == sums(snapshot)
    assert not list((tmp_path / "fetched").rglob("*.part"))


@pytest.mark.slow
@pytest.mark.usefixtures("_soon")
def test_a_link_that_stays_broken_on_the_way_back_leaves_no_snapshot_here(
    s3: Address, snapshot: Path, tmp_path: Path
) -> None:
    with broken_link(s3.port, after=3_000_000, answers=True) as link:
        store = s3_store(s3, tmp_path.name, port=link.port).open()
        store.upload(snapshot, SNAPSHOT)
        link.breaks = 1000
        with pytest.raises(StoreError) as caught:
            store.fetch(SNAPSHOT, tmp_path / "fetched")
    assert "network" in str(caught.value.remedy) and "3012.dat.zst" in str(caught.value.subject)
    assert not (tmp_path / "fetched" / "manifest.json").exists()


@pytest.mark.usefixtures("_soon")
def test_a_store_that_answers_badly_for_a_while_gives_it_all_back(s3: Address, snapshot: Path, tmp_path: Path) -> None:
    answers: list[tuple[int, bytes]] = []

    def fault(method: str, path: str) -> tuple[int, bytes] | None:
        return answers.pop() if answers and method == "GET" and "3012.dat.zst" in path else None

    with faulty_s3(s3.port, fault) as door:
        store = s3_store(s3, tmp_path.name, port=door.port).open()
        store.upload(snapshot, SNAPSHOT)
        answers += [SLOW_DOWN, BROKEN_INSIDE]
        store.fetch(SNAPSHOT, tmp_path / "fetched")
        assert door.faults == 2
    assert sums(tmp_path / "fetched") == sums(snapshot)


@pytest.mark.usefixtures("_soon")
@pytest.mark.parametrize("megabytes", SIZES)
def test_a_part_that_gets_stuck_half_way_is_given_up_soon(
    s3: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, megabytes: int
) -> None:
    """Nothing is refused and nothing broken: what was sent is just not taken any more."""
    monkeypatch.setattr("safepoint.stores.s3.STALLED_SECONDS", 1.0)
    monkeypatch.setitem(Retrying.__init__.__kwdefaults__, "attempts", 1)
    snapshot = make_snapshot(tmp_path / "stuck", big=megabytes * 1_000_000)
    stuck: list[float] = []

    def hold(link: BrokenLink) -> None:
        while link.passed < 1_000_000:
            time.sleep(0.002)
        link.rate = 0
        stuck.append(time.monotonic())

    with broken_link(s3.port, rate=100_000_000) as link:
        threading.Thread(target=hold, args=(link,), daemon=True).start()
        with pytest.raises(StoreError, match="network"):
            s3_store(s3, tmp_path.name, port=link.port).open().upload(snapshot, SNAPSHOT)
        assert time.monotonic() - stuck[0] < 8
    assert s3_store(s3, tmp_path.name).open().ids() == []


@pytest.mark.usefixtures("_soon")
def test_a_bucket_that_goes_away_in_the_middle_is_told_and_shows_no_snapshot(
    s3: Address, snapshot: Path, tmp_path: Path
) -> None:
    sent = []

    def fault(method: str, path: str) -> tuple[int, bytes] | None:
        sent.extend([path] if method == "PUT" else [])
        return NO_BUCKET if len(sent) > 2 else None

    with faulty_s3(s3.port, fault) as door, pytest.raises(StoreError) as caught:
        s3_store(s3, tmp_path.name, port=door.port).open().upload(snapshot, SNAPSHOT)
    assert "bucket" in str(caught.value.remedy)
    assert s3_store(s3, tmp_path.name).open().ids() == []


def test_a_full_disk_behind_sftp_is_told_as_far_as_the_server_tells_it(
    sshd: SshServer, snapshot: Path, tmp_path: Path
) -> None:
    """OpenSSH says `Failure` and no more (draft-ietf-secsh-filexfer-02 has no word for a full disk)."""
    with small_disk(tmp_path / "small", 4) as small:
        store = sftp_store(sshd, small / "appliance").open()
        with pytest.raises(StoreError) as caught:
            store.upload(snapshot, SNAPSHOT)
        assert "room" in str(caught.value.remedy)
        assert store.ids() == []


def test_no_room_here_for_what_comes_back_is_told_and_leaves_no_snapshot(snapshot: Path, tmp_path: Path) -> None:
    store = open_store(Store(name="x", url=f"file:{tmp_path}/away"), tmp_path)
    store.upload(snapshot, SNAPSHOT)
    with small_disk(tmp_path / "small", 4) as small:
        with pytest.raises(StoreError) as caught:
            store.fetch(SNAPSHOT, small / "fetched")
        assert "disk here is full" in str(caught.value.remedy)
        assert not (small / "fetched" / "manifest.json").exists()
