"""Files with users' names and what they wrote: for their owner alone, and durable before they have their name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from safepoint.wayback.capture.spool_position import sync_folder


@contextmanager
def settling(out: Path) -> Iterator[TextIO]:
    """A new text file. On leaving it takes its place, and is on the disk: what it tells is soon known nowhere else."""
    partial = out.with_name(f"{out.name}.partial")
    with private(partial) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    partial.replace(out)
    sync_folder(out.parent)


def private(path: Path) -> TextIO:
    """A new text file that only its owner may read: users' names and what they wrote."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="")
