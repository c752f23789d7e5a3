"""A real S3 server for tests: `rclone serve s3` on the loopback interface, with a login."""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safepoint.postgres.servers import free_port

ACCESS_KEY, SECRET_KEY = "safepoint-test", "a-secret-of-the-tests"
BUCKET = "backups"


@dataclass(frozen=True)
class Address:
    port: int
    folder: Path  # where the server keeps its objects

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(f"the server ended: {log.read_text()}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"the server does not listen: {log.read_text()}")


@contextmanager
def s3_server(folder: Path) -> Iterator[Address]:
    data = folder / "data"
    (data / BUCKET).mkdir(parents=True)
    port, log = free_port(), folder / "rclone.log"
    argv = [
        str(Path(sysconfig.get_path("scripts")) / "rclone"),
        "serve",
        "s3",
        str(data),
        "--addr",
        f"127.0.0.1:{port}",
    ]
    env = {**os.environ, "RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"', "RCLONE_CONFIG": str(folder / "none.conf")}
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=env, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port, process, log)
        yield Address(port, data)
    finally:
        process.kill()
        process.wait()
