"""A primary and its standby, by streaming replication."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from postgres_servers import FOLDER

from safepoint.postgres.binaries import installation
from safepoint.postgres.servers import Server, free_port
from safepoint.postgres.target import Target
from safepoint.postgres.unprivileged import account, reachable, run_as


@contextmanager
def primary_and_standby() -> Iterator[tuple[Target, Target]]:
    """Both, with the same login."""
    parent = Path(tempfile.mkdtemp(prefix=FOLDER))
    parent.chmod(0o711)
    programs, who = reachable(account(), installation(17)), account()
    copy, port = parent / "copy", free_port()
    copy.mkdir(mode=0o700)
    if who.change:
        shutil.chown(copy, who.uid, who.gid)
    settings = {"wal_level": "logical", "fsync": "off", "hot_standby": "on"}
    with Server.create(parent / "primary", programs, password="only-for-tests", settings=settings) as primary:
        env = {**primary.target.env(), **primary.target.secrets()}

        def do(name: str, *argv: str) -> None:
            done = run_as(who, [programs.program(name), *argv], env=env)
            assert done.returncode == 0, done.stderr

        do("pg_basebackup", "-D", str(copy), "-R", "-X", "stream", "-c", "fast")
        do("pg_ctl", "-D", str(copy), "-o", f"-p {port}", "-w", "-l", str(copy / "log"), "start")
        try:
            yield primary.target, replace(primary.target, port=port)
        finally:
            do("pg_ctl", "-D", str(copy), "-m", "immediate", "-w", "stop")
            shutil.rmtree(copy)
    parent.rmdir()
