"""Where snapshots are kept: folders of files, each with a `manifest.json` that makes it whole."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from safepoint.errors import StoreError
from safepoint.progress import Cancelled, Report, never, silent
from safepoint.stores.abandoned import Abandoned, give_up, long_ago
from safepoint.stores.age import SUFFIX, Seal
from safepoint.stores.files import Files, Sent, Through, copied
from safepoint.stores.label import LABEL
from safepoint.stores.places import ENDS, MANIFEST, inside, is_complete, is_id, label_of, place
from safepoint.stores.reading_back import read_back, step_of
from safepoint.stores.sending import PREFIX
from safepoint.stores.transfer import Transfer
from safepoint.stores.uploading import Uploading


class SnapshotStore:
    """One store of the plan file.

    Promises:
        * a snapshot is visible (`ids`) only when it is complete and was read back equal: its manifest is written
          last and removed first;
        * every method may be repeated after a failure or a kill; nothing half-done is ever taken for whole;
        * a snapshot is never overwritten by another one of the same id, be it complete or on its way;
        * memory does not grow with a snapshot; broken links are tried again, and big files go on where they were; in
          the clear also by the next upload after a kill, which sends no file again that is there whole;
        * what is uploaded with a seal leaves this machine encrypted only, each file and the manifest;
        * what goes wrong is a `StoreError` that names the file and the remedy, and no credentials;
        * an order to stop (`cancelled`) is an `Interrupted`.

    Args:
        local: the folder behind the store, where it is on this machine.
        seal: encrypts what is uploaded.
        opening: decrypts what is fetched.
    """

    def __init__(
        self,
        name: str,
        files: Files,
        local: Path | None = None,
        *,
        seal: Seal | None = None,
        opening: Through | None = None,
    ) -> None:
        self.name = name
        self.where = files.where
        self._files = files
        self._local = local
        self._seal = seal
        self._opening = opening

    def upload(
        self,
        folder: Path,
        snapshot_id: str,
        report: Report = silent,
        cancelled: Cancelled = never,
        *,
        label: Mapping[str, Any] | None = None,
    ) -> Transfer:
        """Copy a snapshot's folder to the store, read every file back, and only then let it be seen.

        Done already (the same manifest is there): the files are read back, and only one that differs is sent. Files
        that an upload which was cut short brought are compared, and not sent again; encrypted ones by what was noted of
        them beside the snapshot.

        Args:
            label: what an encrypted snapshot says about itself in the clear.

        Raises:
            StoreError: the folder holds no manifest, the store refuses, gives back something else than was put in, or
                has another snapshot of that id. The store shows nothing of the snapshot; the next upload sends what
                differed again.
            Interrupted: `cancelled` became true; the store shows nothing of the snapshot, unless it did before.
        """
        return Uploading(self._files, self.name, folder, snapshot_id, report, cancelled).run(self._seal, label or {})

    def read_back(
        self,
        snapshot_id: str,
        sha256: Mapping[str, str],
        report: Report = silent,
        cancelled: Cancelled = never,
        *,
        total: int | None = None,
    ) -> Transfer:
        """Read every file of a snapshot back from the store and compare it with its SHA-256 (hexadecimal).

        Args:
            sha256: by name, relative to the snapshot's folder; empty is an error, as nothing would be looked at.
            total: the size of all files in bytes, for the progress.

        Raises:
            GivenBackOtherwise: a file is missing or differs (it is named).
            StoreError: the snapshot has no manifest, or the store refuses.
        """
        began = time.monotonic()
        if not sha256:
            raise StoreError(
                "There is nothing to compare: the snapshot's manifest names no files.",
                subject=snapshot_id,
                remedy="Take a new snapshot; this one proves nothing.",
            )
        self._must_be_complete(snapshot_id)
        named = {name: (place(snapshot_id, name), Sent(0, one)) for name, one in sha256.items()}
        seen = read_back(self._files, self.name, named, report, cancelled, total=total)
        return Transfer(snapshot_id, self.name, self.where, len(sha256), seen, time.monotonic() - began)

    def fetch(
        self,
        snapshot_id: str,
        folder: Path,
        report: Report = silent,
        cancelled: Cancelled = never,
        *,
        total: int | None = None,
    ) -> Transfer:
        """Copy a snapshot from the store into a folder that is not there yet or is empty; the manifest comes last.

        Args:
            total: the size of all files in bytes, for the progress.

        Raises:
            StoreError: there is no complete snapshot of that id, or the folder holds something.
        """
        began = time.monotonic()
        if folder.exists() and any(folder.iterdir()):
            raise StoreError(
                f"The folder {folder} holds something already, which would be overwritten.",
                subject=str(folder),
                remedy="Name a folder that does not exist yet.",
            )
        self._must_be_complete(snapshot_id)
        opening = self._opener(snapshot_id)
        suffix, through = ("", copied) if opening is None else (SUFFIX, opening)
        ends = (MANIFEST + suffix, LABEL)
        names = [
            name
            for name in self._files.names(snapshot_id)
            if name not in ends and name.endswith(suffix) and not name.startswith(PREFIX)
        ]
        seen = 0
        for name in [*names, MANIFEST + suffix]:
            path = folder / inside(name.removesuffix(suffix))
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            step = step_of(f"fetch from {self.name}", seen, total, report, cancelled)
            self._files.get(place(snapshot_id, name), part, step, through)
            seen += part.stat().st_size
            part.replace(path)
        return Transfer(snapshot_id, self.name, self.where, len(names) + 1, seen, time.monotonic() - began)

    def _opener(self, snapshot_id: str) -> Through | None:
        """How its files are decrypted; None where they are in the clear. A wrong key is told by the small manifest.

        Raises:
            StoreError: there is no identity, or another one is needed.
        """
        label = self.label(snapshot_id)
        if label is None:
            return None
        if self._opening is None:
            raise StoreError(
                f"The snapshot {snapshot_id} in {self.where} is encrypted.",
                subject=snapshot_id,
                expected=f"the identity of one of {', '.join(label.get('recipients', []))}",
                found="no identity",
                remedy="Name the file that has it: --identity FILE.",
            )
        self._decrypted(snapshot_id, MANIFEST, self._opening)
        return self._opening

    def _decrypted(self, snapshot_id: str, name: str, opening: Through) -> bytes:
        source = BytesIO(self._files.read(place(snapshot_id, name + SUFFIX)))
        sink = BytesIO()
        opening(source, sink, lambda _done: None)
        return sink.getvalue()

    def ids(self) -> list[str]:
        """The complete snapshots in the store, sorted."""
        return [name for name in self._files.folders() if is_id(name) and is_complete(self._files, name)]

    def manifest(self, snapshot_id: str) -> bytes:
        """The manifest of a complete snapshot, as it was written.

        Raises:
            StoreError: it is encrypted, and there is no identity that opens it.
        """
        opening = self._opener(snapshot_id)
        if opening is not None:
            return self._decrypted(snapshot_id, MANIFEST, opening)
        return self._files.read(place(snapshot_id, MANIFEST))

    def label(self, snapshot_id: str) -> dict[str, Any] | None:
        """What an encrypted snapshot says in the clear; None for one that is not encrypted.

        Raises:
            LabelUnreadable: it is damaged, or of another version.
        """
        return label_of(self._files, snapshot_id)

    def sizes(self, snapshot_id: str) -> dict[str, int | None]:
        """The files that it has of a snapshot, with their bytes; None where it does not tell. Nothing is read."""
        return self._files.sizes(snapshot_id)

    def locked_until(self, snapshot_id: str) -> datetime | None:
        """Until when the store lets nobody remove the snapshot; None where it does."""
        for name in ENDS:
            if self._files.exists(place(snapshot_id, name)):
                return self._files.locked_until(place(snapshot_id, name))
        return None

    def keeps_versions(self) -> bool:
        """Whether what is removed is only hidden there; false also where the store does not tell."""
        return self._files.keeps_versions()

    def remove(self, snapshot_id: str) -> None:
        """Remove a snapshot, complete or not; nothing happens where there is none."""
        for name in (*ENDS, ""):
            self._files.remove(place(snapshot_id, name).rstrip("/"))

    def tidy(self) -> tuple[Abandoned, ...]:
        """Give up what nobody has gone on with for two days: uploads, and what a removal left that was killed.

        Until then nothing is seen of them either. What went is told, and what stays as the store locks it.
        """
        complete = self.ids()
        before = long_ago(self._files, complete)
        if before is None:
            return ()
        self._files.tidy(before)
        return give_up(self._files, complete, before)

    def check_writable(self) -> None:
        """Prove that files can be written, read and deleted: by one of a few bytes.

        Raises:
            StoreError: one of them is refused.
        """
        name, data = f".safepoint-probe-{secrets.token_hex(6)}", secrets.token_bytes(64)
        try:
            self._files.write(name, data)
            if (found := self._files.read(name)) != data:
                raise StoreError(
                    f"The store {self.where} gave back something else than was put in.",
                    subject=f"{self.where}/{name}",
                    expected=f"{len(data)} bytes",
                    found=f"{len(found)} bytes, or others",
                    remedy="Choose another store: this one does not keep what it is given.",
                )
        except BaseException:
            with suppress(StoreError):
                self._files.remove(name)
            raise
        self._files.remove(name)
        if self._files.exists(name):
            raise StoreError(
                f"The store {self.where} does not delete: a probe is still there.",
                subject=f"{self.where}/{name}",
                remedy="Allow these credentials to delete, or old snapshots can never be pruned.",
            )

    def free_bytes(self) -> int | None:
        """How much room there is, in bytes; None where the store cannot tell."""
        if self._local is None:
            return None
        return shutil.disk_usage(_standing(self._local)).free

    def on_disk_of(self, folder: Path) -> bool:
        """Whether it is on the same disk (file system) as a folder of this machine: what takes that takes both."""
        return self._local is not None and _standing(self._local).stat().st_dev == _standing(folder).stat().st_dev

    def _must_be_complete(self, snapshot_id: str) -> None:
        if not is_complete(self._files, snapshot_id):
            raise StoreError(
                f"The store {self.where} has no complete snapshot {snapshot_id}.",
                subject=snapshot_id,
                expected=f"a folder {snapshot_id} with a {MANIFEST}",
                found=", ".join(self.ids()[-5:]) or "no snapshot at all",
                remedy="See `safepoint backups`; an upload that was cut short is completed by repeating it.",
            )


def _standing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(one for one in (path, *path.parents) if one.exists())
