"""What stores decide without a file system: addresses, credentials, what an exception means, when to try again."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from safepoint.config import Store
from safepoint.errors import PlanFileError, StoreError
from safepoint.stores import from_environment, local_path, open_store
from safepoint.stores.faults import Unreachable, explained, shown_url, without_login
from safepoint.stores.retry import LONGEST_WAIT, Retrying, wait

FOLDER = Path("/srv/launch")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("backups", "/srv/launch/backups"),
        ("./backups", "/srv/launch/backups"),
        ("file:backups", "/srv/launch/backups"),
        ("file:../backups", "/srv/backups"),
        ("file:///var/backups", "/var/backups"),
        ("file:/var/backups", "/var/backups"),
        ("/var/backups", "/var/backups"),
    ],
)
def test_relative_folders_start_at_the_plan_file(url: str, path: str) -> None:
    assert local_path(url, FOLDER) == Path(path)


@pytest.mark.parametrize("url", ["s3://bucket/x", "sftp://host/x", "memory://x", "gs://bucket"])
def test_what_is_elsewhere_has_no_local_path(url: str) -> None:
    assert local_path(url, FOLDER) is None


def test_credentials_are_taken_from_the_environment_variables_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUP_SECRET", "hush")
    options = {"key": "public", "secret_env": "BACKUP_SECRET", "client_kwargs": {"token_env": "BACKUP_SECRET"}}
    assert from_environment(options) == {"key": "public", "secret": "hush", "client_kwargs": {"token": "hush"}}


def test_a_variable_that_is_not_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKUP_SECRET", raising=False)
    with pytest.raises(PlanFileError, match="BACKUP_SECRET"):
        from_environment({"secret_env": "BACKUP_SECRET"})


def test_a_kind_of_store_that_nobody_knows_is_told(tmp_path: Path) -> None:
    with pytest.raises((PlanFileError, StoreError), match="carrierpigeon"):
        open_store(Store(name="x", url="carrierpigeon://roof"), tmp_path).ids()


def test_logins_in_urls_are_not_shown() -> None:
    assert without_login("sftp://joe:pa:ss@host:22/x, s3://bucket") == "sftp://host:22/x, s3://bucket"
    assert without_login("sftp://joe:pa@ss@host/x@y") == "sftp://host/x@y"


def test_what_is_said_of_a_store_has_neither_its_login_nor_its_query(tmp_path: Path) -> None:
    store = open_store(Store(name="x", url="sftp://joe:hunter2@host/x?key=hunter2"), tmp_path)
    assert store.where == shown_url("sftp://joe:hunter2@host/x?key=hunter2") == "sftp://host/x"
    assert shown_url("file:backups") == "file:backups"


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (PermissionError("Access Denied"), StoreError, "Allow these credentials"),
        (PermissionError("The request signature we calculated does not match"), StoreError, "credentials are wrong"),
        (PermissionError("The provided token has expired."), StoreError, "expired"),
        (FileNotFoundError("NoSuchBucket"), StoreError, "url"),
        (OSError(errno.ENOSPC, "No space left on device"), StoreError, "full"),
        (OSError(errno.EROFS, "Read-only file system"), StoreError, "only be read"),
        (OSError(errno.EBUSY, "Please reduce your request rate"), Unreachable, "network"),
        (ConnectionResetError("Connection reset by peer"), Unreachable, "network"),
        (TimeoutError(), Unreachable, "network"),
        (EOFError(), Unreachable, "network"),
        (socket.gaierror("Name or service not known"), Unreachable, "network"),
        (OSError("Socket is closed"), Unreachable, "network"),
        (RuntimeError("?"), StoreError, "options"),
    ],
)
def test_what_went_wrong_is_told_with_what_to_do(error: Exception, kind: type[StoreError], remedy: str) -> None:
    told = explained(error, "write", "x/toc.dat", "s3://bucket/prefix")
    assert type(told) is kind
    assert told.remedy and remedy in told.remedy
    assert told.subject == "s3://bucket/prefix/x/toc.dat"


def test_a_login_in_an_exception_is_not_told() -> None:
    told = explained(OSError("cannot reach https://joe:hush@host/x"), "read", "x", "webdav://host")
    assert "hush" not in str(told)


class Flaky:
    """Files that fail a number of times, then answer."""

    where = "flaky"

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.calls = 0

    def folders(self) -> list[str]:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        return ["a"]


def test_what_is_unreachable_is_tried_again_after_growing_waits() -> None:
    waits: list[float] = []
    flaky = Flaky(*[Unreachable("gone")] * 4)
    assert Retrying(flaky, waits.append).folders() == ["a"]  # type: ignore[arg-type]
    assert flaky.calls == 5
    assert waits == sorted(waits) and waits[-1] >= 3


def test_it_is_not_tried_for_ever() -> None:
    flaky = Flaky(*[Unreachable("gone")] * 99)
    with pytest.raises(Unreachable):
        Retrying(flaky, lambda _seconds: None, attempts=3).folders()  # type: ignore[arg-type]
    assert flaky.calls == 3


def test_a_refusal_is_not_tried_again() -> None:
    flaky = Flaky(StoreError("403"))
    with pytest.raises(StoreError):
        Retrying(flaky, lambda _seconds: None).folders()  # type: ignore[arg-type]
    assert flaky.calls == 1


def test_waits_are_bounded() -> None:
    assert max(wait(attempt) for attempt in range(1, 40)) <= LONGEST_WAIT


@pytest.mark.parametrize("snapshot_id", ["", ".", "..", "../x", "a/b", "/etc", "-x"])
def test_an_id_that_leads_elsewhere_is_refused(snapshot_id: str, tmp_path: Path) -> None:
    store = open_store(Store(name="x", url=str(tmp_path)), tmp_path)
    with pytest.raises(StoreError, match="no id"):
        store.remove(snapshot_id)
    assert tmp_path.is_dir()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "archive/../../x"])
def test_a_name_that_leads_out_of_its_snapshot_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match="leads out"):
        open_store(Store(name="x", url=str(tmp_path)), tmp_path).read_back("a", {name: "00"})


def test_a_proof_of_no_files_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing to compare"):
        open_store(Store(name="x", url=str(tmp_path)), tmp_path).read_back("a", {})
