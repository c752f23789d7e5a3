"""Error lines that a log file has got since a mark, read through any host; rotation is noticed."""

from __future__ import annotations

import io
import re
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from safepoint.checkpoints.checkpoint import Checkpoint, timed
from safepoint.errors import SafepointError
from safepoint.hosts.command import Command, Host

_CHUNK = 1024 * 1024
_MOST_CHUNKS = 64
_SAMPLES = 3

# Prints one line `STATE INODE SIZE`, then at most $4 bytes. $1 path, $2 inode at the mark (0: there was no file),
# $3 offset. POSIX tools only, because the application's container may have little else.
# same: the marked file; moved: it was renamed to PATH.1; cut: it became shorter (copytruncate); lost: another file
# stands there and the marked one is not found; none: there is no file.
READ = """
inode() { ls -di "$1" 2>/dev/null | awk '{ print $1 }'; }
file=$1 from=$3
now=$(inode "$file")
if [ -z "$now" ]; then echo "none 0 0"; exit 0; fi
if [ "$2" = 0 ] || [ "$now" = "$2" ]; then state=same
elif [ "$(inode "$1.1")" = "$2" ]; then state=moved file=$1.1
else state=lost from=0; fi
size=$(wc -c < "$file") || exit 1
size=$((size))
if [ "$size" -lt "$from" ]; then state=cut from=0; fi
echo "$state $now $size"
tail -c "+$((from + 1))" "$file" | head -c "$4"
"""


@dataclass(frozen=True)
class Kind:
    """Whose log it is: the checkpoint's name and title, and the key of the plan file that names it."""

    name: str
    title: str
    key: str


APPLICATION = Kind("errors", "Error log", "application.error_log")
DATABASE = Kind("database-errors", "The database's error log", "database.error_log")


@dataclass(frozen=True)
class LogMark:
    """How far a log has been read, and what was found since the first mark. JSON-safe, so it can be kept.

    `matched` counts lines that fit the pattern, `tracebacks` errors without such a line (Django's default format
    writes no level); `gap` says that lines may have been lost by a rotation.
    """

    path: str
    inode: int
    offset: int
    matched: int = 0
    tracebacks: int = 0
    gap: bool = False
    samples: tuple[str, ...] = ()

    @property
    def errors(self) -> int:
        """How many errors: one entry has a line with its level, a traceback, or both."""
        return max(self.matched, self.tracebacks)

    def from_here(self) -> LogMark:
        """The same place, with nothing found up to it."""
        return replace(self, matched=0, tracebacks=0, samples=())

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "samples": list(self.samples)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LogMark:
        """Read back what `as_json` gave."""
        return cls(**{**data, "samples": tuple(data["samples"])})


def read_command(path: str, inode: int, offset: int, most: int) -> Command:
    """The command that reads a log from an offset. Pure."""
    return Command(("sh", "-c", READ, "sh", path, str(inode), str(offset), str(most)))


def mark(host: Host, path: str) -> LogMark:
    """Note where the log ends now. A file that is not there yet is marked as such.

    Raises:
        CommandFailed: the host cannot be reached or the file cannot be read.
    """
    state, inode, size, _data = _read(host, read_command(path, 0, 0, 0))
    return LogMark(path, 0, 0) if state == "none" else LogMark(path, inode, size)


def read(host: Host, since: LogMark, pattern: str) -> LogMark:
    """Read on from a mark and give the next one, its counts added up.

    At most 64 MB are read in one call; the rest comes with the next. A last line without its end waits, too.

    Raises:
        CommandFailed: the host cannot be reached or the file cannot be read.
    """
    expression = re.compile(pattern)
    now = since
    for _chunk in range(_MOST_CHUNKS):
        state, inode, size, data = _read(host, read_command(now.path, now.inode, now.offset, _CHUNK))
        if state == "none":
            return replace(now, gap=now.gap or now.inode != 0)
        now, more = advance(now, state, inode, size, data, expression)
        if not more:
            break
    return now


def copy(host: Host, since: LogMark, sink: BinaryIO, *, most: int) -> LogMark:
    """Write what came since a mark into a file, as it stands there, and give the next mark.

    Args:
        most: about how many bytes at once; the rest comes with the next call.

    Raises:
        CommandFailed: the host cannot be reached or the file cannot be read.
    """
    now = since
    for _chunk in range(max(1, most // _CHUNK)):
        state, inode, size, data = _read(host, read_command(now.path, now.inode, now.offset, _CHUNK))
        if state == "none":
            return replace(now, gap=now.gap or now.inode != 0)
        sink.write(data)
        end = len(data) + (now.offset if state in ("same", "moved") else 0)
        now = replace(now, gap=now.gap or state in ("lost", "cut"))
        if state == "moved" and end >= size:
            now = replace(now, inode=inode, offset=0)
            continue
        now = replace(now, inode=now.inode if state == "moved" else inode, offset=end)
        if len(data) < _CHUNK:
            break
    return now


def advance(
    now: LogMark, state: str, inode: int, size: int, data: bytes, expression: re.Pattern[str]
) -> tuple[LogMark, bool]:
    """The next mark after one chunk, and whether more is there to be read at once. Pure."""
    begin = now.offset if state in ("same", "moved") else 0
    gap = now.gap or state in ("lost", "cut")
    whole = data[: data.rfind(b"\n") + 1]
    if len(data) >= _CHUNK and not whole:
        whole = data  # one line longer than a chunk: judged in parts
    if state == "moved":
        whole = data  # nothing will be appended to a file that was moved away
    lines = whole.decode("utf-8", errors="replace").splitlines()
    matches = [line for line in lines if expression.search(line)]
    counted = replace(
        now,
        matched=now.matched + len(matches),
        tracebacks=max(0, now.tracebacks + _tracebacks(lines)),
        gap=gap,
        samples=(*now.samples, *(line.strip()[:200] for line in matches))[:_SAMPLES],
    )
    end = begin + len(whole)
    if state == "moved" and end >= size:
        return replace(counted, inode=inode, offset=0), True
    kept = now.inode if state == "moved" else inode
    return replace(counted, inode=kept, offset=end), len(data) >= _CHUNK


def _tracebacks(lines: list[str]) -> int:
    """Tracebacks that begin here; those chained to another one belong to the same error."""
    begun = sum("Traceback (most recent call last)" in line for line in lines)
    chained = sum(
        line.startswith(("During handling of the above exception", "The above exception was the direct cause"))
        for line in lines
    )
    return begun - chained


def judge_log(found: LogMark, *, limit: int, kind: Kind = APPLICATION) -> Checkpoint:
    """More error lines than the limit fail; a log that could not be read whole is for a person. Pure."""
    detail = f"{found.errors} errors since the mark in {found.path}"
    if found.samples:
        detail += f"; first: {found.samples[0]}"
    common: dict[str, Any] = {"baseline": 0, "value": found.errors, "limit": limit, "unit": "lines", "detail": detail}
    if found.errors > limit:
        remedy = f"Read {found.path}; roll back if the new release is the cause."
        return Checkpoint(kind.name, kind.title, "fail", remedy=remedy, **common)
    if found.inode == 0:
        common["detail"] = f"there is no file {found.path}, neither at the mark nor now"
        remedy = f"Correct {kind.key}; a log that is only created by its first error is fine once you know."
        return Checkpoint(kind.name, kind.title, "inconclusive", remedy=remedy, **common)
    if found.gap:
        common["detail"] = f"{detail}; the log was rotated or cut, and lines may be lost"
        remedy = f"Read the rotated files beside {found.path} by hand."
        return Checkpoint(kind.name, kind.title, "inconclusive", remedy=remedy, **common)
    return Checkpoint(kind.name, kind.title, "pass", **common)


def errors_since(
    host: Host,
    since: LogMark,
    *,
    pattern: str,
    limit: int,
    kind: Kind = APPLICATION,
) -> tuple[Checkpoint, LogMark]:
    """Read on and judge. Give the returned mark to the next call; a log that cannot be read fails the check."""
    marks = [since]

    def look() -> Checkpoint:
        marks.append(read(host, since, pattern))
        return judge_log(marks[-1], limit=limit, kind=kind)

    return timed(kind.name, kind.title, look), marks[-1]


def _read(host: Host, command: Command) -> tuple[str, int, int, bytes]:
    sink = io.BytesIO()
    host.stream(command, stdout=sink, timeout=60)
    head, _, data = sink.getvalue().partition(b"\n")
    words = head.split()
    if len(words) != 3:
        raise SafepointError(f"The log {command.argv[4]} could not be read: {head[:200]!r}.", subject=command.argv[4])
    return words[0].decode(), int(words[1]), int(words[2]), data
