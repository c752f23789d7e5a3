"""What was posted: the journal file of a run of writers, and its counts.

The file has JSON lines, each written out before the next entry is begun:

    {"state": "acknowledged", "token": ..., "user": ..., "when": ..., "release": "1.0", "cents": 1234}
    {"state": "unknown", "token": ..., "user": ..., "when": ..., "why": "reset"}     an answer never came: maybe posted
    {"state": "failed", "user": ..., "when": ..., "why": "503", "release": null}     a request that was not served
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from site_client import Unserved


@dataclass(frozen=True)
class Tally:
    """What the writers have done so far.

    `tokens` are the references of the acknowledged entries, `unsettled` those that were sent and not acknowledged.
    `longest_gap_seconds` is the longest time between two acknowledgements, to whichever writer.
    """

    acknowledged: int
    by_release: dict[str, int]
    failed_requests: int
    failures: dict[str, int]
    first_failure: str | None
    last_failure: str | None
    longest_gap_seconds: float
    tokens: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All but the tokens, which are in the journal file."""
        return {name: value for name, value in asdict(self).items() if name != "tokens"}


class Record:
    """The journal file and the counts, shared by all writers."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._releases: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._failed_at: list[str] = []
        self._tokens: list[str] = []
        self._last_answer = time.monotonic()
        self._gap = 0.0
        self._open: set[str] = set()

    def sent(self, token: str) -> None:
        with self._lock:
            self._open.add(token)

    def acknowledged(self, token: str, user: str, release: str | None, cents: int) -> None:
        with self._lock:
            now = time.monotonic()
            self._gap, self._last_answer = max(self._gap, now - self._last_answer), now
            self._releases[release or "?"] += 1
            self._open.discard(token)
            self._tokens.append(token)
            self._write(state="acknowledged", token=token, user=user, release=release, cents=cents)

    def failed(self, user: str, error: Unserved, token: str | None) -> None:
        with self._lock:
            self._failures[error.why] += 1
            when = self._write(state="failed", user=user, why=error.why, release=error.release)
            self._failed_at = [*self._failed_at[:1], when]
            if error.maybe and token is not None:
                self._write(state="unknown", token=token, user=user, why=error.why)

    def tally(self) -> Tally:
        with self._lock:
            return Tally(
                acknowledged=self._releases.total(),
                by_release=dict(self._releases),
                failed_requests=self._failures.total(),
                failures=dict(self._failures),
                first_failure=self._failed_at[0] if self._failed_at else None,
                last_failure=self._failed_at[-1] if self._failed_at else None,
                longest_gap_seconds=round(self._gap, 3),
                tokens=list(self._tokens),
                unsettled=sorted(self._open),
            )

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _write(self, **fields: Any) -> str:
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._file.write(json.dumps({**fields, "when": when}) + "\n")
        self._file.flush()
        return when


def acknowledged(journal: Path) -> dict[str, dict[str, Any]]:
    """The acknowledged entries of a journal file by their token (the entry's `reference`)."""
    return _records(journal, "acknowledged")


def unknown(journal: Path) -> dict[str, dict[str, Any]]:
    """The entries that may or may not have been posted: an answer never came, and no later try was acknowledged."""
    settled = acknowledged(journal)
    return {token: line for token, line in _records(journal, "unknown").items() if token not in settled}


def _records(journal: Path, state: str) -> dict[str, dict[str, Any]]:
    with journal.open(encoding="utf-8") as lines:
        # A line without its end was cut off when the writers were killed.
        found = (json.loads(line) for line in lines if line.endswith("\n"))
        return {line["token"]: line for line in found if line["state"] == state}
