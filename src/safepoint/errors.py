"""Every error that a person may see: one base, few families, stable exit codes.

A message answers three questions, because its reader has been woken up by it: what happened (`message`,
with `subject`, `expected` and `found` where they apply), what is safe, and the one thing to do next (`remedy`).
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell gets back. Scripts depend on these: they never change meaning."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_GO = 3
    NEEDS_PERSON = 4
    ROLLED_BACK = 5
    INTERRUPTED = 130


class SafepointError(Exception):
    """The base of all errors that Safepoint raises on purpose.

    `subject` is the object that it is about (a table, a file, a host), `remedy` the next action as one sentence.
    No field ever holds a secret.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(
        self,
        message: str,
        *,
        subject: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.expected = expected
        self.found = found
        self.remedy = remedy

    def as_json(self) -> dict[str, str]:
        """The error as it stands in `--json` output, in the ledger and in the report."""
        fields = {
            "error": type(self).__name__,
            "message": self.message,
            "subject": self.subject,
            "expected": self.expected,
            "found": self.found,
            "remedy": self.remedy,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        parts = [self.message]
        if self.expected is not None:
            parts.append(f"expected: {self.expected}")
        if self.found is not None:
            parts.append(f"found: {self.found}")
        if self.remedy is not None:
            parts.append(f"next: {self.remedy}")
        return "\n".join(parts)


class PlanFileError(SafepointError):
    """The plan file (`launch.toml`) cannot be used as it is written."""

    exit_code = ExitCode.USAGE


class UsageError(SafepointError):
    """A command was typed as there is none: an option or an argument that it does not take, or lacks."""

    exit_code = ExitCode.USAGE


class Refused(SafepointError):
    """A command was understood but must not be carried out now; the remedy says what to do instead."""

    exit_code = ExitCode.NO_GO


class NeedsPerson(SafepointError):
    """Only a person can decide this; nothing has been changed while the question is open."""

    exit_code = ExitCode.NEEDS_PERSON


class CommandFailed(SafepointError):
    """A command on a host ended with an error, could not be started, or ran out of time.

    `said` is all that a command said which ended with an error, as far as it was kept; it holds no secret of its.
    """

    said: str | None = None


class Interrupted(SafepointError):
    """A running command was ended because an order (abort, rollback) or a signal came."""

    exit_code = ExitCode.INTERRUPTED


class DatabaseError(SafepointError):
    """PostgreSQL refused, was not reachable, or is not as it must be."""


class LockNotAvailable(DatabaseError):
    """A lock was not had within `lock_timeout`; trying again later may succeed."""


class ServerAway(DatabaseError):
    """PostgreSQL does not answer, or went away in the middle; once it is back, trying again may succeed."""


class StillAway(ServerAway):
    """It was waited for, and has not come back in time."""


class ResourcesExhausted(DatabaseError):
    """The server has no room, memory or connection left (SQLSTATE class 53), and somebody can give it some."""


class StatementEnded(DatabaseError):
    """Somebody cancelled a statement of ours, or PostgreSQL ended it for another's sake (a deadlock): nothing is wrong
    with it, and trying again may succeed.
    """


class ProofFailed(SafepointError):
    """A restored snapshot differs from its source, or could not be restored at all."""


class Unrestorable(ProofFailed):
    """A snapshot could not be restored where that was tried: its files are as they were written, so it says nothing new
    about one that was proven before (the disk may be full there, or an extension missing).
    """


class StoreError(SafepointError):
    """A store could not be written, read or listed, or gave back something else than was put in."""


class StorageError(SafepointError):
    """The operating system refused to write on Safepoint's own disk."""


class RouterError(SafepointError):
    """The router did not take the order, or does not behave as ordered."""


class RouterAway(RouterError):
    """The router does not answer at all (it is being restarted, say); once it is back, trying again may succeed."""


class CaptureLost(DatabaseError):
    """Changes since the safe point can no longer be read completely; the way back is not whole any more."""


class CaptureElsewhere(CaptureLost):
    """The server has let go of changes that are in another spool than this one: whoever has that can go on."""
