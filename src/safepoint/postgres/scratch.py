"""Scratch servers: throw-away PostgreSQL servers for copies of production data, gone whatever happens."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safepoint.postgres import processes
from safepoint.postgres.binaries import Installation, installation
from safepoint.postgres.servers import MARKER, SCRATCH, Marker, Server, remove_folders


@contextmanager
def scratch_server(
    parent: Path,
    major: int,
    *,
    megabytes_hint: int | None = None,
    programs: Installation | None = None,
    superuser: str = "postgres",
    settings: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Server]:
    """A running throw-away server, tuned for loading a copy fast and for nothing else; gone on leaving.

    It has a random password, because what is loaded into it may be production data.

    Args:
        parent: the folder that gets its folder; scratch servers that a killed run left there are removed first.
        megabytes_hint: the size of what will be loaded; bounds the memory taken.
        programs: whose PostgreSQL it is; None takes the preferred installation of `major`.
        settings: in place of its own, where it has to be like another server in something.
        port: a free one, where it has to be known beforehand; it gets another one if that is taken meanwhile.

    Raises:
        DatabaseError: no such PostgreSQL here, or it does not start.
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix="scratch-", dir=parent))
    folder.chmod(0o711)
    try:
        server = Server.create(
            folder,
            programs or installation(major),
            superuser=superuser,
            password=secrets.token_urlsafe(24),
            settings={
                **scratch_settings(
                    _memory_megabytes(),
                    os.cpu_count() or 1,
                    megabytes_hint,
                    shared_memory_free=_shared_memory_free(),
                ),
                **(settings or {}),
            },
            purpose=SCRATCH,
            port=port,
        )
        with server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> tuple[str, ...]:
    """Stop and remove the scratch servers in `parent` whose maker is gone; gives their folders' names."""
    removed = []
    for path in sorted(parent.glob(f"*/{MARKER}")):
        folder = path.parent.resolve()
        marker = Marker.read(folder)
        if marker is None or marker.purpose != SCRATCH or processes.birth(marker.made_by) == marker.made_by_birth:
            continue
        pid = processes.postmaster(Path(marker.home) / "data")
        if pid is not None:
            born = processes.birth(pid)
            if not processes.end(pid, born, signal.SIGQUIT, 10):
                processes.end(pid, born, signal.SIGKILL, 10)
        remove_folders(folder, marker)
        removed.append(folder.name)
    return tuple(removed)


def scratch_settings(
    memory: int, cores: int, megabytes_hint: int | None = None, *, shared_memory_free: int = 1024
) -> dict[str, str]:
    """Settings for the fastest load; sizes in MB. After a crash of such a server nothing of it is kept. Pure."""
    size = max(64, megabytes_hint if megabytes_hint is not None else memory)
    buffers = max(64, min(memory // 16, 1024, size))
    sort = max(64, min(memory // 24, 1024, size))
    return {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "autovacuum": "off",
        "shared_buffers": f"{buffers}MB",
        "maintenance_work_mem": f"{sort}MB",
        "work_mem": "32MB",
        "max_wal_size": "16GB",
        "checkpoint_timeout": "1h",
        "max_parallel_maintenance_workers": str(max(1, cores // 2)),
        # Two jobs of a restore are work enough for two processors: more processes only take turns there.
        **({"max_parallel_workers_per_gather": "0"} if cores <= 2 else {}),
        "max_locks_per_transaction": "256",
        "max_connections": "40",
        "max_prepared_transactions": "0",
        "jit": "off",
        # Containers often have 64 MB in /dev/shm, which a parallel index build uses up.
        "dynamic_shared_memory_type": "posix" if shared_memory_free > 512 else "mmap",
    }


def _memory_megabytes() -> int:
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**2)


def _shared_memory_free() -> int:
    try:
        state = os.statvfs("/dev/shm")  # noqa: S108 (only asked about its space)
    except OSError:
        return 1024  # no such folder on this system: its own default will do
    return state.f_bavail * state.f_frsize // 1024**2
