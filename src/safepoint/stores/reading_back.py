"""Reading files back from a store, and comparing them with what was put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from safepoint.errors import Interrupted, StoreError
from safepoint.progress import Cancelled, Progress, Report
from safepoint.stores.files import Files, Sent, Step


class GivenBackOtherwise(StoreError):
    """A file in a store is missing, or not as it was put in."""


def read_back(
    files: Files,
    store: str,
    expected: Mapping[str, tuple[str, Sent]],
    report: Report,
    cancelled: Cancelled,
    *,
    total: int | None = None,
) -> int:
    """Read files of a snapshot and compare their SHA-256 with what was sent; how many bytes they have.

    Args:
        store: its name, for the progress.
        expected: by the name in the snapshot: the name in the store, and what was sent.
        total: the size of all files in bytes, for the progress; None: as was sent.

    Raises:
        GivenBackOtherwise: a file is missing or differs (it is named).
        Interrupted: `cancelled` became true.
    """
    seen = 0
    total = total or sum(sent.bytes for _at, sent in expected.values()) or None
    for name, (at, sent) in sorted(expected.items()):
        size = 0
        step = step_of(f"read back from {store}", seen, total, report, cancelled)

        def counted(done: int, step: Step = step) -> None:
            nonlocal size
            size = done
            step(done)

        found = files.digest(at, counted) if files.exists(at) else None
        seen += size
        if found != sent.sha256.lower():
            raise GivenBackOtherwise(
                f"The store {files.where} gave back something else than was put in: {name}.",
                subject=at,
                expected=f"SHA-256 {sent.sha256}",
                found="no such file" if found is None else f"SHA-256 {found} of {size} bytes",
                remedy="Do not rely on this copy. Store the snapshot again, which sends the file anew; and check the "
                "store if this is told once more.",
            )
    return seen


def step_of(what: str, before: int, total: int | None, report: Report, cancelled: Callable[[], bool]) -> Step:
    """Tells the progress of a file that begins after `before` bytes, and hears an order to stop.

    Raises:
        Interrupted: by the step, where `cancelled` became true.
    """

    def step(done: int) -> None:
        report(Progress(what, before + done, total, "bytes"))
        if cancelled():
            raise Interrupted(
                f"The {what} was ended because an order to stop came.",
                remedy="Nothing is lost: repeating it begins with the files again.",
            )

    return step
