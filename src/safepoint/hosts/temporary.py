"""Temporary folders that are gone even after a kill: the next one of the same kind finds them without their lock."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

_FRESH: Final = 10.0
"""Seconds. Between making a folder and locking it somebody else must not take it for an abandoned one."""


class HeldFolder:
    """A private folder below the system's temporary one, for as long as the context lasts, or until `cleanup`.

    Those of the same prefix whose maker was killed are removed when one is made. The hold is a lock on the folder
    itself, which the kernel releases however a process dies.

    Args:
        parent: the folder that it is made in, which is there; None: the system's temporary one.
    """

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        sweep(parent or Path(tempfile.gettempdir()), prefix)
        self.name = tempfile.mkdtemp(prefix=prefix, dir=parent)
        self._descriptor: int | None = os.open(self.name, os.O_RDONLY)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Remove it; a second time nothing happens."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            shutil.rmtree(self.name, ignore_errors=True)
            os.close(descriptor)


def sweep(parent: Path, prefix: str = "") -> None:
    """Remove the folders of that prefix whose maker was killed; those that are held, or somebody else's, stay."""
    for path in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # another one removes it at this moment, or it is somebody else's
            facts = path.lstat()
            if facts.st_uid == os.geteuid() and path.is_dir() and time.time() - facts.st_mtime > _FRESH:
                _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
