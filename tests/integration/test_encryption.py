"""Encrypted snapshots: nothing readable leaves the machine, only the right key opens them, and `age` alone suffices."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage
import pytest
from plan_file import PASSWORD_ENV, plan_file
from s3_server import BUCKET, Address
from ssh_server import SshServer

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.proof import prove
from safepoint.backup.shelf import fetch_snapshot, list_snapshots, store_snapshot
from safepoint.backup.snapshot import take_snapshot
from safepoint.config import Store
from safepoint.errors import PlanFileError, StoreError
from safepoint.hosts.here import Here
from safepoint.launch.snapshots.snapshots import at_hand
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.progress import Progress
from safepoint.stores import SnapshotStore, open_store

SECRET_ROW = "the-salary-of-the-director"


@dataclass(frozen=True)
class Key:
    """A recipient, and the file with its identity."""

    recipient: str
    file: Path


def make_key(folder: Path, name: str) -> Key:
    identity = pyrage.x25519.Identity.generate()
    path = folder / f"{name}.txt"
    path.write_text(f"# created: today\n# public key: {identity.to_public()}\n{identity}\n")
    path.chmod(0o600)
    return Key(str(identity.to_public()), path)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: make_key(folder, name) for name in ("operator", "vault", "stranger")}


@pytest.fixture(scope="module")
def proven(servers: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, Path]]:
    """A database with a secret in it, and a proven snapshot of it."""
    server = servers(17)
    with connect(server.target) as connection:
        connection.execute("create database safe_deposit")
        connection.execute("create role safe_reader")
    target = server.target.on("safe_deposit")
    parent = tmp_path_factory.mktemp("proven")
    with connect(target) as connection:
        connection.execute("create table secret as select n, md5(n::text) x from generate_series(1, 60000) n")
        connection.execute("create table note (body text)")
        connection.execute("grant select on note to safe_reader")
        connection.execute(f"insert into note values ('{SECRET_ROW}')")
        connection.execute("alter database safe_deposit set work_mem to '9MB'")
    take_snapshot(
        target,
        Here("here", parent),
        installation=server.installation,
        folder=parent,
        snapshot_id="vaulted",
        launch_id="launch-1",
        compress="0",
    )
    prove(parent / "vaulted", scratch_parent=parent / "scratch")
    yield target, parent / "vaulted"
    with connect(server.target) as connection:
        connection.execute("drop database safe_deposit with (force)")
        connection.execute("drop role safe_reader")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, s3_credentials: None) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "only-for-tests")


@dataclass(frozen=True)
class Place:
    settings: Store
    folder: Path


@pytest.fixture(params=["file", "s3", "sftp"])
def place(request: pytest.FixtureRequest, tmp_path: Path, keys: dict[str, Key]) -> Place:
    to = (keys["operator"].recipient, keys["vault"].recipient)
    if request.param == "file":
        return Place(Store(name="away", url=str(tmp_path / "away"), encrypt_to=to), tmp_path / "away")
    if request.param == "s3":
        address: Address = request.getfixturevalue("s3")
        options = {"endpoint_url": address.endpoint}
        settings = Store(name="away", url=f"s3://{BUCKET}/{tmp_path.name}", options=options, encrypt_to=to)
        return Place(settings, address.folder / BUCKET / tmp_path.name)
    server: SshServer = request.getfixturevalue("sshd")
    options = {"key_filename": str(server.key), "known_hosts": str(server.known_hosts), "allow_agent": False}
    url = f"sftp://{server.user}@127.0.0.1:{server.port}{tmp_path / 'away'}"
    return Place(Store(name="away", url=url, options=options, encrypt_to=to), tmp_path / "away")


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_nothing_readable_leaves_the_machine_and_either_recipient_gets_it_back(
    place: Place, proven: tuple[Target, Path], keys: dict[str, Key], tmp_path: Path
) -> None:
    _target, snapshot = proven
    stored = store_snapshot(snapshot, open_store(place.settings, tmp_path))
    left = everything(place.folder)
    assert SECRET_ROW.encode() in everything(snapshot)
    assert SECRET_ROW.encode() not in left and b"safe_reader" not in left and b"secret" not in left
    assert {path.suffix for path in place.folder.rglob("*") if path.is_file()} == {".age", ".json"}
    assert stored.files == len([path for path in place.folder.rglob("*") if path.is_file()])
    for name in ("operator", "vault"):
        store = open_store(place.settings, tmp_path, identity=keys[name].file)
        fetch_snapshot("vaulted", store, tmp_path / name)
        assert everything(tmp_path / name / "vaulted") == everything(snapshot)
    # Uploading it again changes nothing, and reads it back again.
    assert store_snapshot(snapshot, open_store(place.settings, tmp_path)).files == stored.files
    assert everything(place.folder) == left


@pytest.fixture
def vault(proven: tuple[Target, Path], keys: dict[str, Key], tmp_path: Path) -> Store:
    """A local store that holds the snapshot, encrypted to the operator."""
    settings = Store(name="away", url=str(tmp_path / "away"), encrypt_to=(keys["operator"].recipient,))
    store_snapshot(proven[1], open_store(settings, tmp_path))
    return settings


def test_who_cannot_open_it_still_sees_when_how_big_and_for_which_launch(vault: Store, tmp_path: Path) -> None:
    (listed,) = list_snapshots(tmp_path / "nothing", {"away": open_store(vault, tmp_path)})
    assert (listed.id, listed.proven, listed.where, listed.launch_id) == ("vaulted", True, ("away",), "launch-1")
    assert listed.bytes > 1_000_000


def test_an_upload_that_was_killed_sends_no_encrypted_file_again_that_is_there_whole(
    place: Place, proven: tuple[Target, Path], keys: dict[str, Key], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = Path(shutil.copytree(proven[1], tmp_path / "vaulted"))
    total = len([path for path in snapshot.rglob("*") if path.is_file()])

    def sent(store: SnapshotStore, until: int = 99) -> list[str]:
        names: list[str] = []
        put = store._files.put

        def counted(local: Path, *words: Any) -> Any:
            if len(names) == until:
                raise KeyboardInterrupt  # what a kill does, as far as this process' own files go
            names.append(local.name)
            return put(local, *words)

        monkeypatch.setattr(store._files, "put", counted)
        with suppress(KeyboardInterrupt):
            store_snapshot(snapshot, store)
        return names

    first = sent(open_store(place.settings, tmp_path), until=3)
    damaged = max(place.folder.rglob("*.age"), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1])  # one of them did not arrive as it was sent
    again = sent(open_store(place.settings, tmp_path))
    assert len(first) == 3 and len(again) == total + 1 - 2  # with the label
    assert damaged.name.removesuffix(".age") in again
    store = open_store(place.settings, tmp_path, identity=keys["vault"].file)
    told: list[Progress] = []
    fetch_snapshot("vaulted", store, tmp_path / "fetched", report=told.append)
    assert everything(tmp_path / "fetched" / "vaulted") == everything(snapshot)
    fetching = [one for one in told if one.what.startswith("fetch from")]
    (total_bytes,) = {one.total for one in fetching}  # so that the time left can be told
    assert total_bytes == pytest.approx(fetching[-1].done, rel=0.01)  # the proof beside it is not in the manifest
    assert not list(snapshot.glob(".sending*"))
    # For other recipients nothing of it counts.
    other = place.settings.model_copy(update={"encrypt_to": (keys["stranger"].recipient,)})
    open_store(place.settings, tmp_path).remove("vaulted")
    sent(open_store(place.settings, tmp_path), until=2)
    assert len(sent(open_store(other, tmp_path))) == total + 1


def test_a_label_that_a_kill_left_torn_is_none_and_storing_it_again_completes_it(
    proven: tuple[Target, Path], vault: Store, keys: dict[str, Key], tmp_path: Path
) -> None:
    label = tmp_path / "away" / "vaulted" / "sealed.json"
    label.write_text(label.read_text()[:100])
    store = open_store(vault, tmp_path, identity=keys["operator"].file)
    store_snapshot(proven[1], store)
    fetch_snapshot("vaulted", store, tmp_path / "fetched")
    assert everything(tmp_path / "fetched" / "vaulted") == everything(proven[1])


def test_an_encrypted_copy_that_was_damaged_in_its_store_is_mended_by_storing_it_again(
    place: Place, proven: tuple[Target, Path], keys: dict[str, Key], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = Path(shutil.copytree(proven[1], tmp_path / "vaulted"))
    store_snapshot(snapshot, open_store(place.settings, tmp_path))
    damaged = max(place.folder.rglob("*.age"), key=lambda path: path.stat().st_size)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    store = open_store(place.settings, tmp_path, identity=keys["vault"].file)
    sent, put = [], store._files.put
    monkeypatch.setattr(store._files, "put", lambda local, *words: (sent.append(local.name), put(local, *words))[1])
    store_snapshot(snapshot, store)
    assert sent == [damaged.name.removesuffix(".age"), "sealed.json"]
    fetch_snapshot("vaulted", store, tmp_path / "fetched")
    assert everything(tmp_path / "fetched" / "vaulted") == everything(snapshot)
    assert not list(snapshot.glob(".sending*"))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [('"format": 1', '"format": 9', "another version"), ('"bytes": ', '"bytes": 1', "damaged")],
    ids=["newer", "damaged"],
)
def test_one_that_cannot_be_read_hides_no_other_one_of_its_store(
    proven: tuple[Target, Path], keys: dict[str, Key], tmp_path: Path, old: str, new: str, told: str
) -> None:
    settings = Store(name="away", url=str(tmp_path / "away"), encrypt_to=(keys["vault"].recipient,))
    store = open_store(settings, tmp_path)
    store_snapshot(proven[1], store)
    shutil.copytree(tmp_path / "away" / "vaulted", tmp_path / "away" / "other-20260101T000000Z")
    label = tmp_path / "away" / "other-20260101T000000Z" / "sealed.json"
    label.write_text(label.read_text().replace(old, new, 1))
    found = {one.id: one for one in list_snapshots(tmp_path / "none", {"away": store})}
    assert found["vaulted"].fault is None and told in str(found["other-20260101T000000Z"].fault)
    assert found["other-20260101T000000Z"].other_version is (told == "another version")


@pytest.mark.parametrize("which", ["stranger", None], ids=["wrong-key", "no-key"])
def test_the_wrong_key_is_told_before_anything_is_touched(
    vault: Store, keys: dict[str, Key], tmp_path: Path, which: str | None
) -> None:
    store = open_store(vault, tmp_path, identity=keys[which].file if which else None)
    with pytest.raises(StoreError, match="encrypted") as caught:
        fetch_snapshot("vaulted", store, tmp_path / "fetched")
    assert "--identity" in (caught.value.remedy or "")
    assert "AGE-SECRET-KEY" not in json.dumps(caught.value.as_json())
    assert list((tmp_path / "fetched").iterdir()) == []


def test_any_changed_byte_of_an_encrypted_file_is_found(vault: Store, keys: dict[str, Key], tmp_path: Path) -> None:
    store = open_store(vault, tmp_path, identity=keys["operator"].file)
    for path in sorted((tmp_path / "away" / "vaulted").rglob("*.age")):
        whole = path.read_bytes()
        for place in (len(whole) // 3, len(whole) - 1):
            changed = bytearray(whole)
            changed[place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(StoreError):
                fetch_snapshot("vaulted", store, tmp_path / "fetched")
        path.write_bytes(whole[:-20])
        with pytest.raises(StoreError):
            fetch_snapshot("vaulted", store, tmp_path / "fetched")
        path.write_bytes(whole)
    fetch_snapshot("vaulted", store, tmp_path / "fetched")


def test_a_file_that_is_no_identity_is_refused_and_not_shown(vault: Store, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("AGE-SECRET-KEY-1SECRETSECRET\n")
    for path in (tmp_path / "key", tmp_path / "none"):
        with pytest.raises(PlanFileError, match="identity file") as caught:
            open_store(vault, tmp_path, identity=path)
        assert "SECRETSECRET" not in json.dumps(caught.value.as_json())


def test_who_is_no_recipient_is_told_before_the_backup(tmp_path: Path) -> None:
    with pytest.raises(PlanFileError, match="nobody to encrypt to"):
        open_store(Store(name="away", url=str(tmp_path), encrypt_to=("age1nonsense",)), tmp_path)


def test_all_stores_of_a_plan_encrypt_unless_one_says_otherwise(
    proven: tuple[Target, Path], keys: dict[str, Key], tmp_path: Path
) -> None:
    recipient = keys["operator"].recipient
    stores = '[[stores]]\nname = "a"\nurl = "file:a"\n[[stores]]\nname = "b"\nurl = "file:b"\nencrypt_to = []\n'
    plan = plan_file(tmp_path, proven[0], snapshot=f'encrypt_to = ["{recipient}"]', stores=stores)
    assert [store.encrypt_to for store in plan.stores] == [(recipient,), ()]
    for store in plan.stores:
        store_snapshot(proven[1], open_store(store, plan.folder))
    assert not (tmp_path / "a" / "vaulted" / "manifest.json").exists()
    assert (tmp_path / "b" / "vaulted" / "manifest.json").exists()
    with at_hand(plan, "vaulted", "a", identity=keys["operator"].file) as folder:
        prove(folder, scratch_parent=tmp_path / "scratch")
    assert list((plan.state / "fetched").iterdir()) == []


def test_an_ssh_key_opens_what_was_encrypted_to_it(proven: tuple[Target, Path], tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("there is no ssh-keygen on this machine (Debian: apt-get install openssh-client)")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
    public = " ".join((tmp_path / "id.pub").read_text().split()[:2])
    settings = Store(name="away", url=str(tmp_path / "away"), encrypt_to=(public,))
    store_snapshot(proven[1], open_store(settings, tmp_path))
    opened = fetch_snapshot("vaulted", open_store(settings, tmp_path, identity=tmp_path / "id"), tmp_path / "fetched")
    assert opened.id == "vaulted"


def page_commands() -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "restore-without-safepoint.md").read_text(encoding="utf-8")
    return [block.split("```")[0] for block in page.split("```sh\n")[1:]]


def test_the_check_on_that_page_finds_a_changed_file(proven: tuple[Target, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(proven[1], tmp_path / "copy"))
    check = ["sh", "-c", page_commands()[1]]
    assert subprocess.run(check, cwd=copy, capture_output=True, check=False).returncode == 0
    with (copy / "archive" / "toc.dat").open("ab") as file:
        file.write(b"x")
    done = subprocess.run(check, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "toc.dat" in done.stdout


def test_the_page_on_restoring_without_safepoint_is_true(
    vault: Store,
    proven: tuple[Target, Path],
    keys: dict[str, Key],
    servers: Callable[[int], Server],
    tmp_path: Path,
) -> None:
    """The commands of docs/restore-without-safepoint.md, as they stand there, in a shell without Python."""
    for program in ("age", "tar"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no `{program}` on this machine (Debian: apt-get install {program})")
    with Server.create(tmp_path / "pg", servers(17).installation, password="elsewhere") as server:
        target = server.target
        env = {
            "PATH": f"{server.installation.bin_dir}:/usr/local/bin:/usr/bin:/bin",
            **target.env(),
            **target.secrets(),
            "SNAPSHOT": str(tmp_path / "away" / "vaulted"),
            "KEY": str(keys["operator"].file),
            "DATABASE": "safe_deposit",
            "OWNER": "postgres",
            "WORK": str(tmp_path / "work"),
        }
        script = "\n".join(["set -eu", *page_commands()])
        done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        found = take(target.on("safe_deposit"))
        assert compare(read_manifest(proven[1]).fingerprint, found) == ()
