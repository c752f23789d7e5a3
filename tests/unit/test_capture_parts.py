"""What `safepoint retire` says it removed is what stood there."""

from __future__ import annotations

from dataclasses import replace

from safepoint.wayback.capture.capture import CaptureFacts


def test_a_capture_by_triggers_had_neither_slot_nor_publication() -> None:
    decoded = CaptureFacts("l", "shop", "logical", None, "s", "p", "0/1", 1, True)
    assert decoded.parts == "slot, publication, raised replica identities"
    assert replace(decoded, mode="triggers").parts == "its triggers"
