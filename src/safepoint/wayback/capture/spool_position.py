"""The position file beside a spool: where what is durable ends, and what the server was told to forget."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Position:
    """The end of what is durable: offset in the file, LSN of the last commit, how many transactions lie before.

    `relations` has a digest of each table's last known shape, by oid: a change of it means that DDL ran. `snapshot` is
    that of the last drain of a capture by triggers: what it shows is in the spool. `let_go` is the LSN up to which the
    server may have been told to forget; None where nobody knows (the position was found by reading).
    """

    offset: int
    commit_lsn: int = 0
    transactions: int = 0
    relations: Mapping[str, str] = field(default_factory=dict)
    snapshot: str = ""
    let_go: int | None = None
    timeline: str = ""


def _position_file(path: Path) -> Path:
    return path.with_name(path.name + ".pos")


def read_position(path: Path) -> Position | None:
    """What the position file of a spool says; None where there is none that can be read."""
    try:
        data = json.loads(_position_file(path).read_text(encoding="utf-8"))
        return Position(
            data["offset"],
            data["commit_lsn"],
            data["transactions"],
            data["relations"],
            data.get("snapshot", ""),
            data.get("let_go"),
            data.get("timeline", ""),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_position(path: Path, position: Position) -> None:
    """Replace it; it is durable then."""
    partial = path.with_name(path.name + ".pos.new")
    text = {
        "offset": position.offset,
        "commit_lsn": position.commit_lsn,
        "transactions": position.transactions,
        "relations": dict(position.relations),
        "snapshot": position.snapshot,
        "let_go": position.let_go,
        "timeline": position.timeline,
    }
    with partial.open("w", encoding="utf-8") as file:
        json.dump(text, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(_position_file(path))
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in it durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
