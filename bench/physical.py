"""The peer that proven snapshots are measured against: pgBackRest's backup and restore of the same data.

Debian's pgBackRest (2.45) knows PostgreSQL up to 15, so it gets a server of that version, with the same data.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from safepoint.postgres.servers import Server
from safepoint.postgres.unprivileged import account, run_as

MAJOR = 15


def program() -> str | None:
    """pgBackRest, where it is installed."""
    return shutil.which("pgbackrest")


class PgBackRest:
    """A repository beside a server. Two processes and zstd 1, as fast as it goes; no WAL is archived."""

    def __init__(self, server: Server, folder: Path, password: str) -> None:
        self._server = server
        self._who = account()
        self._password = password
        self._copy = folder / "copy"
        for path in (folder, folder / "repo", folder / "log", folder / "lock"):
            path.mkdir(exist_ok=True)
            if self._who.change:
                os.chown(path, self._who.uid, self._who.gid)
        self._options = [
            "--stanza=bench",
            f"--repo1-path={folder / 'repo'}",
            f"--log-path={folder / 'log'}",
            f"--lock-path={folder / 'lock'}",
            "--log-level-console=warn",
            "--process-max=2",
            "--compress-type=zst",
            "--compress-level=1",
        ]
        self._login = [
            f"--pg1-path={server.data}",
            f"--pg1-port={server.port}",
            f"--pg1-socket-path={folder}",
            f"--pg1-user={server.target.user}",
        ]
        self._run("stanza-create", *self._login, "--no-online")

    @staticmethod
    def settings(folder: Path) -> dict[str, str]:
        """What the server has to be set to: pgBackRest asks over a Unix socket."""
        return {"unix_socket_directories": str(folder), "wal_level": "replica"}

    def backup(self) -> None:
        """A full backup."""
        self._run(
            "backup", *self._login, "--type=full", "--no-archive-check", "--start-fast", "--repo1-retention-full=1"
        )

    def restore(self) -> None:
        """Into a new folder; that a server can start from it is not tried."""
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir(mode=0o700)
        if self._who.change:
            os.chown(self._copy, self._who.uid, self._who.gid)
        self._run("restore", f"--pg1-path={self._copy}", "--type=none")

    def forget_copy(self) -> None:
        """Remove what was restored."""
        shutil.rmtree(self._copy, ignore_errors=True)

    def _run(self, command: str, *options: str) -> None:
        argv = [program() or "pgbackrest", *self._options, *options, command]
        only = [word for word in argv if command == "backup" or "compress" not in word]
        if command == "stanza-create":
            only = [word for word in only if "process-max" not in word]
        result = run_as(self._who, only, env={"PGPASSWORD": self._password})
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(only)}: {result.stdout} {result.stderr}")
