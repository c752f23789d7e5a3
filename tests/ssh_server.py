"""A real OpenSSH server for tests: own host key, own authorized key, own port, on the loopback interface only."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from s3_server import free_port, wait_for_port

from safepoint.config import SshHost

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")

CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
MaxStartups 100
KexAlgorithms -sntrup*,mlkem*
SetEnv SHLVL=2
"""
"""Hundreds of commands come through it, so each begins quickly: without the key exchange that is to outlast quantum
computers; and bash, which reads its user's `.bashrc` where sshd has started it, does not inside of another shell."""


@dataclass(frozen=True)
class SshServer:
    port: int
    folder: Path
    user: str
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> Path:
        return self.folder / "client_key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def settings(self, *, port: int | None = None, directory: str | None = None) -> SshHost:
        """How the plan file would name it; `port` where something stands in between."""
        options = ("-F", "none", "-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "HostKeyAlias=safepoint-test")
        return SshHost(
            kind="ssh",
            address="127.0.0.1",
            port=port or self.port,
            user=self.user,
            identity=self.key,
            options=options,
            directory=directory,
        )


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    assert SSHD is not None
    port = free_port()
    for name in ("host_key", "client_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"safepoint-test {host_key}[127.0.0.1]:{port} {host_key}")
    (folder / "sshd_config").write_text(CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # the folder that a privileged sshd locks its children into
    log = folder / "sshd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_for_port(port, process, log)
        yield SshServer(port, folder, getpass.getuser(), process)
    finally:
        process.terminate()
        process.wait(10)
