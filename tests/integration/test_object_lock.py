"""S3 Object Lock: what is stored is locked for as long as it is kept, and a lock at expiry is told and no error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from lock_server import lock_server
from plan_file import PASSWORD_ENV, plan_file

from safepoint.config import PlanFile, Store
from safepoint.errors import StoreError
from safepoint.launch.snapshots.pruning import Decision, Pruning, carry_out
from safepoint.postgres.target import Target
from safepoint.stores import SnapshotStore, open_store

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with lock_server(tmp_path_factory.mktemp("moto")) as address:
        yield address


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, s3_credentials: None) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "only-for-tests")


@pytest.fixture
def s3(endpoint: str) -> Any:
    return fsspec.filesystem("s3", endpoint_url=endpoint, skip_instance_cache=True)


def bucket(s3: Any, name: str, *, locks: bool = True, days: int | None = None) -> str:
    s3.call_s3("create_bucket", Bucket=name, ObjectLockEnabledForBucket=locks)
    if days is not None:
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}}
        configuration = {"ObjectLockEnabled": "Enabled", "Rule": rule}
        s3.call_s3("put_object_lock_configuration", Bucket=name, ObjectLockConfiguration=configuration)
    return name


def settings(endpoint: str, name: str, **more: Any) -> Store:
    return Store(name="locked", url=f"s3://{name}/backups", options={"endpoint_url": endpoint}, **more)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "snapshot"
    (folder / "archive").mkdir(parents=True)
    (folder / "archive" / "3012.dat").write_bytes(os.urandom(100_000))
    (folder / "globals.sql").write_text("CREATE ROLE shop;\n")
    (folder / "manifest.json").write_text("{}")
    return folder


def retention(s3: Any, name: str, file: str) -> tuple[str, datetime]:
    found = s3.call_s3("head_object", Bucket=name, Key=f"backups/one/{file}")
    return found["ObjectLockMode"], found["ObjectLockRetainUntilDate"]


@pytest.mark.parametrize("mode", ["auto", "compliance"])
def test_every_file_is_locked_for_as_long_as_it_is_kept(s3: Any, endpoint: str, snapshot: Path, mode: str) -> None:
    name = bucket(s3, f"bucket-{mode}")
    store = open_store(settings(endpoint, name, lock=mode, keep=45 * DAY), snapshot)
    store.upload(snapshot, "one")
    for file in ("archive/3012.dat", "globals.sql", "manifest.json"):
        kind, until = retention(s3, name, file)
        assert kind == ("GOVERNANCE" if mode == "auto" else "COMPLIANCE")
        assert abs(until - datetime.now(UTC) - 45 * DAY) < timedelta(hours=1)
    assert (store.locked_until("one") or datetime.min.replace(tzinfo=UTC)) > datetime.now(UTC) + 44 * DAY


def test_a_file_that_is_sent_in_parts_is_taken_by_a_bucket_that_locks(s3: Any, endpoint: str, snapshot: Path) -> None:
    """Not more can be tried here: moto forgets the lock of an upload in parts, which S3 keeps."""
    (snapshot / "archive" / "3013.dat").write_bytes(bytes(17 * 1024 * 1024))
    store = open_store(settings(endpoint, bucket(s3, "bucket-parts")), snapshot)
    store.upload(snapshot, "one")
    store.fetch("one", snapshot.parent / "fetched")
    assert (snapshot.parent / "fetched" / "archive" / "3013.dat").stat().st_size == 17 * 1024 * 1024


def test_the_bucket_s_own_rule_is_left_to_it(s3: Any, endpoint: str, snapshot: Path) -> None:
    name = bucket(s3, "bucket-rule", days=90)
    store = open_store(settings(endpoint, name), snapshot)
    store.upload(snapshot, "one")
    until = store.locked_until("one")
    assert until is not None and abs(until - datetime.now(UTC) - 90 * DAY) < DAY


def test_a_bucket_without_locks_takes_snapshots_unless_a_lock_is_asked_for(
    s3: Any, endpoint: str, snapshot: Path
) -> None:
    name = bucket(s3, "bucket-plain", locks=False)
    with pytest.raises(StoreError, match="Object Lock"):
        open_store(settings(endpoint, name, lock="compliance"), snapshot).upload(snapshot, "one")
    store = open_store(settings(endpoint, name), snapshot)
    store.upload(snapshot, "one")
    assert store.locked_until("one") is None


def test_the_probe_of_a_store_that_locks_is_not_locked_itself(s3: Any, endpoint: str, snapshot: Path) -> None:
    name = bucket(s3, "bucket-probe")
    open_store(settings(endpoint, name), snapshot).check_writable()
    versions = s3.call_s3("list_object_versions", Bucket=name).get("Versions", [])
    for version in versions:
        s3.call_s3("delete_object", Bucket=name, Key=version["Key"], VersionId=version["VersionId"])


def planned(folder: Path, endpoint: str, name: str) -> tuple[PlanFile, SnapshotStore]:
    stores = (
        f'[[stores]]\nname = "locked"\nurl = "s3://{name}/backups"\noptions = {{ endpoint_url = "{endpoint}" }}\n'
        '[[stores]]\nname = "offsite"\nurl = "file:offsite"\n'
    )
    plan = plan_file(folder, Target("127.0.0.1", 1, "shop", "postgres"), stores=stores)
    return plan, open_store(plan.stores[0], plan.folder)


def test_a_locked_snapshot_at_expiry_is_told_and_no_error_and_the_others_go(
    s3: Any, endpoint: str, snapshot: Path, tmp_path: Path
) -> None:
    plan, store = planned(tmp_path, endpoint, bucket(s3, "bucket-expiry"))
    store.upload(snapshot, "one")
    open_store(plan.stores[1], plan.folder).upload(snapshot, "one")
    now = datetime.now(UTC)
    going = [Decision(place, "one", now, 1, "drop", "older than 30 days") for place in ("locked", "offsite")]
    done = carry_out(plan, Pruning(tuple(going), {}), now)
    assert [one.verdict for one in done.decisions] == ["locked", "dropped"]
    assert "hidden" not in done.decisions[1].reason
    assert "locks it until" in done.decisions[0].reason
    assert not done.failed
    assert store.ids() == ["one"]  # not hidden behind a delete marker: it can still be restored
    done = carry_out(plan, Pruning(tuple(going[:1]), {}), now + 31 * DAY)
    assert [one.verdict for one in done.decisions] == ["dropped"]
    assert "only hidden" in done.decisions[0].reason  # a bucket that locks keeps versions
    assert store.ids() == []


def test_what_nobody_went_on_with_is_told_and_no_error_where_it_is_locked(
    s3: Any, endpoint: str, snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = planned(tmp_path, endpoint, bucket(s3, "bucket-left"))
    store._files.put(snapshot / "globals.sql", "shop-20260228T180000Z/globals.sql", lambda _done: None)
    store.upload(snapshot, "one")
    monkeypatch.setattr("safepoint.stores.abandoned.AFTER", -DAY)
    done = carry_out(plan, Pruning((), {}), datetime.now(UTC))
    (told,) = done.decisions
    assert (told.place, told.snapshot_id, told.verdict) == ("locked", "shop-20260228T180000Z", "locked")
    assert "locks it until" in told.reason and not done.failed
    assert store._files.names("shop-20260228T180000Z") == ["globals.sql"]
