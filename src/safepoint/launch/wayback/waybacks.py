"""What is known of the way back before a rollback: both schemas, as a proof or a rehearsal saw them on a copy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from safepoint.backup.manifest import sync_folder
from safepoint.config import PlanFile
from safepoint.errors import Refused
from safepoint.launch.rehearsal.rehearsals import newest_rehearsal
from safepoint.launch.whose import own_mark
from safepoint.wayback.mapping.schemas import Schemas
from safepoint.wayback.trial.roundtrip import RoundTrip

NAME: Final = "way-back.json"
_FORMAT: Final = 1
By = Literal["proof", "rehearsal"]


@dataclass(frozen=True)
class Known:
    """A record of the way back. `wrong` counts, by `table.column` of the old schema, the values that did not come back.

    `proven` is None where no round trip was made; `doubts` say why it was not proven. `source` is the mark of the
    database; None where an earlier version did not say. `rereads`: by old table how many rows it had, and what its
    mappers read besides (see `TableTrip`).
    """

    release: str
    by: By
    where: str
    made_at: datetime
    schemas: Schemas
    proven: bool | None
    doubts: tuple[str, ...]
    wrong: Mapping[str, int]
    source: str | None = None
    rereads: Mapping[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)


def keep_way_back(
    folder: Path,
    *,
    release: str,
    by: By,
    source: str,
    schemas: Schemas,
    trip: RoundTrip | None = None,
    doubts: Sequence[str] = (),
    sync: bool = True,
) -> Path:
    """Write the record; a former one in this folder is replaced. It holds the schemas, and no row.

    Args:
        sync: wait for the disk. Who syncs the folder later on need not, and a disk that has just been given copies of
            a database lets one wait for these as well.
    """
    wrong = {
        f"{table.table}.{column}": count
        for table in (trip.tables if trip is not None else ())
        for column, count in table.columns.items()
    }
    data = {
        "format": _FORMAT,
        "release": release,
        "by": by,
        "source": source,
        "made_at": datetime.now(UTC).isoformat(),
        "proven": None if trip is None else not doubts,
        "doubts": list(doubts),
        "wrong": wrong,
        "rereads": {one.table: [one.rows, one.reads] for one in (trip.tables if trip is not None else ()) if one.reads},
        "schemas": schemas.as_json(),
    }
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = folder / f"{NAME}.partial"
    partial.write_text(json.dumps(data) + "\n", encoding="utf-8")
    partial.replace(folder / NAME)
    if sync:
        sync_folder(folder)
    return folder / NAME


def newest_way_back(plan_file: PlanFile) -> Known:
    """The newest record for the release that is launched, of a proof or of a rehearsal.

    Raises:
        Refused: there is none; it says which command makes one.
    """
    places = ("launches", "snapshots", "rehearsals")
    paths = [path for place in places for path in plan_file.state.glob(f"{place}/*/{NAME}")]
    found = [known for path in paths if (known := _read(path)) is not None]
    release, own = plan_file.releases.new.version, own_mark(plan_file)
    ours = [known for known in found if known.release == release and known.source in (None, own)]
    if not ours:
        rehearsed = newest_rehearsal(plan_file) is not None
        raise Refused(
            f"Nothing is known yet of the schema that {plan_file.releases.new.version} will have.",
            subject=str(plan_file.state),
            expected="a proof of the way back, or a rehearsal, of this release",
            found="a rehearsal by an older Safepoint" if rehearsed else "neither",
            remedy="Run `safepoint rehearse`: it migrates a copy and keeps both schemas. "
            "The launch's own step prove-way-back does so too.",
        )
    now = datetime.now(UTC)  # a clock that was ahead makes nothing the newest for ever
    return max(ours, key=lambda known: (known.made_at <= now, known.made_at))


def _read(path: Path) -> Known | None:
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            return None
        return Known(
            release=data["release"],
            by=data["by"],
            where=f"{path.parent.parent.name}/{path.parent.name}",
            made_at=datetime.fromisoformat(data["made_at"]),
            schemas=Schemas.from_json(data["schemas"]),
            proven=data["proven"],
            doubts=tuple(data["doubts"]),
            wrong=data["wrong"],
            source=data.get("source"),
            rereads={table: (rows, tuple(reads)) for table, (rows, reads) in data.get("rereads", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # half written, or by another version: the next newest is taken
