"""The conductor's lock: one conductor at a time for an application, with who holds it, where and since when.

Applications that share a state folder do not wait for each other: a rollback must not, for another's watch.

An advisory file lock (`flock`) that the kernel releases when the process dies, so a dead conductor's lock is
taken over at once and two living ones never hold it together. What stands in the file is for people.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from types import TracebackType

from safepoint.errors import Refused
from safepoint.person import user


@dataclass(frozen=True)
class Holder:
    """Who holds the lock."""

    user: str
    machine: str
    pid: int
    since: str
    launch: str
    command: str

    def __str__(self) -> str:
        since = f"{datetime.fromisoformat(self.since):%Y-%m-%d %H:%M:%S %Z}"
        who = f"{self.user} on {self.machine} (process {self.pid}), since {since}: {self.command}"
        return f"{who}; {stands}" if (stands := self.stands_still) else who

    @property
    def stands_still(self) -> str:
        """What to do where its process is stopped (SIGSTOP, a debugger): it keeps the lock, and takes no order. Empty
        where it is not, or where that cannot be seen from here (another machine, no /proc).
        """
        if self.machine != socket.gethostname():
            return ""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, IndexError):
            return ""
        return (
            f"its process is STOPPED and takes no order: `kill -CONT {self.pid}` lets it go on, "
            f"`kill -9 {self.pid}` ends it, and whoever gives an order then conducts"
            if state in ("T", "t")
            else ""
        )


class ConductorLock:
    """Hold it while a conductor works: `with ConductorLock(plan_file.conductor_lock, launch, command):`."""

    def __init__(self, path: Path, launch: str, command: str, zone: tzinfo = UTC) -> None:
        self.path = path
        self._zone = zone  # the plan's, for whoever is told since when it is held
        self._launch, self._command = launch, command
        self._fd: int | None = None
        self.taken_over: Holder | None = None

    def __enter__(self) -> ConductorLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _lock(fd):
            os.close(fd)
            who = holder(self.path)
            raise Refused(
                f"Another conductor is at work: {who or 'it has not said who it is yet'}.",
                subject=str(self.path),
                remedy="Watch it with `safepoint status`, or give it an order: go, hold, abort, rollback.",
            ) from None
        self._fd = fd
        # Whoever stood in the file and did not clear it has died with the lock: say so, it is worth knowing.
        self.taken_over = _parse(self.path)
        me = Holder(
            user(),
            socket.gethostname(),
            os.getpid(),
            datetime.now(self._zone).isoformat(),
            self._launch,
            self._command,
        )
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(asdict(me)).encode(), 0)
            os.fsync(fd)
        except OSError as error:  # a full disk: the system does not say of which file
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is not None:
            with suppress(OSError):  # what stands there is for people, and all that was to be done is done
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None


def _lock(fd: int, *, patience: float = 0.5) -> bool:
    """Take the lock. Whoever only looks (`holder`, `held`) has it for an instant: that is waited out, in seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def holder(path: Path) -> Holder | None:
    """Who holds the lock now; None when nobody living does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # who only looks needs no right to write there
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _parse(path)
    finally:
        os.close(fd)
    return None


def held(path: Path, launch: str | None = None) -> bool:
    """Whether a living conductor holds the lock; one of this launch, as far as it has said, where one is named."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            found = _parse(path)
            return launch is None or found is None or found.launch == launch
    return False


def refuse_other(path: Path, launch: str) -> None:
    """An order goes to the conductor of its launch, and nobody can become that while another one of the application is
    conducted.

    Raises:
        Refused: the conductor of another launch holds the lock.
    """
    found = holder(path)
    if found is not None and found.launch != launch:
        raise Refused(
            f"Another launch of this application is conducted, {found.launch}: {found}.",
            subject=str(path),
            expected=f"the conductor of {launch}, or none",
            found=found.launch,
            remedy="Nothing was ordered. Wait for its end, or end that command (Ctrl-C; its own launch goes on later); "
            "then give the order again.",
        )


def _parse(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text()))
    except (ValueError, TypeError, OSError):
        return None
