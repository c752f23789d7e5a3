"""A snapshot goes to a store: every file is sent and read back, and only then is it let be seen."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safepoint.errors import StoreError
from safepoint.hosts.temporary import HeldFolder
from safepoint.progress import Cancelled, Progress, Report, never, silent
from safepoint.stores.age import SUFFIX, Seal
from safepoint.stores.files import CHUNK, Files, Sent, Step
from safepoint.stores.label import LABEL, LabelOfOtherVersion, LabelUnreadable, write_label
from safepoint.stores.places import ENDS, MANIFEST, are_a_snapshots, label_of, place
from safepoint.stores.reading_back import GivenBackOtherwise, read_back, step_of
from safepoint.stores.sending import PREFIX, Sending
from safepoint.stores.transfer import Transfer


@dataclass(frozen=True)
class Uploading:
    """One upload, see `SnapshotStore.upload`.

    Args:
        store: its name.
        folder: the snapshot on this machine.
    """

    files: Files
    store: str
    folder: Path
    snapshot_id: str
    report: Report = silent
    cancelled: Cancelled = never

    def run(self, seal: Seal | None, label: Mapping[str, Any]) -> Transfer:
        """Send it, encrypted where there is a seal, or look whether it lies there as it was sent.

        Args:
            label: what an encrypted snapshot says about itself in the clear.
        """
        began = time.monotonic()
        manifest = manifest_of(self.folder)
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file() and _belongs(path, self.folder))
        total = sum(path.stat().st_size for path in paths) + len(manifest)
        place(self.snapshot_id, MANIFEST)
        done = Transfer(self.snapshot_id, self.store, self.files.where, len(paths) + 1, total, 0.0)
        visible = self._is_there(manifest)
        label_there = label_of(self.files, self.snapshot_id) if visible else None
        if label_there is not None:
            facts = {str(name): Sent(**fact) for name, fact in label_there["files"].items()}
            if self._whole(facts, total):
                sha256 = {name: fact.sha256 for name, fact in facts.items()}
                return replace(done, files=len(sha256) + 1, seconds=time.monotonic() - began, sha256=sha256)
            self._withdraw()
            if seal is not None:  # what is whole there need not be sent again
                Sending(self.folder, self.store, label_there.get("recipients", []), manifest).note_all(facts)
        elif visible and seal is not None:
            if self._lies_in_the_clear(paths, total):
                return replace(done, seconds=time.monotonic() - began)
            self._withdraw()
            visible = False
        claim = None if visible and seal is None else self._claimed(manifest)
        if seal is not None:
            begun = Sending(self.folder, self.store, seal.recipients, manifest).has_begun
            if not begun and are_a_snapshots(self.files.names(self.snapshot_id)):
                self.files.remove(self.snapshot_id)  # an upload in the clear may have broken off there
                claim = self._claimed(manifest)
            done = self._sealed(seal, paths, done, label)
        else:
            self._clear(paths, total, visible=visible and label_there is None)
        if claim is not None:
            with suppress(StoreError):  # it is no part of the snapshot, and goes with it at the latest
                self.files.remove(claim)
        return replace(done, seconds=time.monotonic() - began)

    def _claimed(self, manifest: bytes) -> str:
        """Say in the store whose upload this is: two of one id at once would each write over the other's files.

        Each says so before it looks for others, so at least one of two sees the other. That of an upload which broke
        off stays, and its next try finds its own.

        Raises:
            StoreError: another snapshot of the id is on its way.
        """
        own = f"{PREFIX}{hashlib.sha256(manifest).hexdigest()[:16]}"
        claim = place(self.snapshot_id, own)
        self.files.write(claim, b"")
        try:
            self._refuse_others(own)
            self._is_there(manifest)  # another one may have become complete since it was asked
        except StoreError:
            with suppress(StoreError):
                self.files.remove(claim)
            raise
        return claim

    def _refuse_others(self, own: str) -> None:
        others = [name for name in self.files.names(self.snapshot_id) if name.startswith(PREFIX) and name != own]
        if not others:
            return
        raise StoreError(
            f"Another snapshot of the id {self.snapshot_id} is on its way to the store {self.files.where}.",
            subject=self.snapshot_id,
            expected="no other upload of that id",
            found=", ".join(others),
            remedy="Nothing was changed. Do two machines take snapshots at the same second? Take a new one.",
        )

    def _clear(self, paths: list[Path], total: int, *, visible: bool) -> None:
        """Send what is not there, or is there otherwise, and read it back; then the manifest, unless `visible`."""
        what = f"read back from {self.store}" if visible else f"upload to {self.store}"
        sent_before = set(self.files.names(self.snapshot_id))
        before, fresh, damaged = 0, dict[str, Sent](), False
        try:
            for path in paths:
                relative = path.relative_to(self.folder).as_posix()
                name = place(self.snapshot_id, relative)
                step = step_of(what, before, total, self.report, self.cancelled)
                if relative not in sent_before or not self._same(path, name, step):
                    damaged = visible
                    fresh[relative] = self.files.put(path, name, step)
                before += path.stat().st_size
            step_of(what, before, total, self.report, self.cancelled)(0)
            self._compare(fresh)
        except BaseException:
            if damaged:  # it must not count as if it were whole
                self._withdraw()
            raise
        if not visible:
            self._put_last(self.folder / MANIFEST)
        self.report(Progress(what, total, total, "bytes"))

    def _lies_in_the_clear(self, paths: list[Path], total: int) -> bool:
        """Whether each file is there as it is here, from before somebody wanted it encrypted."""
        before, names = 0, set(self.files.names(self.snapshot_id))
        for path in paths:
            relative = path.relative_to(self.folder).as_posix()
            step = step_of(f"read back from {self.store}", before, total, self.report, self.cancelled)
            if relative not in names or not self._same(path, place(self.snapshot_id, relative), step):
                return False
            before += path.stat().st_size
        return True

    def _sealed(self, seal: Seal, paths: list[Path], done: Transfer, label: Mapping[str, Any]) -> Transfer:
        """Send each file encrypted that is not known to be there, and the manifest; then what is said in the clear."""
        before, facts, fresh = 0, dict[str, Sent](), dict[str, Sent]()
        manifest = manifest_of(self.folder)
        sending = Sending(self.folder, self.store, seal.recipients, manifest)
        for path in [*paths, self.folder / MANIFEST]:
            name = path.relative_to(self.folder).as_posix() + SUFFIX
            step = step_of(f"upload to {self.store}", before, done.bytes, self.report, self.cancelled)
            at = place(self.snapshot_id, name)
            known = sending.known(name)
            if known is None or not self.files.exists(at) or self.files.digest(at, step) != known.sha256:
                known = self.files.put(path, at, step, seal)
                sending.note(name, known)
                fresh[name] = known
            facts[name] = known
            before += path.stat().st_size
        self._compare(fresh)
        said = {
            **label,
            "recipients": list(seal.recipients),
            "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
            "files": {name: asdict(fact) for name, fact in facts.items()},
        }
        with HeldFolder("safepoint-labelling-") as name:
            path = Path(name) / LABEL
            path.write_text(write_label(self.snapshot_id, said), encoding="utf-8")
            sent = self._put_last(path)
        sending.forget()
        sha256 = {name: fact.sha256 for name, fact in facts.items()} | {LABEL: sent.sha256}
        return replace(done, files=len(sha256), sha256=sha256)

    def _put_last(self, path: Path) -> Sent:
        """Write the file that makes a snapshot visible; it goes again where the store does not give it back."""
        sent = self.files.put(path, place(self.snapshot_id, path.name), lambda _done: None)
        named = {path.name: (place(self.snapshot_id, path.name), sent)}
        try:
            read_back(self.files, self.store, named, silent, never)
        except BaseException:
            self._withdraw()
            raise
        return sent

    def _withdraw(self) -> None:
        """Let a snapshot that is not whole be seen no more.

        Best effort: where the store deletes nothing, or is away, the failure that led here is the one to tell.
        """
        with suppress(StoreError):
            for name in ENDS:
                self.files.remove(place(self.snapshot_id, name))

    def _whole(self, facts: Mapping[str, Sent], total: int) -> bool:
        """Whether every file lies in the store as it was sent."""
        try:
            self._compare(facts, total=total)
        except GivenBackOtherwise:
            return False
        return True

    def _compare(self, expected: Mapping[str, Sent], *, total: int | None = None) -> None:
        named = {name: (place(self.snapshot_id, name), one) for name, one in expected.items()}
        read_back(self.files, self.store, named, self.report, self.cancelled, total=total)

    def _same(self, path: Path, name: str, step: Step) -> bool:
        """Whether the store has this very file already, from an upload that was cut short."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return self.files.digest(name, step) == digest.hexdigest()

    def _is_there(self, manifest: bytes) -> bool:
        """Whether this very snapshot is there. One whose last file is torn, as a kill left it once, is not.

        Raises:
            StoreError: there is another one of the id.
        """
        try:
            label = label_of(self.files, self.snapshot_id)
        except LabelOfOtherVersion:
            raise
        except LabelUnreadable:
            self._withdraw()
            return False
        name = place(self.snapshot_id, MANIFEST)
        if label is not None:
            if label.get("manifest_sha256") == hashlib.sha256(manifest).hexdigest():
                return True
        elif not self.files.exists(name):
            return False
        elif (found := self.files.read(name)) == manifest:
            return True
        elif _is_torn(found):
            self._withdraw()
            return False
        raise StoreError(
            f"The store {self.files.where} has another snapshot of the id {self.snapshot_id}.",
            subject=self.snapshot_id,
            expected="no snapshot of that id, or this very one",
            found="a manifest that differs",
            remedy="Nothing was changed. Give the new snapshot another id.",
        )


def manifest_of(folder: Path) -> bytes:
    """The manifest of a snapshot on this machine.

    Raises:
        StoreError: there is none.
    """
    try:
        return (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise StoreError(
            f"The folder {folder} is no complete snapshot: its {MANIFEST} cannot be read.",
            subject=str(folder),
            found=str(error),
            remedy="Take the snapshot again: one without a manifest was cut short.",
        ) from error


def _belongs(path: Path, folder: Path) -> bool:
    return path != folder / MANIFEST and not path.name.startswith(PREFIX)


def _is_torn(manifest: bytes) -> bool:
    try:
        json.loads(manifest)
    except ValueError:
        return True
    return False
