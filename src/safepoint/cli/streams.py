"""Standard input, output and error, which may be closed, full, or of another encoding than ours."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safepoint.errors import SafepointError


class Answer(io.TextIOWrapper):
    """Standard output. Where it takes no more (its disk is full), it says so: an error of the system names no file, and
    would be taken for one of Safepoint's own disk.
    """

    begun = False
    """Whether anything was answered yet."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        how = {"encoding": stream.encoding, "errors": stream.errors, "line_buffering": stream.line_buffering}
        through = stream.write_through
        super().__init__(stream.detach(), write_through=through, **how)  # type: ignore[arg-type]  # each is of its own type

    def write(self, text: str, /) -> int:
        """As always; see `flush` for what it raises."""
        self.begun = True
        with _told():
            return super().write(text)

    def flush(self) -> None:
        """As always.

        Raises:
            Unanswered: it takes no more.
            BrokenPipeError: nobody reads it any more.
        """
        with _told():
            super().flush()


class Unanswered(SafepointError, OSError):
    """Standard output takes no answer any more; what goes on all the same waits for an error of the system."""


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What is left would fail again when this process ends.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  (until this process ends)
        if error.errno == errno.EPIPE:
            raise
        raise Unanswered(
            f"What this command answers cannot be written to standard output: {error.strerror or error}.",
            subject="standard output",
            remedy="Lead it where there is room. What the command did is done; `safepoint status` says how things are.",
        ) from error


def open_streams() -> None:
    """Where standard input, output or error is closed (`>&-`, a bare service), the next file that is opened would take
    its number: what any library writes to standard error must never be written into a ledger.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # the lowest free number, which is this one
    # Python has none for those that were closed when it began.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  (until this process ends)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  (as well)
    # A terminal of another encoding than UTF-8 shows a question mark where it lacks a sign.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if type(sys.stdout) is io.TextIOWrapper:  # Python's own, and none that somebody looks into
        sys.stdout = Answer(sys.stdout)
