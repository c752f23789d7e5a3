"""Proving a snapshot: it is restored into a scratch server, and what is there equals what was at its source."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safepoint.backup.fingerprint import take
from safepoint.backup.manifest import OtherVersion, Unreadable, read_manifest, sync_folder, unreadable
from safepoint.backup.prints import Difference, Fingerprint, compare, lost
from safepoint.backup.restoring import Restored, remedy_for, restored
from safepoint.backup.scratch import OWN, Scratch
from safepoint.errors import ProofFailed, Unrestorable
from safepoint.progress import Cancelled, Report, never, silent

__all__ = ["NAME", "Proof", "Restored", "prove", "read_proof", "restored"]

NAME = "proof.json"
_SHOWN = 10
_COMPUTED = re.compile(r'^("(?:[^"]|"")+"|\S+) .*\bstored default ', re.MULTILINE)


@dataclass(frozen=True)
class Proof:
    """That a snapshot was restored and equal. `seal` is its manifest's: a proof of another manifest proves nothing."""

    snapshot_id: str
    seal: str
    proven_at: str
    seconds: float
    rows: int
    tables: int
    digest: str
    server_version: str
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As it stands in `proof.json` and in the ledger."""
        return {**asdict(self), "notes": list(self.notes)}


def prove(
    folder: Path,
    *,
    scratch_parent: Path,
    jobs: int = 2,
    report: Report = silent,
    cancelled: Cancelled = never,
    extra: Path | None = None,
    look: Callable[[Restored, Fingerprint], None] | None = None,
    scratch: Scratch = OWN,
) -> Proof:
    """Restore a snapshot into a scratch server, compare fingerprints, and write the proof beside the manifest.

    Args:
        scratch: where; by default a server of our own.
        look: is shown the restored copy and its fingerprint while it stands, also where it is not equal.

    Raises:
        ProofFailed: files are damaged, or the copy differs; an older proof is removed then.
        Unrestorable, OtherVersion: it cannot be restored there, or not by this version; an older proof stands.
        DatabaseError: there is no PostgreSQL here that could prove it.
        Refused: the scratch server that was named must not be used.
        Interrupted: `cancelled` became true.
    """
    began = time.monotonic()
    try:
        with restored(
            folder,
            scratch_parent=scratch_parent,
            jobs=jobs,
            report=report,
            cancelled=cancelled,
            extra=extra,
            as_dumped=True,
            scratch=scratch,
        ) as copy:
            version = copy.manifest.fingerprint.format
            found = take(
                copy.target, jobs=jobs, report=report, cancelled=cancelled, version=version, hashed=copy.hashed
            )
            differences, notes = _compare(copy, found)
            if look is not None:
                look(copy, found)
            if differences:
                relations = copy.manifest.fingerprint.structure.get("relation", {})
                raise _differs(folder, differences, (*notes, *computed_anew(relations, differences)))
    except Unrestorable as error:
        if (older := read_proof(folder)) is not None:
            raise _not_again(error, older) from error
        raise
    except OtherVersion:
        raise
    except ProofFailed:
        (folder / NAME).unlink(missing_ok=True)
        raise
    proof = _proof(copy, found, notes, time.monotonic() - began)
    _write(folder, proof)
    return proof


def _compare(copy: Restored, found: Fingerprint) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """In what the copy is not like its source, and what has to be said of it all the same."""
    differences = compare(copy.manifest.fingerprint, found, unfilled=copy.unfilled)
    if copy.shared:  # its roles are that server's own, which the notes say
        differences = tuple(one for one in differences if one.kind != "role")
    return differences, (*copy.notes, *lost(copy.manifest.fingerprint, found))


def computed_anew(relations: Mapping[str, str], differences: Iterable[Difference]) -> tuple[str, ...]:
    """What may be behind a difference of rows that no new snapshot helps against, as a sentence; or nothing. Pure.

    Args:
        relations: definitions of tables by name, as a fingerprint has them.
    """
    found = [
        f"{one.name} ({', '.join(columns)})"
        for one in differences
        if one.kind == "table" and (columns := _COMPUTED.findall(relations.get(one.name, "")))
    ]
    if not found:
        return ()
    return (
        f"a restore computes these columns anew: {', '.join(found)}. If a function that they call was changed since, "
        "let the source compute them, too (UPDATE its rows), then take a new snapshot",
    )


def _proof(copy: Restored, found: Fingerprint, notes: tuple[str, ...], seconds: float) -> Proof:
    return Proof(
        snapshot_id=copy.manifest.id,
        seal=copy.manifest.seal,
        proven_at=datetime.now(UTC).isoformat(),
        seconds=round(seconds, 3),
        rows=found.rows,
        tables=len(found.tables),
        digest=copy.manifest.fingerprint.digest,
        server_version=copy.server_version,
        notes=notes,
    )


def read_proof(folder: Path) -> Proof | None:
    """The proof of the snapshot in a folder; None when there is none, it was changed, or is of another manifest.

    Raises:
        Unreadable: the system does not give it, or the manifest, so nobody knows.
    """
    try:
        text = (folder / NAME).read_bytes().decode("utf-8")  # as it is, see `read_manifest`
        data = json.loads(text)
        if text != _written(data) or data.pop("check", None) not in (None, _check(data)):
            return None
        proof = Proof(**{**data, "notes": tuple(data["notes"])})
        return proof if proof.seal == read_manifest(folder).seal else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(folder / NAME, error) from None
    except Unreadable:
        raise
    except (ValueError, TypeError, KeyError, ProofFailed):
        return None


def _write(folder: Path, proof: Proof) -> None:
    partial = folder / f"{NAME}.partial"
    body = proof.as_json()
    with partial.open("w", encoding="utf-8") as file:
        file.write(_written({**body, "check": _check(body)}))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / NAME)
    sync_folder(folder)


def refuse_damaged(folder: Path) -> None:
    """A snapshot whose proof was changed is not restored: somebody, or a disk, changed something there.

    Raises:
        ProofFailed: there is a proof, and it is not this manifest's, or not as it was written.
    """
    if (folder / NAME).exists() and read_proof(folder) is None:
        raise ProofFailed(
            f"The proof of the snapshot {folder.name} is not as it was written.",
            subject=str(folder / NAME),
            remedy=f"Take the snapshot from a store (--from), or prove it again: `safepoint verify {folder.name}`.",
        )


def _written(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1) + "\n"


def _check(body: Mapping[str, Any]) -> str:
    """SHA-256 over everything in the proof."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _not_again(error: Unrestorable, older: Proof) -> Unrestorable:
    """These very files were restored and equal before, so what failed now is the place, and not the snapshot."""
    return Unrestorable(
        f"{error.message}\nIts proof of {older.proven_at[:16]} UTC stands: it was restored and equal then, and its "
        "files have not changed.",
        subject=error.subject,
        remedy=remedy_for(error.message) or "See what was in the way here, then prove it again.",
    )


def _differs(folder: Path, differences: tuple[Difference, ...], notes: tuple[str, ...]) -> ProofFailed:
    lines = [f"- {difference}" for difference in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        lines.append(f"- and {len(differences) - _SHOWN} more")
    lines += [f"(note: {note})" for note in notes]
    return ProofFailed(
        f"The snapshot {folder.name} was restored, but the copy differs from its source:\n" + "\n".join(lines),
        subject=str(folder),
        expected="no difference",
        found=f"{len(differences)} differences",
        remedy=_after(differences),
    )


def _after(differences: Sequence[Difference]) -> str:
    """What to do about a copy that differs: rows that do are one thing, definitions are not held by any snapshot."""
    # A table that was made meanwhile, or dropped, has no row on the one side and none at all on the other.
    if any(
        one.kind in ("table", "large objects")
        and not all(side is None or side.startswith("0 rows") for side in (one.expected, one.found))
        for one in differences
    ):
        return "Do not rely on this snapshot; take a new one. If it differs again, report these lines."
    return (
        "The rows of each table that both have are equal. Was something made, altered or granted there while the "
        "snapshot was taken (a migration, CREATE INDEX)? Take a new one while nobody does that. If it differs again, "
        "report these lines."
    )
