"""How a snapshot's files are named in a store: in a folder of its id, with the file in it that makes it whole."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from safepoint.errors import StoreError
from safepoint.stores.files import Files
from safepoint.stores.label import LABEL, read_label

MANIFEST: Final = "manifest.json"
ENDS: Final = (MANIFEST, LABEL)
"""What is written last and removed first, in the clear and encrypted: without one of them nothing is seen."""
_PARTS: Final = re.compile(
    r"(?:archive/.+|archive\.dump|(?:globals|database|extensions)\.sql|(?:proof|manifest|sealed)\.json)(?:\.age)?"
    r"|\.sending-.*",
    re.DOTALL,
)
"""What the files of a snapshot are called, encrypted ones and notes of an upload among them."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")


def is_id(name: str) -> bool:
    """Whether a snapshot can be named so. Pure."""
    return _ID.fullmatch(name) is not None


def are_a_snapshots(names: Iterable[str]) -> bool:
    """Whether files of these names can all be a snapshot's, so that none of them is somebody else's. Pure."""
    return all(_PARTS.fullmatch(name) for name in names)


def place(snapshot_id: str, name: str) -> str:
    """Where a snapshot's file is in the store. Pure.

    Raises:
        StoreError: the id is none, or the name leads elsewhere.
    """
    if not is_id(snapshot_id):
        raise StoreError(
            f"{snapshot_id!r} is no id of a snapshot.",
            subject=snapshot_id,
            expected="letters, digits, '.', '_' and '-', beginning with a letter or digit",
            remedy="See `safepoint backups`.",
        )
    return f"{snapshot_id}/{inside(name)}"


def inside(name: str) -> str:
    """Refuse names that lead out of their folder: a store is not trusted to name paths on this machine."""
    if name.startswith("/") or ".." in name.split("/"):
        raise StoreError(
            f"The name {name!r} leads out of its snapshot.",
            subject=name,
            remedy="Somebody tampered with the store or the manifest: do not use this snapshot.",
        )
    return name


def is_complete(files: Files, snapshot_id: str) -> bool:
    """Whether the snapshot is to be seen."""
    return any(files.exists(place(snapshot_id, name)) for name in ENDS)


def label_of(files: Files, snapshot_id: str) -> dict[str, Any] | None:
    """See `SnapshotStore.label`."""
    name = place(snapshot_id, LABEL)
    if not files.exists(name):
        return None
    return read_label(files.read(name), snapshot_id, files.where)
