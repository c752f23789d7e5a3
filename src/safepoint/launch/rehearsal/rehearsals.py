"""The rehearsals that were made: what stands in one, where each stands, and the newest one of a release."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safepoint.backup.manifest import read_manifest, sync_folder
from safepoint.config import PlanFile
from safepoint.config.rules import Mode
from safepoint.django.pending import Pending
from safepoint.django.sqlmigrate import MigrationSQL
from safepoint.errors import SafepointError
from safepoint.launch.frozen import REHEARSED, digest_of
from safepoint.launch.whose import own_mark
from safepoint.rehearsal.changes import TableChange
from safepoint.rehearsal.checks import Check
from safepoint.rehearsal.findings import Finding
from safepoint.rehearsal.forecast import Forecast
from safepoint.rehearsal.observation import Observed
from safepoint.rehearsal.undo import Undo
from safepoint.wayback.trial.trial import Trial

if TYPE_CHECKING:
    from safepoint.launch.wayback.proving import Proven

FORMAT = 2
NAME = "rehearsal.json"
PAGE = "rehearsal.html"

Verdict = Literal["go", "no-go"]


@dataclass(frozen=True)
class Lint:
    """What the lint said. `notes`: what it could not look at, and waivers that fit nothing."""

    mode: Mode
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {
            "mode": self.mode,
            "findings": [finding.as_json() for finding in self.findings],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found. `digest` names the migrations by content: other ones were not rehearsed. `source` is the
    mark of the database whose copy it was: the same code may be launched on several.

    `reasons` say why the verdict is no-go; `notes` what a reader should know about how it was rehearsed.
    `sql` is what the migrations would run, both ways, as far as it can be written down beforehand.
    `steps` are seconds that steps of the launch took on the copy, by their names; `seconds` says how long each part of
    the rehearsal itself took.
    """

    snapshot_id: str
    seal: str
    source: str
    taken_at: str
    made_at: str
    release: str
    verdict: Verdict
    reasons: tuple[str, ...]
    pending: Pending
    sql: tuple[MigrationSQL, ...]
    observed: Observed
    changes: tuple[TableChange, ...]
    checks: tuple[Check, ...]
    way_back: Proven | None
    trial: Trial | None
    undo: Undo | None
    lint: Lint
    forecast: Forecast | None
    notes: tuple[str, ...]
    steps: Mapping[str, float]
    seconds: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """As it stands in `rehearsal.json`."""
        return {
            "format": FORMAT,
            "snapshot": {
                "id": self.snapshot_id,
                "seal": self.seal,
                "source": self.source,
                "taken_at": self.taken_at,
            },
            "made_at": self.made_at,
            "release": self.release,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "digest": self.pending.digest,
            "migrations": [migration.as_json() for migration in self.pending.migrations],
            "sql": [one.as_json() for one in self.sql],
            "migrate": self.observed.as_json(),
            "changes": [change.as_json() for change in self.changes],
            "checks": [check.as_json() for check in self.checks],
            "way_back": None if self.way_back is None else self.way_back.as_json(),
            "trial": None if self.trial is None else self.trial.as_json(),
            "lint": self.lint.as_json(),
            "undo": None if self.undo is None else self.undo.as_json(),
            "forecast": None if self.forecast is None else self.forecast.as_json(),
            "notes": list(self.notes),
            "steps": dict(self.steps),
            "seconds": dict(self.seconds),
        }


def rehearsal_folder(plan_file: PlanFile, snapshot_id: str) -> Path:
    """Where a rehearsal stands: beside its snapshot, or in a place of its own where that is only in a store."""
    beside = plan_file.state / "snapshots" / snapshot_id
    return beside if beside.is_dir() else plan_file.state / "rehearsals" / snapshot_id


def read_rehearsal(folder: Path) -> dict[str, Any] | None:
    """The rehearsal in a folder; None when there is none, or another version wrote it."""
    try:
        data: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return data if data.get("format") == FORMAT else None
    except (OSError, ValueError, AttributeError):
        return None


def rehearsals_of(plan_file: PlanFile) -> list[dict[str, Any]]:
    """All rehearsals of the release that is launched, on whichever copy of its database; the newest first.

    `folder` of each is where it stands. One that was made by a clock that was ahead comes last: it would else stand
    before all that are made to replace it.
    """
    paths = [path for place in ("snapshots", "rehearsals") for path in (plan_file.state / place).glob(f"*/{NAME}")]
    release, own = plan_file.releases.new.version, own_mark(plan_file)
    found = [(path.parent, read_rehearsal(path.parent)) for path in paths]
    ours = [
        {**one, "folder": str(folder)}
        for folder, one in found
        if one and one["release"] == release and _source(folder, one) == own
    ]
    now = datetime.now(UTC).isoformat()
    return sorted(ours, key=lambda one: (str(one["made_at"]) <= now, str(one["made_at"])), reverse=True)


def _source(folder: Path, data: Mapping[str, Any]) -> str | None:
    """Whose copy it was; one of before says so only by the snapshot that it stands beside."""
    with suppress(SafepointError):
        return str(data["snapshot"].get("source") or read_manifest(folder).source.mark)
    return None


def newest_rehearsal(plan_file: PlanFile) -> dict[str, Any] | None:
    """The newest rehearsal of the release that is launched."""
    return next(iter(rehearsals_of(plan_file)), None)


def write_rehearsal(folder: Path, done: Rehearsal, code: bytes | None = None) -> None:
    """Put it beside the snapshot, as JSON and as a page; a former one of this snapshot is replaced.

    Only its owner may read it: rows of the data stand in it as examples.

    Args:
        code: the files of the code that was rehearsed; None where the release could not say what is code.
    """
    from safepoint.launch.report.rehearsal import rehearsal_page

    data = {**done.as_json(), "code": None if code is None else digest_of(code)}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    listed = "" if code is None else code.decode(errors="surrogateescape")
    for name, text in (
        (REHEARSED, listed),
        (NAME, json.dumps(data, indent=1) + "\n"),
        (PAGE, rehearsal_page(data)),
    ):
        partial = folder / f"{name}.partial"
        partial.touch(mode=0o600)
        partial.chmod(0o600)
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")
        partial.replace(folder / name)
    sync_folder(folder)
