"""Safepoint's own disk: folders for its owner alone, and what the system refused there, told with the next action."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from safepoint.config.durations import format_bytes
from safepoint.errors import SafepointError
from safepoint.person import user_of

_REMEDIES = {
    errno.ENOSPC: "Make room there, or name another place (launch.state); then run the command again.",
    errno.EDQUOT: "Make room there, or name another place (launch.state); then run the command again.",
    errno.EROFS: "It can only be read: name another place (launch.state), or mount it for writing.",
    errno.EACCES: "Let this user write there, or name another place (launch.state).",
    errno.EPERM: "Let this user write there, or name another place (launch.state).",
    errno.ENOTDIR: "Something that is no folder stands in its place: correct launch.state, or move it.",
    errno.EEXIST: "Something that is no folder stands in its place: correct launch.state, or move it.",
}

_ROOM = (
    "Make room there (or move the whole state folder to where there is some, and name that in launch.state){}; "
    "then run the command again."
)
_RIGHTS = "Let this user write there; then run the command again."
_AWAY = "Something that is no folder stands in its place: move that away; then run the command again."
_BEGUN = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "It can only be read: mount it for writing; then run the command again.",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOTDIR: _AWAY,
    errno.EEXIST: _AWAY,
}
"""Where a launch has begun, its ledger and its capture lie there: in an empty folder no order would know of it."""

_SQLITE = {
    "disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "readonly database": errno.EROFS,
    "unable to open database": errno.EACCES,
}
"""What SQLite says where the system would have given a number."""


NAMELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""What the system says of a disk when a file is written or synced, and does not say of which file."""

_DAMAGED = ("file is not a database", "disk image is malformed")
"""What SQLite says of a file that is damaged."""

_WORTH = 1 << 20
"""Bytes from which on a thing is worth moving."""
_NAMED = 4
"""How many things a remedy names that may be moved away."""

ROOM = 4 << 20
"""Bytes that must be free for the ledger and the engine's state before anything is conducted: a rollback writes one."""

LEAST = 256 << 10
"""Bytes that must be free meanwhile. Where that were as much as before, whoever began with just enough would leave at
the next look, with the site closed.
"""


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter; one of ours that is there already, and open to others, becomes so.

    What a launch writes has customers' rows in it (the spool, what was put aside, the engine's record of errors).

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if state.st_uid == os.geteuid() and state.st_mode & 0o077:
        with suppress(OSError):  # a file system without modes must not stand before the way back
            folder.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Put a small file in its place at once, for its owner alone: nobody finds half of it, also after a kill.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def probe_room(folder: Path, room: int = ROOM) -> None:
    """Write so many bytes and take them away again: a disk that is nearly full is found before a step needs it.

    Raises:
        OSError: it could not be written; the file is gone all the same.
    """
    probe = folder / ".room"
    try:
        with probe.open("wb", buffering=0) as file:
            left = memoryview(bytes(room))
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def spare(where: Path, launch_id: str | None = None) -> list[tuple[Path, int]]:
    """What lies in a state folder and neither this launch nor its way back reads any more, with its bytes, the largest
    first: whole snapshots. Once its window has begun, that is all but its final one; before that those of others,
    beside which no rehearsal stands that its gate may read; where no launch is named, those of none.

    Args:
        where: the state folder, or anything in it.
    """
    state = next((one for one in (where, *where.parents) if (one / "launches").is_dir()), None)
    if state is None:
        return []
    closed = launch_id is not None and _begun(state / "launches" / launch_id / "ledger.jsonl", "stop-traffic")
    kept = {launch_id} if launch_id else {path.name for path in (state / "launches").glob("*")}
    kept = {f"{launch_id}-final"} if closed else kept
    found = [path.parent for path in (state / "snapshots").glob("*/manifest.json")]
    others = [path for path in found if not any(path.name.startswith(f"{one}-") for one in kept)]
    sized = [(path, _bytes(path)) for path in others if closed or not (path / "rehearsal.json").exists()]
    return sorted([one for one in sized if one[1] >= _WORTH], key=lambda one: one[1], reverse=True)


def _begun(ledger: Path, step: str) -> bool:
    """Whether a ledger has a line of that step: of the current try, for what an aborted one did is taken back."""
    with suppress(OSError):
        return f":{step}:".encode() in ledger.read_bytes().rpartition(b'"status":"aborted"')[2]
    return False


def _bytes(path: Path) -> int:
    """What a folder takes on its disk, as far as it can be read."""
    found = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with suppress(OSError):
                found += os.lstat(Path(folder) / name).st_blocks * 512
    return found


def _to_free(where: str, launch_id: str | None) -> str:
    found = spare(Path(where), launch_id)
    if not found:
        return f": {ROOM >> 20} MB at the least; nothing in the state folder can be spared"
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    named = ", ".join(f"{path} ({format_bytes(size)})" for path, size in found[:_NAMED])
    return (
        f": {ROOM >> 20} MB at the least. Neither the launch nor its way back needs these now, which may be moved to "
        f"another disk: {named}{more}"
    )


def storage_error(error: OSError, *, subject: str | None = None, begun: bool = False) -> SafepointError:
    """The error as a person can act on it; of a full disk with what may be moved away.

    Args:
        subject: the file or folder, where `error` names none.
        begun: a launch has its record in that state folder; true in any case of a file below `launches`.
    """
    where = str(error.filename or subject or "Safepoint's state folder")
    begun = begun or "launches" in Path(where).parts
    remedies = _BEGUN if begun else _REMEDIES
    remedy = remedies.get(error.errno or 0, "Look at that file or folder; then run the command again.")
    if error.errno in (errno.EACCES, errno.EPERM) and (owner := _somebody_else(Path(where), begun=begun)):
        remedy = (
            f"It belongs to {owner}, and is for its owner alone: give the command as {owner}, with what is set in that "
            "user's environment."
        )
    if remedy is _ROOM:
        remedy = remedy.format(_to_free(where, _launch_of(where) or _launch_of(subject or "")))
    return SafepointError(
        f"{where}: {error.strerror or error}.",
        subject=where,
        remedy=remedy,
    )


def _somebody_else(path: Path, *, begun: bool) -> str | None:
    """Who has what we may not read or write, where that is not us.

    Args:
        begun: it is a launch's. Where it is not, and is not there yet, the folder around it need not be Safepoint's.
    """
    for place in (path, *path.parents) if begun else (path,):
        with suppress(OSError):
            found = place.stat().st_uid
            return None if found == os.geteuid() else user_of(found)
    return None


def _launch_of(where: str) -> str | None:
    """Whose a path below `launches` is. Pure."""
    parts = Path(where).parts
    return parts[parts.index("launches") + 1] if "launches" in parts[:-1] else None


def of_sqlite(said: str, what: str) -> OSError | None:
    """What SQLite says of a disk, as the system would have said it; None where it says something else. Pure.

    Args:
        what: which of our files it is, in a person's words.
    """
    for sign, number in _SQLITE.items():
        if sign in said:
            return OSError(number, f"{os.strerror(number)} ({what}: {said})")
    return None


def told(error: Exception, *, subject: str | None = None, begun: bool = False) -> SafepointError:
    """Any error as a person can act on it; the arguments are those of `storage_error`."""
    if isinstance(error, SafepointError):
        return error
    if isinstance(error, OSError):
        return storage_error(error, subject=subject, begun=begun)
    said = str(getattr(error, "orig", None) or error)
    if (refused := of_sqlite(said, "the engine's state")) is not None:
        return storage_error(refused, subject=subject, begun=begun)
    if any(sign in said for sign in _DAMAGED):
        state = "engine.sqlite in the launch's folder" if subject is None else f"{subject}/engine.sqlite"
        return SafepointError(
            f"The engine's state is damaged: {said}.",
            subject=state,
            remedy=f"Move {state} away; then run the command again: it goes on by the ledger, which is whole.",
        )
    return SafepointError(
        f"An unexpected {type(error).__name__}: {said}",
        remedy="This is a fault of Safepoint: please report it; SAFEPOINT_TRACEBACK=1 shows where. What the launch "
        "stands at is in its ledger: `safepoint status`.",
    )
