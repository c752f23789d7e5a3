"""What the operating system refused on Safepoint's own disk, told with the next action."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from safepoint.errors import SafepointError

_REMEDIES = {
    errno.ENOSPC: "Make room there, or name another place (launch.state); then run the command again.",
    errno.EDQUOT: "Make room there, or name another place (launch.state); then run the command again.",
    errno.EROFS: "It can only be read: name another place (launch.state), or mount it for writing.",
    errno.EACCES: "Let this user write there, or name another place (launch.state).",
    errno.EPERM: "Let this user write there, or name another place (launch.state).",
    errno.ENOTDIR: "Something that is no folder stands in its place: correct launch.state, or move it.",
    errno.EEXIST: "Something that is no folder stands in its place: correct launch.state, or move it.",
}

_SQLITE = {"disk is full": errno.ENOSPC, "readonly database": errno.EROFS, "unable to open database": errno.EACCES}
"""What SQLite says where the system would have given a number."""


ROOM = 1024 * 1024
"""Bytes that must be free for the ledger and the engine's state before anything is conducted, and meanwhile."""


def probe_room(folder: Path) -> None:
    """Write a megabyte and take it away again: a disk that is nearly full is found before a step needs it.

    Raises:
        OSError: it could not be written; the file is gone all the same.
    """
    probe = folder / ".room"
    try:
        with probe.open("wb", buffering=0) as file:
            left = memoryview(bytes(ROOM))
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def storage_error(error: OSError, *, subject: str | None = None) -> SafepointError:
    """The error as a person can act on it. `subject` is the file or folder where `error` names none. Pure."""
    where = str(error.filename or subject or "Safepoint's state folder")
    remedy = _REMEDIES.get(error.errno or 0, "Look at that file or folder; then run the command again.")
    return SafepointError(
        f"{where}: {error.strerror or error}.",
        subject=where,
        remedy=remedy,
    )


def told(error: Exception, *, subject: str | None = None) -> SafepointError:
    """Any error as a person can act on it. `subject` is the folder that is meant where the error names none. Pure."""
    if isinstance(error, SafepointError):
        return error
    if isinstance(error, OSError):
        return storage_error(error, subject=subject)
    said = str(getattr(error, "orig", None) or error)
    for sign, number in _SQLITE.items():
        if sign in said:
            return storage_error(
                OSError(number, f"{os.strerror(number)} (the engine's state: {said})"), subject=subject
            )
    return SafepointError(
        f"An unexpected {type(error).__name__}: {said}",
        remedy="This is a fault of Safepoint: please report it; SAFEPOINT_TRACEBACK=1 shows where. What the launch "
        "stands at is in its ledger: `safepoint status`.",
    )
