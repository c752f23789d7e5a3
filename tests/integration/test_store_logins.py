"""A store that does not let one in: it is told what to check, and no secret with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from s3_server import ACCESS_KEY, Address
from ssh_server import SshServer
from store_places import s3_store, sftp_store, told

from safepoint.config import Store
from safepoint.errors import StoreError
from safepoint.stores import open_store

pytestmark = pytest.mark.usefixtures("s3_credentials")


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
