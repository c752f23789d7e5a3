"""Telling one process from another that got its number later. No signal goes to a process that was not recognised."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

_PROC = Path("/proc")


def birth(pid: int) -> str | None:
    """What identifies a living process together with its number: when it started; None when it is gone.

    On Linux this is the boot id and the start time in clock ticks (proc(5), /proc/pid/stat, field 22).
    """
    if not (_PROC / "self" / "stat").exists():
        return _ps(pid, "lstart=")
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in ("Z", "X"):
        return None
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{fields[19]}"


def command_line(pid: int) -> str:
    """The words of a living process, joined by spaces; empty when it is gone."""
    if not (_PROC / "self" / "stat").exists():
        return _ps(pid, "args=") or ""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def postmaster(data: Path) -> int | None:
    """The living server process of a data folder, or None. A stale postmaster.pid does not deceive it."""
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
    return pid if f"-D {data} " in command_line(pid) + " " else None


def end(pid: int, born: str | None, how: signal.Signals, seconds: float) -> bool:
    """Send a signal to that very process and wait until it is gone, at most `seconds`. True when it is gone."""
    if born is None or birth(pid) != born:
        return True
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + seconds
    while birth(pid) == born:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _ps(pid: int, column: str) -> str | None:
    answer = subprocess.run(["ps", "-o", column, "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
