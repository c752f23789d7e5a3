"""What an encrypted upload has sent so far, kept beside the snapshot: after a kill the next one need not begin anew.

An encrypted file cannot be made again to be compared; only by what was noted when it was sent is it known to be whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from safepoint.stores.files import Sent

PREFIX: Final = ".sending-"
"""How the names of these notes begin; they are no part of the snapshot."""


class Sending:
    """The notes of one upload: by the file's name in the store, what was sent. A line for each, which is appended: a
    snapshot may have a file for each of a hundred thousand large objects.

    They count for the same snapshot and the same recipients only. Notes that cannot be read or written cost nothing
    but time.
    """

    def __init__(self, folder: Path, store: str, recipients: Sequence[str], manifest: bytes) -> None:
        self._path = folder / f"{PREFIX}{hashlib.sha256(store.encode()).hexdigest()[:16]}.json"
        self._of = {"recipients": sorted(recipients), "manifest": hashlib.sha256(manifest).hexdigest()}
        self._sent: dict[str, Sent] = {}
        self._is_begun = False
        with suppress(OSError, ValueError, TypeError, KeyError):
            first, *lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True)
            self._is_begun = json.loads(first)["of"] == self._of and self._read(lines)

    def _read(self, lines: Sequence[str]) -> bool:
        """Take up what was noted; whether more can be appended to it, as no kill tore its last line."""
        for line in lines:
            with suppress(ValueError):
                one = json.loads(line)
                self._sent[one["name"]] = Sent(one["bytes"], one["sha256"])
        return all(line.endswith("\n") for line in lines)

    @property
    def has_begun(self) -> bool:
        """Whether an earlier upload sent anything."""
        return bool(self._sent)

    def known(self, name: str) -> Sent | None:
        """What an earlier upload sent under that name."""
        return self._sent.get(name)

    def note(self, name: str, sent: Sent) -> None:
        """Remember that it was sent, whole."""
        self.note_all({name: sent})

    def note_all(self, sent: Mapping[str, Sent]) -> None:
        """Remember that they were sent, whole."""
        self._sent |= sent
        with suppress(OSError):
            if not self._is_begun:
                fresh = self._path.with_suffix(".new")
                fresh.write_text(json.dumps({"of": self._of}) + "\n" + _lines(self._sent), encoding="utf-8")
                fresh.replace(self._path)
                self._is_begun = True
                return
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_lines(sent))

    def forget(self) -> None:
        """The upload is complete."""
        for path in (self._path, self._path.with_suffix(".new")):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _lines(sent: Mapping[str, Sent]) -> str:
    return "".join(json.dumps({"name": name, **asdict(one)}) + "\n" for name, one in sent.items())
