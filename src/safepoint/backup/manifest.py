"""The manifest of a snapshot: what it is, what it must contain, and whether its files are as they were written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from safepoint.backup.prints import Fingerprint
from safepoint.errors import Interrupted, ProofFailed
from safepoint.postgres.tools import DUMP_OPTIONS
from safepoint.progress import Cancelled, Progress, Report, never, silent

FORMAT = 1
NAME = "manifest.json"
_CHUNK = 4 * 1024 * 1024
_AT_A_TIME = 256


@dataclass(frozen=True)
class FileFact:
    """The size and SHA-256 (hexadecimal) of one file of a snapshot."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """Where a snapshot comes from, and what is needed to make a database like it. `provider`: c, i (ICU) or b.

    `icu_rules`: such that were added to the locale's own (PostgreSQL 16 and newer).
    """

    server: str
    database: str
    server_version: str
    server_version_num: int
    owner: str
    bootstrap_superuser: str
    collate: str
    ctype: str
    provider: str
    locale: str | None
    lsn: str
    database_bytes: int
    icu_rules: str | None = None

    @property
    def mark(self) -> str:
        """Tells databases apart where no name may stand; see `mark_of`."""
        return mark_of(self.server, self.database)

    def as_json(self) -> dict[str, Any]:
        """As it stands in the manifest: older versions of Safepoint know no rules, and seldom are there any."""
        return {name: value for name, value in asdict(self).items() if name != "icu_rules" or value is not None}


def mark_of(server: str, database: str) -> str:
    """32 hexadecimal digits for a database, by its server's address (`host:port`) and its name. Pure."""
    return hashlib.sha256(f"{server}/{database}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Manifest:
    """What stands in `manifest.json`. It is written last: a folder without it is no snapshot.

    `archive` is the name of the archive in the folder: a folder (pg_dump's directory format) or one file.
    `seconds` says how long each part took; `notes` what a person should know who restores it by hand. `dated`: false
    where this machine's clock and the server's were so far apart that `taken_at` may be wrong by days.
    """

    id: str
    launch_id: str | None
    taken_at: datetime
    taken_by: str
    source: Source
    tool_version: str
    archive: str
    compress: str
    commands: tuple[str, ...]
    files: Mapping[str, FileFact]
    seconds: Mapping[str, float]
    notes: tuple[str, ...]
    fingerprint: Fingerprint
    dated: bool = True

    @property
    def lsn(self) -> str:
        """The position in the write-ahead log at (or just before) the snapshot."""
        return self.source.lsn

    @property
    def total_bytes(self) -> int:
        """The size of all its files without the manifest."""
        return sum(fact.bytes for fact in self.files.values())

    @property
    def seal(self) -> str:
        """SHA-256 over everything in the manifest; proofs name it."""
        return _seal(self._body())

    @property
    def dumped_with(self) -> str:
        """Settings that the archive's text goes by; empty for snapshots from before there were any."""
        return DUMP_OPTIONS if any(DUMP_OPTIONS in command for command in self.commands) else ""

    def as_json(self) -> dict[str, Any]:
        """The manifest with its seal."""
        return {**self._body(), "seal": self.seal}

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "id": self.id,
            "launch_id": self.launch_id,
            "taken_at": self.taken_at.isoformat(),
            "taken_by": self.taken_by,
            "source": self.source.as_json(),
            "tool_version": self.tool_version,
            "archive": self.archive,
            "compress": self.compress,
            "commands": list(self.commands),
            "total_bytes": self.total_bytes,
            "files": {name: asdict(fact) for name, fact in self.files.items()},
            "seconds": dict(self.seconds),
            "notes": list(self.notes),
            **({} if self.dated else {"dated": False}),
            "fingerprint": self.fingerprint.as_json(),
        }


class OtherVersion(ProofFailed):
    """A snapshot that another version of Safepoint took: nobody here can say what it is worth."""


class Unreadable(ProofFailed):
    """The system does not give a snapshot's file now: nobody knows what that snapshot is worth."""


def unreadable(path: Path, error: OSError) -> Unreadable:
    """Not now; later perhaps. Pure."""
    return Unreadable(
        f"{path} cannot be read: {error.strerror or error}.",
        subject=str(path),
        remedy="Look at that disk, and whether this user may read there; then try again.",
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it whole or not at all, and wait until it is on the disk."""
    partial = folder / f"{NAME}.partial"
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(_written(manifest.as_json()))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / NAME)
    sync_folder(folder)


def read_manifest(folder: Path) -> Manifest:
    """Read a snapshot's manifest.

    Raises:
        Unreadable: the system does not give it.
        ProofFailed: there is none, it is damaged or was changed, or a newer version wrote it.
    """
    path = folder / NAME
    try:
        text = path.read_bytes().decode("utf-8")  # as it is: read as text, a carriage return would be a line feed
    except FileNotFoundError:
        raise ProofFailed(
            f"{folder} is no snapshot: it has no {NAME}.",
            subject=str(folder),
            expected=f"a {NAME}, which is written when a dump is complete",
            remedy="A dump that was cut short has none: take the snapshot again.",
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise _damaged(path, str(error)) from None
    return parse_manifest(text, path)


def parse_manifest(text: str | bytes, path: Path) -> Manifest:
    """Read the text of a manifest; `path` is for messages. Raises as `read_manifest`."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise _damaged(path, str(error)) from None
    version = data.get("format") if isinstance(data, dict) else None  # somebody else's, perhaps
    if version != FORMAT:
        raise OtherVersion(
            f"{path} was written by another version of Safepoint.",
            subject=str(path),
            expected=f"format {FORMAT}",
            found=f"format {version}",
            remedy="Use the version of Safepoint that took the snapshot, or a newer one.",
        )
    said = text if isinstance(text, str) else text.decode("utf-8", "replace")
    exact = _is_written(said, data)  # a space that became a line feed says the same, but somebody changed it
    seal = data.pop("seal", None)
    if seal != _seal(data) or not exact:
        raise _damaged(path, "its content does not fit its seal")
    try:
        return Manifest(
            **{name: data[name] for name in ("id", "launch_id", "taken_by", "tool_version", "archive", "compress")},
            taken_at=datetime.fromisoformat(data["taken_at"]),
            source=Source(**data["source"]),
            commands=tuple(data["commands"]),
            files={name: FileFact(**fact) for name, fact in data["files"].items()},
            seconds=data["seconds"],
            notes=tuple(data["notes"]),
            fingerprint=Fingerprint.from_json(data["fingerprint"]),
            dated=data.get("dated", True),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, repr(error)) from None


def hash_files(folder: Path, *, jobs: int = 2, cancelled: Cancelled = never) -> dict[str, FileFact]:
    """The facts of all files below a folder, by their names with slashes."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    found: dict[str, FileFact] = {}
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        # Each large object is a file of its own: what waits for its turn must not fill the memory.
        for start in range(0, len(names), _AT_A_TIME):
            some = names[start : start + _AT_A_TIME]
            facts = pool.map(lambda name: hash_file(folder / name, cancelled=cancelled), some)
            found |= zip(some, facts, strict=True)
    return found


def hash_file(path: Path, *, cancelled: Cancelled = never) -> FileFact:
    """Read a file once.

    Raises:
        Interrupted: `cancelled` became true.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            if cancelled():
                raise Interrupted("Reading the snapshot's files was ended by an order.", subject=str(path))
    return FileFact(size, digest.hexdigest())


def verify_files(folder: Path, *, report: Report = silent, cancelled: Cancelled = never) -> Manifest:
    """Compare every file of a snapshot with the manifest, which is given back.

    Raises:
        ProofFailed: the first file that is missing, truncated or changed is named.
        Interrupted: `cancelled` became true.
    """
    manifest = read_manifest(folder)
    if not manifest.files:
        raise _damaged(folder / NAME, "it names no files")
    done, total = 0, manifest.total_bytes
    for name, expected in sorted(manifest.files.items()):
        path = folder / name
        if not path.is_file():
            raise _broken(path, f"{expected.bytes} bytes", "no such file")
        found = hash_file(path, cancelled=cancelled)
        if found.bytes != expected.bytes:
            raise _broken(path, f"{expected.bytes} bytes", f"{found.bytes} bytes")
        if found.sha256 != expected.sha256:
            raise _broken(path, f"SHA-256 {expected.sha256}", f"SHA-256 {found.sha256}")
        done += found.bytes
        report(Progress("verify files", done, total, "bytes"))
    return manifest


def sizes_of(manifest: Manifest) -> dict[str, int]:
    """The bytes of each file of a snapshot. Pure."""
    return {name: fact.bytes for name, fact in manifest.files.items()}


def size_of(path: Path) -> int:
    """The bytes of a file as the system has it; -1 where there is none.

    Raises:
        Unreadable: the system does not say.
    """
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return -1
    except OSError as error:
        raise unreadable(path, error) from None


def sync_folder(folder: Path) -> None:
    """Wait until a folder's entries are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written(data: Mapping[str, Any]) -> Iterator[str]:
    """The text of a manifest, piece by piece: of ten thousand tables it has tens of megabytes."""
    yield from json.JSONEncoder(indent=1, ensure_ascii=False).iterencode(data)
    yield "\n"


def _is_written(text: str, data: Mapping[str, Any]) -> bool:
    """Whether a text is exactly what is written."""
    at = 0
    for piece in _written(data):
        if not text.startswith(piece, at):
            return False
        at += len(piece)
    return at == len(text)


def _seal(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _damaged(path: Path, why: str) -> ProofFailed:
    return ProofFailed(
        f"{path} is damaged: {why}.",
        subject=str(path),
        remedy="Do not use this snapshot; fetch it from a store again, or take a new one.",
    )


def _broken(path: Path, expected: str, found: str) -> ProofFailed:
    return ProofFailed(
        f"{path.name} of the snapshot {path.parent} is not as it was written.",
        subject=str(path),
        expected=expected,
        found=found,
        remedy="Do not use this copy; fetch the snapshot from a store again, or take a new one.",
    )
