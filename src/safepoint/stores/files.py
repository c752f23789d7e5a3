"""What a store of snapshots needs of the place below it: files that are put, read, listed, removed, by their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

from safepoint.stores.piecewise import Writing

CHUNK = 4 * 1024 * 1024
"""How much of a file is in memory at a time while it is read, in bytes."""
_PIECE = 256 * 1024

Step: TypeAlias = Callable[[int], None]
"""Is told how many bytes of the file are done; what it raises (an order to stop) ends the transfer."""


class Through(Protocol):
    """What a file goes through on its way to a store or back."""

    def __call__(self, source: BinaryIO, sink: BinaryIO, step: Step) -> None:
        """Read all of one and write the other; `step` is told how many bytes were read."""
        ...


@dataclass(frozen=True)
class Sent:
    """What was written to a store: its size, and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


def copied(source: BinaryIO, sink: BinaryIO, step: Step) -> None:
    """As it is; in pieces so small that also on a slow link there is news, and an order is heard."""
    done = 0
    while piece := source.read(_PIECE):
        sink.write(piece)
        done += len(piece)
        step(done)


class Reading(Protocol):
    """A file of a store that is being read, piece by piece."""

    def read(self, size: int) -> bytes:
        """The next piece, of that size at most; called again after a failure it is the same one, read anew."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Files(Protocol):
    """What a snapshot store needs from the place below it.

    Promises: a call may be repeated after any failure; `put` replaces; `remove` of what is not there is no error;
    memory does not grow with a file. What goes wrong is a `StoreError`; it is `Unreachable` where trying again
    may help. What `step` raises passes through.
    """

    where: str

    def put(self, local: Path, name: str, step: Step, through: Through = copied) -> Sent:
        """Write a local file to the store, to stay: locked where the store locks. Says what was written."""
        ...

    def begin(self, name: str, size: int) -> Writing | None:
        """Begin a file of about that size that is sent piece by piece; None where `put` does as well, or must do."""
        ...

    def reading(self, name: str) -> Reading:
        """A file of the store to read from its beginning; nothing is opened yet."""
        ...

    def get(self, name: str, local: Path, step: Step, through: Through = copied) -> None:
        """Write a file of the store to a local path."""
        ...

    def locked_until(self, name: str) -> datetime | None:
        """Until when a file cannot be removed; None where nothing locks it."""
        ...

    def keeps_versions(self) -> bool:
        """Whether what is removed is only hidden, as the store keeps versions; false where it does not tell."""
        ...

    def digest(self, name: str, step: Step) -> str:
        """Read a file of the store and say its SHA-256, in hexadecimal."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        ...

    def read(self, name: str) -> bytes:
        """Read a small file."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def names(self, folder: str) -> list[str]:
        """All files below a folder, relative to it, sorted; empty where the folder is not there."""
        ...

    def sizes(self, folder: str) -> dict[str, int | None]:
        """The same files, with how many bytes each has; None where the store does not tell."""
        ...

    def folders(self) -> list[str]:
        """The folders right in the store, sorted; empty where the store is not there yet."""
        ...

    def touched(self, folder: str) -> datetime | None:
        """When something below a folder was written last, by the store's clock; None where there is nothing.

        Where the store does not tell, it is now. What is under way counts, too.
        """
        ...

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it, and what was begun and not ended there."""
        ...

    def tidy(self, before: datetime) -> None:
        """Give up uploads that were begun before that and never ended, where the store keeps such."""
        ...
