"""How each blow is dealt to the real part: a process, a server, a link, a disk, a store, a slot."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
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
PAUSE = 20.0
"""Seconds for which the conductor sleeps; who follows, twice as many."""
SILENCE = 8.0
"""Seconds for which PostgreSQL sleeps or is away, or a link carries nothing before it is cut."""
BACKENDS = """
SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type IN ('client backend', 'walsender')
ORDER BY backend_type = 'walsender' DESC, starts_with(application_name, 'safepoint') DESC, random() LIMIT 1
"""
TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type IN ('client backend', 'walsender')
AND (starts_with(application_name, 'safepoint') OR random() < 0.5)
"""
LOST = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s"


@dataclass(frozen=True)
class Grounds:
    """What may be struck. `other`: the twin's own server; `disk`: the state folder's, where it is a small one."""

    stage: Stage
    link: BrokenLink
    other: Server | None
    disk: Path | None


def strike(kind: Kind, grounds: Grounds, process: subprocess.Popen[bytes] | None) -> None:
    """Deal it. `process` is the conductor, or who follows; what passes by is over when this returns, but
    for the sleep of who follows."""
    server = grounds.stage.server
    match kind:
        case "conductor" | "follower" | "paused" | "dozing" if process is not None:
            _strike_process(kind, process)
        case "link":
            grounds.link.cut()
        case "stalled":
            grounds.link.stall(SILENCE)
        case "disk" if grounds.disk is not None:
            with _full(grounds.disk):
                _while(process)
        case "store":
            with _away(grounds.stage.folder / "offsite"):
                _while(process)
        case "slot":
            _lose_slot(grounds.stage)
            _crash(server)
        case "other" if grounds.other is not None:
            _crash(grounds.other)
        case _:
            _strike_server(kind, server)


def _strike_process(kind: Kind, process: subprocess.Popen[bytes]) -> None:
    if kind == "paused":
        with _asleep([process.pid]):
            time.sleep(PAUSE)
    elif kind == "dozing":
        process.send_signal(signal.SIGSTOP)
        threading.Timer(2 * PAUSE, process.send_signal, [signal.SIGCONT]).start()
    else:
        process.send_signal(signal.SIGKILL)


def _strike_server(kind: Kind, server: Server) -> None:
    match kind:
        case "backend":
            _kill_backend(server)
        case "terminated":
            _terminate(server)
        case "frozen":
            with _asleep(_family(server.pid)):
                time.sleep(SILENCE)
        case _:
            _crash(server, away=SILENCE if kind == "refused" else 0.3)


def _while(process: subprocess.Popen[bytes] | None) -> None:
    until = time.monotonic() + LASTS
    while time.monotonic() < until and (process is None or process.poll() is None):
        time.sleep(0.05)


def _crash(server: Server, *, away: float = 0.3) -> None:
    server.stop("immediate")
    time.sleep(away)
    server.start()


def _family(parent: int | None) -> list[int]:
    """A process and its children. None has no family."""
    if parent is None:
        return []
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    return [parent, *map(int, children)]


@contextmanager
def _asleep(pids: list[int]) -> Iterator[None]:
    """As a machine that is moved to another host, or a process that gets no time: alive, and it answers nobody."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _kill_backend(server: Server) -> None:
    """One that works for somebody, a sender of the log before all others: PostgreSQL begins anew with all of them."""
    with psycopg.connect(**server.target.conninfo()) as connection:  # type: ignore[arg-type]
        found = connection.execute(BACKENDS).fetchone()
    if found is not None:
        with suppress(ProcessLookupError):
            os.kill(found[0], signal.SIGKILL)
        time.sleep(0.3)
        server.start()  # it waits until connections are taken again


def _terminate(server: Server) -> None:
    with psycopg.connect(**server.target.conninfo()) as connection:  # type: ignore[arg-type]
        connection.execute(TERMINATE)


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
