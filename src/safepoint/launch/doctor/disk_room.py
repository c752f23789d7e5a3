"""Is there room: for snapshots and their proofs here, and for a copy of the database on the server's own disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safepoint.config import PlanFile, format_bytes
from safepoint.hosts import command, open_host
from safepoint.launch.doctor.finding import Finding, failure, ok, warning
from safepoint.postgres.catalog import Survey

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def room(plan: PlanFile, facts: Survey) -> Iterator[Finding]:
    """Disk space for the dump and its proof here, and for the copy of the database on the server."""
    size = facts.database_bytes
    # A restored copy is about as big as its source; a compressed dump is rarely above half of it.
    need = int(size * (1.8 if plan.scratch is None else 0.8)) + 64 * 1024**2
    yield _space("disk", _existing(plan.state), need, f"snapshots and their proofs ({plan.state})")
    on_server = list(_room_on_server(plan, facts))
    if plan.wayback.server is None:
        yield from on_server
        return
    # The twin is to stand on another server; a copy is made here only where that fails.
    for one in on_server:
        what = f"Should the twin have to be copied on the live server after all: {one.message}"
        yield one if one.verdict == "ok" else warning(one.check, what, one.remedy or "Make room there.")


def _room_on_server(plan: PlanFile, facts: Survey) -> Iterator[Finding]:
    copy = facts.database_bytes + 64 * 1024**2
    folder = Path(facts.data_directory) if facts.data_directory else None
    if folder is not None and plan.database.host in (*_LOOPBACK, "") and _visible(folder):
        yield _space("disk-server", folder, copy, f"the copy of the database ({folder})")
        return
    free = None if folder is None else _free_there(plan, folder)
    if free is None:
        yield warning(
            "disk-server",
            f"The server's disk cannot be seen from here; the copy needs {format_bytes(copy)} there.",
            "Look yourself (`df -h` of its data directory), or set database.tools_host to the server's host.",
        )
    elif free < copy:
        yield failure(
            "disk-server",
            f"The server's disk has {format_bytes(free)}, the copy needs {format_bytes(copy)}.",
            "Make room there.",
        )
    else:
        yield ok("disk-server", f"The server's disk has {format_bytes(free)}, the copy needs {format_bytes(copy)}")


def _space(check: str, folder: Path, need: int, what: str) -> Finding:
    if check == "disk" and not folder.is_dir():
        return failure(check, f"{folder} is not a folder.", "Correct launch.state, or move what stands there.")
    if not os.access(folder, os.W_OK) and check == "disk":
        return failure(check, f"{folder} cannot be written.", "Correct launch.state, or the folder's permissions.")
    free = shutil.disk_usage(folder).free
    message = f"{format_bytes(free)} are free, {format_bytes(need)} are needed for {what}"
    if free < need:
        return failure(check, message, "Make room, or put it on another disk (launch.state).")
    return ok(check, message)


def _free_there(plan: PlanFile, folder: Path) -> int | None:
    """Free bytes of the data directory on the tools' host, where that is the server's; None when it is not."""
    name = plan.database.tools_host
    if name == "here":
        return None
    host = open_host(name, plan.host(name), plan.folder)
    result = host.run(command(("df", "-Pk", str(folder))), check=False, timeout=30)
    words = result.stdout.strip().splitlines()[-1].split() if result.code == 0 and result.stdout.strip() else []
    return int(words[3]) * 1024 if len(words) > 3 and words[3].isdigit() else None


def server_disk(plan: PlanFile, facts: Survey) -> int | None:
    """Free bytes on the server's disk; None where it cannot be seen from here."""
    folder = Path(facts.data_directory) if facts.data_directory else None
    if folder is None:
        return None
    if plan.database.host in (*_LOOPBACK, "") and _visible(folder):
        return shutil.disk_usage(folder).free
    return _free_there(plan, folder)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _visible(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:  # a folder above it is not open to us
        return False
