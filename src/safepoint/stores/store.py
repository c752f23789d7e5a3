"""Where snapshots are kept: folders of files, each with a `manifest.json` that makes it whole."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from safepoint.errors import StoreError
from safepoint.hosts.temporary import HeldFolder
from safepoint.progress import Cancelled, Progress, Report, never, silent
from safepoint.stores.abandoned import AFTER, Abandoned, give_up
from safepoint.stores.age import SUFFIX, Seal
from safepoint.stores.files import CHUNK, Files, Sent, Step, Through, copied
from safepoint.stores.label import LABEL, LabelOfOtherVersion, LabelUnreadable, read_label, write_label
from safepoint.stores.reading_back import GivenBackOtherwise, read_back, step_of
from safepoint.stores.sending import PREFIX, Sending

MANIFEST = "manifest.json"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")


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


class SnapshotStore:
    """One store of the plan file.

    Promises:
        * a snapshot is visible (`ids`) only when it is complete and was read back equal: its manifest is written
          last and removed first;
        * every method may be repeated after a failure or a kill; nothing half-done is ever taken for whole;
        * a complete snapshot is never overwritten by another one of the same id;
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
        began = time.monotonic()
        manifest = _manifest(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and _belongs(path, folder))
        total = sum(path.stat().st_size for path in paths) + len(manifest)
        self._at(snapshot_id, MANIFEST)
        done = Transfer(snapshot_id, self.name, self.where, len(paths) + 1, total, 0.0)
        visible = self._is_there(snapshot_id, manifest)
        label_there = self.label(snapshot_id) if visible else None
        if label_there is not None:
            facts = {str(name): Sent(**fact) for name, fact in label_there["files"].items()}
            if self._whole(snapshot_id, facts, total, report, cancelled):
                sha256 = {name: fact.sha256 for name, fact in facts.items()}
                return replace(done, files=len(sha256) + 1, seconds=time.monotonic() - began, sha256=sha256)
            self._withdraw(snapshot_id)
            if self._seal is not None:  # what is whole there need not be sent again
                Sending(folder, self.name, label_there.get("recipients", []), manifest).note_all(facts)
        if self._seal is not None and (label_there is not None or not visible):
            done = self._upload_sealed(self._seal, folder, paths, done, report, cancelled, label or {})
        else:
            self._upload_clear(folder, paths, done, report, cancelled, visible=visible and label_there is None)
        return replace(done, seconds=time.monotonic() - began)

    def _upload_clear(
        self, folder: Path, paths: list[Path], done: Transfer, report: Report, cancelled: Cancelled, *, visible: bool
    ) -> None:
        """Send what is not there, or is there otherwise, and read it back; then the manifest, unless `visible`."""
        snapshot_id, what = done.snapshot_id, f"read back from {self.name}" if visible else f"upload to {self.name}"
        sent_before = set(self._files.names(snapshot_id))
        before, fresh, damaged = 0, dict[str, Sent](), False
        try:
            for path in paths:
                relative = path.relative_to(folder).as_posix()
                name = self._at(snapshot_id, relative)
                step = step_of(what, before, done.bytes, report, cancelled)
                if relative not in sent_before or not self._same(path, name, step):
                    damaged = visible
                    fresh[relative] = self._files.put(path, name, step)
                before += path.stat().st_size
            step_of(what, before, done.bytes, report, cancelled)(0)
            self._compare(snapshot_id, fresh, report, cancelled)
        except BaseException:
            if damaged:  # it must not count as if it were whole
                self._withdraw(snapshot_id)
            raise
        if not visible:
            self._put_last(folder / MANIFEST, snapshot_id)
        report(Progress(what, done.bytes, done.bytes, "bytes"))

    def _put_last(self, path: Path, snapshot_id: str) -> Sent:
        """Write the file that makes a snapshot visible; it goes again where the store does not give it back."""
        sent = self._files.put(path, self._at(snapshot_id, path.name), lambda _done: None)
        try:
            self._compare(snapshot_id, {path.name: sent}, silent, never)
        except BaseException:
            self._withdraw(snapshot_id)
            raise
        return sent

    def _withdraw(self, snapshot_id: str) -> None:
        """Let a snapshot that is not whole be seen no more.

        Best effort: where the store deletes nothing, or is away, the failure that led here is the one to tell.
        """
        with suppress(StoreError):
            for name in (MANIFEST, LABEL):
                self._files.remove(self._at(snapshot_id, name))

    def _whole(
        self, snapshot_id: str, facts: Mapping[str, Sent], total: int, report: Report, cancelled: Cancelled
    ) -> bool:
        """Whether every file lies in the store as it was sent."""
        try:
            self._compare(snapshot_id, facts, report, cancelled, total=total)
        except GivenBackOtherwise:
            return False
        return True

    def _same(self, path: Path, name: str, step: Step) -> bool:
        """Whether the store has this very file already, from an upload that was cut short."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return self._files.digest(name, step) == digest.hexdigest()

    def _upload_sealed(
        self,
        seal: Seal,
        folder: Path,
        paths: list[Path],
        done: Transfer,
        report: Report,
        cancelled: Cancelled,
        label: Mapping[str, Any],
    ) -> Transfer:
        before, facts, fresh = 0, dict[str, Sent](), dict[str, Sent]()
        sending = Sending(folder, self.name, seal.recipients, _manifest(folder))
        for path in [*paths, folder / MANIFEST]:
            name = path.relative_to(folder).as_posix() + SUFFIX
            step = step_of(f"upload to {self.name}", before, done.bytes, report, cancelled)
            at = self._at(done.snapshot_id, name)
            known = sending.known(name)
            if known is None or not self._files.exists(at) or self._files.digest(at, step) != known.sha256:
                known = self._files.put(path, at, step, seal)
                sending.note(name, known)
                fresh[name] = known
            facts[name] = known
            before += path.stat().st_size
        self._compare(done.snapshot_id, fresh, report, cancelled)
        said = {
            **label,
            "recipients": list(seal.recipients),
            "manifest_sha256": hashlib.sha256(_manifest(folder)).hexdigest(),
            "files": {name: asdict(fact) for name, fact in facts.items()},
        }
        with HeldFolder("safepoint-labelling-") as name:
            path = Path(name) / LABEL
            path.write_text(write_label(done.snapshot_id, said), encoding="utf-8")
            sent = self._put_last(path, done.snapshot_id)
        sending.forget()
        sha256 = {name: fact.sha256 for name, fact in facts.items()} | {LABEL: sent.sha256}
        return replace(done, files=len(sha256), sha256=sha256)

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
        seen = self._compare(
            snapshot_id, {name: Sent(0, one) for name, one in sha256.items()}, report, cancelled, total=total
        )
        return Transfer(snapshot_id, self.name, self.where, len(sha256), seen, time.monotonic() - began)

    def _compare(
        self,
        snapshot_id: str,
        expected: Mapping[str, Sent],
        report: Report,
        cancelled: Cancelled,
        *,
        total: int | None = None,
    ) -> int:
        """See `read_back`."""
        named = {name: (self._at(snapshot_id, name), one) for name, one in expected.items()}
        return read_back(self._files, self.name, named, report, cancelled, total=total)

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
        names = [name for name in self._files.names(snapshot_id) if name not in ends and name.endswith(suffix)]
        seen = 0
        for name in [*names, MANIFEST + suffix]:
            path = folder / _inside(name.removesuffix(suffix))
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(path.name + ".part")
            step = step_of(f"fetch from {self.name}", seen, total, report, cancelled)
            self._files.get(self._at(snapshot_id, name), part, step, through)
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
        source = BytesIO(self._files.read(self._at(snapshot_id, name + SUFFIX)))
        sink = BytesIO()
        opening(source, sink, lambda _done: None)
        return sink.getvalue()

    def ids(self) -> list[str]:
        """The complete snapshots in the store, sorted."""
        folders = [name for name in self._files.folders() if _ID.fullmatch(name)]
        return [name for name in folders if any(self._files.exists(f"{name}/{end}") for end in (MANIFEST, LABEL))]

    def manifest(self, snapshot_id: str) -> bytes:
        """The manifest of a complete snapshot, as it was written.

        Raises:
            StoreError: it is encrypted, and there is no identity that opens it.
        """
        opening = self._opener(snapshot_id)
        if opening is not None:
            return self._decrypted(snapshot_id, MANIFEST, opening)
        return self._files.read(self._at(snapshot_id, MANIFEST))

    def label(self, snapshot_id: str) -> dict[str, Any] | None:
        """What an encrypted snapshot says in the clear; None for one that is not encrypted.

        Raises:
            LabelUnreadable: it is damaged, or of another version.
        """
        name = self._at(snapshot_id, LABEL)
        if not self._files.exists(name):
            return None
        return read_label(self._files.read(name), snapshot_id, self.where)

    def locked_until(self, snapshot_id: str) -> datetime | None:
        """Until when the store lets nobody remove the snapshot; None where it does."""
        for name in (MANIFEST, LABEL):
            if self._files.exists(self._at(snapshot_id, name)):
                return self._files.locked_until(self._at(snapshot_id, name))
        return None

    def remove(self, snapshot_id: str) -> None:
        """Remove a snapshot, complete or not; nothing happens where there is none."""
        for name in (MANIFEST, LABEL, ""):
            self._files.remove(self._at(snapshot_id, name).rstrip("/"))

    def tidy(self) -> tuple[Abandoned, ...]:
        """Give up what nobody has gone on with for two days: uploads, and what a removal left that was killed.

        Until then nothing is seen of them either. What went is told, and what stays as the store locks it.
        """
        self._files.tidy(datetime.now(UTC) - AFTER)
        return give_up(self._files, self.ids())

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
        there = next(path for path in (self._local, *self._local.parents) if path.exists())
        return shutil.disk_usage(there).free

    def _is_there(self, snapshot_id: str, manifest: bytes) -> bool:
        """Whether this very snapshot is there. One whose last file is torn, as a kill left it once, is not.

        Raises:
            StoreError: there is another one of the id.
        """
        try:
            label = self.label(snapshot_id)
        except LabelOfOtherVersion:
            raise
        except LabelUnreadable:
            self._withdraw(snapshot_id)
            return False
        name = self._at(snapshot_id, MANIFEST)
        if label is not None:
            if label.get("manifest_sha256") == hashlib.sha256(manifest).hexdigest():
                return True
        elif not self._files.exists(name):
            return False
        elif (found := self._files.read(name)) == manifest:
            return True
        elif _is_torn(found):
            self._withdraw(snapshot_id)
            return False
        raise StoreError(
            f"The store {self.where} has another snapshot of the id {snapshot_id}.",
            subject=snapshot_id,
            expected="no snapshot of that id, or this very one",
            found="a manifest that differs",
            remedy="Nothing was changed. Give the new snapshot another id.",
        )

    def _must_be_complete(self, snapshot_id: str) -> None:
        if not any(self._files.exists(self._at(snapshot_id, name)) for name in (MANIFEST, LABEL)):
            raise StoreError(
                f"The store {self.where} has no complete snapshot {snapshot_id}.",
                subject=snapshot_id,
                expected=f"a folder {snapshot_id} with a {MANIFEST}",
                found=", ".join(self.ids()[-5:]) or "no snapshot at all",
                remedy="See `safepoint backups`; an upload that was cut short is completed by repeating it.",
            )

    def _at(self, snapshot_id: str, name: str) -> str:
        if not _ID.fullmatch(snapshot_id):
            raise StoreError(
                f"{snapshot_id!r} is no id of a snapshot.",
                subject=snapshot_id,
                expected="letters, digits, '.', '_' and '-', beginning with a letter or digit",
                remedy="See `safepoint backups`.",
            )
        return f"{snapshot_id}/{_inside(name)}"


def _belongs(path: Path, folder: Path) -> bool:
    return path != folder / MANIFEST and not path.name.startswith(PREFIX)


def _is_torn(manifest: bytes) -> bool:
    try:
        json.loads(manifest)
    except ValueError:
        return True
    return False


def _manifest(folder: Path) -> bytes:
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise StoreError(
            f"The folder {folder} is no complete snapshot: its {MANIFEST} cannot be read.",
            subject=str(folder),
            found=str(error),
            remedy="Take the snapshot again: one without a manifest was cut short.",
        ) from error


def _inside(name: str) -> str:
    """Refuse names that lead out of their folder: a store is not trusted to name paths on this machine."""
    if name.startswith("/") or ".." in name.split("/"):
        raise StoreError(
            f"The name {name!r} leads out of its snapshot.",
            subject=name,
            remedy="Somebody tampered with the store or the manifest: do not use this snapshot.",
        )
    return name
