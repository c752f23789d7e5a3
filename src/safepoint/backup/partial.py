"""Folders of snapshots that are not whole yet: held while somebody fills them, found again when nobody does any more.

The hold is a lock on the folder itself (`flock`): the kernel releases it when the process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".partial"
# Seconds. Between making a folder and locking it somebody else must not take it for an abandoned one.
_FRESH = 10.0


@contextmanager
def filling(path: Path) -> Iterator[Path]:
    """A new, empty, private folder to fill. It is removed when that fails; at the end it should have been renamed."""
    if path.exists():
        shutil.rmtree(path)  # left by one that was killed
    path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        os.close(descriptor)


def abandoned(folder: Path) -> Iterator[Path]:
    """The partial folders that nobody fills any more; each is held while it is the caller's turn with it."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            if not path.is_dir() or abs(time.time() - path.stat().st_mtime) < _FRESH:
                continue
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
