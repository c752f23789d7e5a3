"""What was carried to a store, or from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Transfer:
    """What was carried: which snapshot, to or from where, how many files and bytes, in how many seconds."""

    snapshot_id: str
    store: str
    where: str
    files: int
    bytes: int
    seconds: float
    sha256: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of each file as it lies in the store, where it is encrypted."""
