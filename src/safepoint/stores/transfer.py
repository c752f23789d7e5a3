"""What was carried to a store, or from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


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

    def as_json(self) -> dict[str, Any]:
        """As it stands in the ledger."""
        return {name: value for name, value in asdict(self).items() if name != "sha256"}
