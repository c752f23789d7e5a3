"""What the error logs got since the site was closed, copied into the launch's folder: rotation takes them away within
days, and whoever looks for what went wrong comes later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from safepoint.checkpoints import logs
from safepoint.config import PlanFile, format_bytes
from safepoint.errors import SafepointError
from safepoint.hosts import open_host
from safepoint.launch.error_logs import Watched, watched
from safepoint.launch.ground import newest_fact
from safepoint.launch.ledger import Entry
from safepoint.launch.storage import make_private, write_private

FOLDER: Final = "logs"
_NAMES: Final = {logs.APPLICATION.name: "application", logs.DATABASE.name: "database"}
_MOST: Final = 256 * 1024**2
"""Bytes of one log at once: a release that logs all day must not fill the conductor's disk."""


def keep_logs(plan: PlanFile, folder: Path, entries: Sequence[Entry]) -> list[str]:
    """Copy what each has got since the time before, the first time since the site was closed. May be run again.

    Args:
        folder: the launch's own.

    Returns:
        What was kept, a few words for each log; also of one that cannot be read: a launch does not stand still for it.
    """
    return [_told(plan, log, folder / FOLDER, begun) for log, begun in _begun(plan, entries)]


def _begun(plan: PlanFile, entries: Sequence[Entry]) -> Iterator[tuple[Watched, logs.LogMark]]:
    for log in watched(plan):
        if (fact := newest_fact(entries, log.fact)) is not None:
            yield log, logs.LogMark.from_json(fact)


def _told(plan: PlanFile, log: Watched, folder: Path, begun: logs.LogMark) -> str:
    name = _NAMES[log.kind.name]
    copy = folder / f"{name}.log"
    try:
        make_private(folder)
        size, gap = _kept(plan, log, copy, folder / f"{name}.json", begun)
    except SafepointError as error:
        return f"{log.path} could not be kept: {error.message}"
    except OSError as error:
        return f"{log.path} could not be kept in {copy}: {error.strerror}"
    lost = " (it was rotated or cut meanwhile, and lines may be missing)" if gap else ""
    return f"{format_bytes(size)} of {log.path}{lost}"


def _kept(plan: PlanFile, log: Watched, copy: Path, state: Path, begun: logs.LogMark) -> tuple[int, bool]:
    """The copy's size, and whether lines may be missing. What a kill left behind the last mark is written anew."""
    known: dict[str, Any] = json.loads(state.read_text()) if state.exists() else {"bytes": 0, "mark": begun.as_json()}
    host = open_host(log.host, plan.host(log.host), plan.folder)
    with os.fdopen(os.open(copy, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        file.truncate(known["bytes"])
        file.seek(0, os.SEEK_END)
        mark = logs.copy(host, logs.LogMark.from_json(known["mark"]), file, most=_MOST)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    write_private(state, json.dumps({"bytes": size, "mark": mark.as_json()}))
    return size, mark.gap
