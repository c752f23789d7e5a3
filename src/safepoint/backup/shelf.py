"""The snapshots that there are: here and in the stores; storing them, listing them, fetching and pruning them."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from safepoint.backup.manifest import (
    NAME,
    Manifest,
    OtherVersion,
    Unreadable,
    parse_manifest,
    read_manifest,
    size_of,
    sizes_of,
    verify_files,
)
from safepoint.backup.partial import SUFFIX, filling
from safepoint.backup.proof import read_proof
from safepoint.backup.retention import Kept, Retention, Rules, decide
from safepoint.errors import ProofFailed, Refused, SafepointError, StoreError
from safepoint.progress import Cancelled, Report, never, silent
from safepoint.stores import LabelOfOtherVersion, LabelUnreadable, SnapshotStore

HERE = "here"
_STAMP = re.compile(r"(\d{8}T\d{6})Z$")


@dataclass(frozen=True)
class Stored:
    """A snapshot that was copied to a store and read back equal. `seconds` is upload and reading back."""

    snapshot_id: str
    store: str
    where: str
    files: int
    bytes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


@dataclass(frozen=True)
class Listed:
    """One snapshot, wherever it is. `fault` says why it is not whole; such a one counts for nothing.

    One that another version of Safepoint wrote, or that could not be read (`unread`), has one, too, but may be good.
    `source` is its database's mark (see `manifest.mark_of`); None where that cannot be read. `dated`: see `Manifest`.
    """

    id: str
    taken: datetime
    bytes: int
    proven: bool
    where: tuple[str, ...]
    launch_id: str | None
    fault: str | None = None
    other_version: bool = False
    unread: bool = False
    source: str | None = None
    dated: bool = True

    def as_json(self) -> dict[str, Any]:
        """For `backups --json`."""
        return {**asdict(self), "taken": self.taken.isoformat(), "where": list(self.where)}


def store_snapshot(
    folder: Path, store: SnapshotStore, *, report: Report = silent, cancelled: Cancelled = never
) -> Stored:
    """Copy a snapshot to a store, which reads every file back before it shows it. Doing it again is harmless.

    Raises:
        Refused: the snapshot is not proven.
        ProofFailed: a file is no longer as it was written.
        StoreError: the store refuses, or gives back something else.
        Interrupted: `cancelled` became true.
    """
    manifest = verify_files(folder, report=report, cancelled=cancelled)
    proof = read_proof(folder)
    if proof is None:
        raise Refused(
            f"The snapshot {manifest.id} is not proven, so it is not stored as a good one.",
            subject=str(folder),
            remedy=f"Prove it first: `safepoint verify {manifest.id}`.",
        )
    label = {
        "taken_at": manifest.taken_at.isoformat(),
        "launch_id": manifest.launch_id,
        "bytes": manifest.total_bytes,
        "proven_at": proof.proven_at,
        "source": manifest.source.mark,
        **({} if manifest.dated else {"dated": False}),
    }
    sent = store.upload(folder, manifest.id, report, cancelled, label=label)
    with suppress(StoreError):  # the snapshot is there; what others left is no reason to doubt it
        store.tidy()
    return Stored(manifest.id, store.name, store.where, sent.files, sent.bytes, round(sent.seconds, 3))


@dataclass(frozen=True)
class Outcome:
    """What became of one snapshot in one store: `stored`, or the error that says why not."""

    store: str
    stored: Stored | None
    error: SafepointError | None

    def as_json(self) -> dict[str, Any]:
        """For the ledger and `backup --json`."""
        verdict = {"stored": self.stored.as_json()} if self.stored is not None else {}
        fault = {"error": self.error.as_json()} if self.error is not None else {}
        return {"store": self.store, "holds": self.stored is not None, **verdict, **fault}


def store_everywhere(
    folder: Path, stores: Iterable[SnapshotStore], *, report: Report = silent, cancelled: Cancelled = never
) -> tuple[Outcome, ...]:
    """Copy a snapshot to every store; each has a verdict of its own, and one that fails keeps no other from trying.

    Raises:
        Refused, ProofFailed, Interrupted: as `store_snapshot`, where it is not the store's fault.
    """
    outcomes = []
    for store in stores:
        try:
            outcomes.append(
                Outcome(store.name, store_snapshot(folder, store, report=report, cancelled=cancelled), None)
            )
        except StoreError as error:
            outcomes.append(Outcome(store.name, None, error))
    return tuple(outcomes)


def fetch_snapshot(
    snapshot_id: str, store: SnapshotStore, folder: Path, *, report: Report = silent, cancelled: Cancelled = never
) -> Manifest:
    """Bring a snapshot back from a store into `folder/snapshot_id`, and check all its files.

    Raises:
        Refused: it is here already.
        StoreError, ProofFailed, Interrupted: it could not be fetched whole; nothing of it is left here.
    """
    final = folder / snapshot_id
    if final.exists():
        raise Refused(f"The snapshot {snapshot_id} is here already.", subject=str(final))
    folder.mkdir(parents=True, exist_ok=True)
    with filling(folder / f"{snapshot_id}{SUFFIX}") as partial:
        store.fetch(snapshot_id, partial, report, cancelled, total=_bytes_of(store, snapshot_id))
        manifest = verify_files(partial, report=report, cancelled=cancelled)
        if manifest.id != snapshot_id:
            raise _another(manifest, snapshot_id, store.where)
        partial.rename(final)
    return manifest


def _bytes_of(store: SnapshotStore, snapshot_id: str) -> int | None:
    """How much will come, for the progress; None where its manifest cannot be read, which fetching then says."""
    try:
        text = store.manifest(snapshot_id)
        return parse_manifest(text, Path(store.where)).total_bytes + len(text)
    except SafepointError:
        return None


def _told(_store: str, error: StoreError) -> None:
    raise error


def list_snapshots(
    folder: Path,
    stores: Mapping[str, SnapshotStore] | None = None,
    *,
    unreachable: Callable[[str, StoreError], None] = _told,
) -> tuple[Listed, ...]:
    """All snapshots here and in the stores, the newest first. Damaged ones are listed with their fault.

    Args:
        unreachable: is told of a store that cannot be listed; the others are.

    Raises:
        StoreError: a store cannot be listed, and `unreachable` is not given.
    """
    found = {one.id: one for one in list_here(folder)}
    for name, store in (stores or {}).items():
        try:
            ids = store.ids()
            for snapshot_id in ids:
                known = found.get(snapshot_id)
                if known is None or known.fault is not None:
                    there = _listed_there(store, snapshot_id)
                    where = () if known is None else known.where
                    found[snapshot_id] = replace(there, where=(*where, name))
                else:
                    found[snapshot_id] = replace(known, where=(*known.where, name))
        except StoreError as error:
            unreachable(name, error)
    return newest_first(found.values())


def list_here(folder: Path) -> tuple[Listed, ...]:
    """The snapshots in the folder, the newest first."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else ()
    return newest_first(_listed_here(path) for path in paths if path.is_dir() and not path.name.endswith(SUFFIX))


def left_unproven(folder: Path) -> tuple[Listed, ...]:
    """Those of no launch in the folder whose proof nobody made, nor makes now: it was interrupted, or failed."""
    left = []
    for one in list_here(folder):
        if one.proven or one.fault is not None or one.launch_id is not None:
            continue
        with suppress(Refused), _locked(folder / one.id, fcntl.LOCK_EX, "it is being proven"):
            left.append(one)
    return tuple(left)


def list_there(store: SnapshotStore) -> tuple[Listed, ...]:
    """The snapshots in one store, each by its own manifest there, the newest first.

    Raises:
        StoreError: it cannot be listed.
    """
    return newest_first(replace(_listed_there(store, snapshot_id), where=(store.name,)) for snapshot_id in store.ids())


def newest_first(listed: Iterable[Listed]) -> tuple[Listed, ...]:
    """The same in the order in which they are shown. Pure."""
    return tuple(sorted(listed, key=lambda one: (one.taken, one.id), reverse=True))


def retention(
    listed: Iterable[Listed],
    now: datetime,
    keep: timedelta,
    needed: Iterable[str] = (),
    rules: Rules | None = None,
) -> Retention:
    """What `decide` says about listed snapshots; `needed` are launches that may still want theirs. Pure.

    Those of another version stay: what they are worth only that one can tell. So do those that could not be read now.
    """
    launches, found = frozenset(needed), list(listed)
    others = {one.id: "another version of Safepoint wrote it, and may need it" for one in found if one.other_version}
    others |= {one.id: "it cannot be read now, so nobody knows what it is worth" for one in found if one.unread}
    decided = decide(
        [
            Kept(one.id, one.taken, one.proven and one.fault is None, one.launch_id in launches, one.dated)
            for one in found
            if one.id not in others
        ],
        now,
        keep,
        rules or Rules(),
    )
    return replace(decided, keep={**decided.keep, **others})


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep a snapshot's folder from being removed while it is read; several may at once.

    Raises:
        Refused: it is being removed, or gone.
    """
    with _locked(folder, fcntl.LOCK_SH, "it is being removed right now"):
        yield


@contextmanager
def _locked(folder: Path, kind: int, why: str) -> Iterator[None]:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        raise Refused(f"The snapshot {folder.name} is gone.", subject=str(folder)) from None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Refused(
            f"The snapshot {folder.name} is in use: {why}.", subject=str(folder), remedy="Try again when that is done."
        ) from None
    finally:
        os.close(descriptor)


def remove_here(folder: Path, snapshot_id: str) -> None:
    """Remove a snapshot's folder. It is renamed first, so that half of one is never taken for a whole.

    Raises:
        Refused: the folder is no snapshot of Safepoint, or somebody reads it now.
    """
    path = folder / snapshot_id
    if not path.exists():
        return
    if not (path / NAME).exists():
        raise Refused(f"{path} is no snapshot: it has no {NAME}. It is left as it is.", subject=str(path))
    gone = folder / f"{snapshot_id}{SUFFIX}"
    with _locked(path, fcntl.LOCK_EX, "a proof, a restore or an upload reads it"):
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone)


def _listed_here(path: Path) -> Listed:
    try:
        manifest = read_manifest(path)
        proven = read_proof(path) is not None
        sizes = {name: size_of(path / name) for name in manifest.files}
    except ProofFailed as error:
        return _damaged(path.name, HERE, error)
    return _as_whole(_listed(manifest, HERE, proven=proven), sizes_of(manifest), sizes)


def _listed_there(store: SnapshotStore, snapshot_id: str) -> Listed:
    """Only proven snapshots are uploaded (see `store_snapshot`), so one in a store is proven.

    An encrypted one is listed by what it says in the clear, as nobody here may be able to open it.
    """
    try:
        if (label := store.label(snapshot_id)) is not None:
            taken = datetime.fromisoformat(label["taken_at"])
            source = label.get("source")
            found = Listed(snapshot_id, taken, int(label["bytes"]), True, (), label.get("launch_id"), source=source)
            found = replace(found, dated=bool(label.get("dated", True)))
            sent = {name: int(fact["bytes"]) for name, fact in label["files"].items()}
            return _as_whole(found, sent, store.sizes(snapshot_id))
        manifest = parse_manifest(store.manifest(snapshot_id), Path(snapshot_id) / NAME)
        if manifest.id != snapshot_id:
            raise _another(manifest, snapshot_id, store.where)
    except (ProofFailed, LabelUnreadable) as error:
        return replace(_damaged(snapshot_id, store.name, error), where=())
    except (KeyError, TypeError, ValueError) as error:
        fault = ProofFailed(f"Its label is damaged: {error!r}")
        return replace(_damaged(snapshot_id, store.name, fault), where=())
    return _as_whole(_listed(manifest, proven=True), sizes_of(manifest), store.sizes(snapshot_id))


def _as_whole(listed: Listed, expected: Mapping[str, int], found: Mapping[str, int | None]) -> Listed:
    """The same, with a fault where a file is gone or short: somebody made room, or a store's own rules let it expire.

    It is no more than a look, which reads no file: what it finds pushes none out that is whole.
    """
    for name, size in sorted(expected.items()):
        there = found.get(name, -1)
        if there is not None and there != size:
            fault = f"{name} is not there" if there < 0 else f"{name} has {there:,} bytes instead of {size:,}"
            return replace(listed, proven=False, fault=f"It is not whole any more: {fault}.")
    return listed


def _another(manifest: Manifest, snapshot_id: str, where: str) -> ProofFailed:
    """Whole, and proven, but not what its folder says: an older one, perhaps, that would be restored for it."""
    return ProofFailed(
        f"What {where} has as {snapshot_id} is another snapshot.",
        subject=snapshot_id,
        expected=f"a manifest of {snapshot_id}",
        found=f"that of {manifest.id}, taken {manifest.taken_at:%Y-%m-%d %H:%M} UTC",
        remedy="Somebody copied or renamed its folder there: give it its own name back, or use another snapshot.",
    )


def _listed(manifest: Manifest, *where: str, proven: bool) -> Listed:
    return Listed(
        manifest.id,
        manifest.taken_at,
        manifest.total_bytes,
        proven,
        where,
        manifest.launch_id,
        source=manifest.source.mark,
        dated=manifest.dated,
    )


def _damaged(snapshot_id: str, where: str, fault: SafepointError) -> Listed:
    stamp = _STAMP.search(snapshot_id)
    taken = (
        datetime.strptime(stamp[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) if stamp else datetime.min.replace(tzinfo=UTC)
    )
    other = isinstance(fault, OtherVersion | LabelOfOtherVersion)
    # One that does not say when it was may be another program's: each id of ours does.
    unread = isinstance(fault, Unreadable) or (stamp is None and not other)
    return Listed(snapshot_id, taken, 0, False, (where,), None, fault.message, other_version=other, unread=unread)
