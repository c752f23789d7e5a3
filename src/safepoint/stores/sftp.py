"""SFTP with the server's key checked: fsspec's own takes any server for the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

_TIMEOUT = 15.0
_STALLED_SECONDS = 60.0


class UnknownHostKey(paramiko.SSHException):
    """The server is not in `known_hosts`."""


class _Refuse(paramiko.MissingHostKeyPolicy):
    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        del client
        raise UnknownHostKey(f"the server {hostname} shows an unknown key {key.fingerprint}")


class CheckedSftp(SFTPFileSystem):  # type: ignore[misc]  # fsspec has no types
    """fsspec's SFTP, with `known_hosts` and with limits on how long a dead link is waited for.

    The option `known_hosts` names a file other than `~/.ssh/known_hosts`; the others go to paramiko's `connect`.
    """

    cachable = False

    def _connect(self) -> None:
        options: dict[str, Any] = dict(self.ssh_kwargs)
        known_hosts = options.pop("known_hosts", None)
        self.client = paramiko.SSHClient()
        self.client.load_system_host_keys(str(Path(known_hosts).expanduser()) if known_hosts else None)
        self.client.set_missing_host_key_policy(_Refuse())
        limits = {"timeout": _TIMEOUT, "banner_timeout": _TIMEOUT, "auth_timeout": _TIMEOUT}
        try:
            self.client.connect(self.host, **{**limits, **options})
            self.ftp = self.client.open_sftp()
            channel = self.ftp.get_channel()
            if channel is not None:
                channel.settimeout(_STALLED_SECONDS)
                channel.get_transport().set_keepalive(10)
        except BaseException:
            self.client.close()
            raise
