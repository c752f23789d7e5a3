"""What an encrypted snapshot says in the clear, so that it is listed and kept by those who cannot open it.

The label is written last, as the manifest of a snapshot in the clear is, and proves nothing: what counts is in the
encrypted manifest. A check over its own text tells a damaged label from a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from safepoint.errors import StoreError

LABEL: Final = "sealed.json"
_FORMAT: Final = 1


class LabelUnreadable(StoreError):
    """What one encrypted snapshot says in the clear cannot be read; the store and its other snapshots are well."""


class LabelOfOtherVersion(LabelUnreadable):
    """It was written by another version of Safepoint."""


def write_label(snapshot_id: str, said: Mapping[str, Any]) -> str:
    """The text of a label. Pure."""
    return _checked({**said, "format": _FORMAT, "id": snapshot_id})


def read_label(text: bytes, snapshot_id: str, where: str) -> dict[str, Any]:
    """What a label says. Pure.

    Args:
        where: the store, for the error.

    Raises:
        LabelUnreadable: it is damaged, of another snapshot, or of another version.
    """
    found = _whole(text)
    if found is not None and found.get("id") == snapshot_id and found.get("format") == _FORMAT:
        return found
    if (other := _format(text)) not in (None, _FORMAT):
        raise LabelOfOtherVersion(
            f"The {LABEL} of {snapshot_id} in {where} was written by another version of Safepoint.",
            subject=f"{snapshot_id}/{LABEL}",
            expected=f"format {_FORMAT}",
            found=f"format {other}",
            remedy="Use the version of Safepoint that took the snapshot, or a newer one.",
        )
    raise LabelUnreadable(
        f"The {LABEL} of {snapshot_id} in {where} is damaged.",
        subject=f"{snapshot_id}/{LABEL}",
        remedy="Its files may still be whole: open them by hand, as docs/restore-without-safepoint.md shows.",
    )


def _checked(label: Mapping[str, Any]) -> str:
    check = hashlib.sha256(json.dumps(label, sort_keys=True).encode()).hexdigest()
    return json.dumps({**label, "check": check}, indent=1) + "\n"


def _whole(text: bytes) -> dict[str, Any] | None:
    """A label that is exactly as it was written; None where it is not."""
    try:
        found = dict(json.loads(text))
        found.pop("check")
        return found if _checked(found).encode() == text else None
    except (ValueError, TypeError, KeyError):
        return None


def _format(text: bytes) -> Any:
    """The format that a label says it has, whatever else is in it; None where it says none."""
    try:
        return dict(json.loads(text)).get("format")
    except (ValueError, TypeError):
        return None
