"""How each blow is dealt to the real part: a process, a server, a link, a disk, a store, a slot."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
from blows import Kind
from broken_link import BrokenLink
from stage import Stage

from safepoint.postgres.servers import Server
from safepoint.wayback.names import capture_name

LASTS = 4.0
"""Seconds for which a disk stays full or a store away, unless the command that it fell on ends before."""
LOST = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s"


@dataclass(frozen=True)
class Grounds:
    """What may be struck. `other`: the twin's own server; `disk`: the state folder's, where it is a small one."""

    stage: Stage
    link: BrokenLink
    other: Server | None
    disk: Path | None


def strike(kind: Kind, grounds: Grounds, process: subprocess.Popen[bytes] | None) -> None:
    """Deal it. `process` is the conductor, or who follows; what passes by is over when this returns."""
    if kind in ("conductor", "follower") and process is not None:
        process.send_signal(signal.SIGKILL)
    elif kind == "link":
        grounds.link.cut()
    elif kind == "disk" and grounds.disk is not None:
        with _full(grounds.disk):
            _while(process)
    elif kind == "store":
        with _away(grounds.stage.folder / "offsite"):
            _while(process)
    elif kind == "slot":
        _lose_slot(grounds.stage)
        _crash(grounds.stage.server)
    else:
        _crash(grounds.other if kind == "other" and grounds.other is not None else grounds.stage.server)


def _while(process: subprocess.Popen[bytes] | None) -> None:
    until = time.monotonic() + LASTS
    while time.monotonic() < until and (process is None or process.poll() is None):
        time.sleep(0.05)


def _crash(server: Server) -> None:
    server.stop("immediate")
    time.sleep(0.3)
    server.start()


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    full = folder / "full"
    try:
        with suppress(OSError), full.open("wb", buffering=0) as out:  # that is what it is for
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while True:
                        out.write(bytes(size))
        yield
    finally:
        full.unlink(missing_ok=True)


@contextmanager
def _away(store: Path) -> Iterator[None]:
    aside = store.with_name("offsite-aside")
    there = store.exists()
    if there:
        store.rename(aside)
    store.touch()  # or it would be made anew
    try:
        yield
    finally:
        store.unlink()
        if there:
            shutil.move(aside, store)


def _lose_slot(stage: Stage) -> None:
    """As a server that is told to keep no more than so much of its log for anybody."""
    slot = capture_name(stage.plan.launch_id)
    with psycopg.connect(**stage.server.target.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        connection.execute("SELECT pg_reload_conf()")
        for _ in range(10):
            for _ in range(3):
                connection.execute("SELECT pg_logical_emit_message(true, 'chaos', 'more'), pg_switch_wal()")
            connection.execute("CHECKPOINT")
            if connection.execute(LOST, [slot]).fetchone() in (("lost",), None):
                break
        connection.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
