"""The stash: what a rollback could not put anywhere in the old schema, kept in the state folder for the next launch.

A folder for each launch that was rolled back: the rows as lines of JSON, and a manifest, written last, that says what
they are, of which schema, and their SHA-256. `reattached.json` beside it names the launch that took them up.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from safepoint.errors import ProofFailed
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.spool_position import sync_folder
from safepoint.wayback.mapping.catalogue import Catalogue, read_catalogue
from safepoint.wayback.mapping.expressions import ID_TABLES
from safepoint.wayback.mapping.mapping import Loose, TableRule, WayBack
from safepoint.wayback.mapping.natural import named
from safepoint.wayback.mapping.reading import read_tables
from safepoint.wayback.mapping.since import as_named, with_since
from safepoint.wayback.replay.merging import LAST_VALUES
from safepoint.wayback.stash.given import Given, note_given
from safepoint.wayback.stash.made_rows import note_made

ROWS: Final = "stash.jsonl"
MADE: Final = "made.jsonl"
GIVEN: Final = "given.jsonl"
MANIFEST: Final = "manifest.json"
TAKEN: Final = "reattached.json"
_FORMAT: Final = 1


@dataclass(frozen=True)
class StashedTable:
    """What of a table of the new schema is stashed: whole rows (`whole`), or some columns of rows that were carried.

    `home` are the columns that a carried row's witness is made of, in order; `mapped`, by old column, SQL over the new
    row for what the plan's mappers make of it. `read`: mappers read its rows, so that old columns have what these say.
    """

    whole: bool
    key: tuple[str, ...]
    home: tuple[str, ...]
    rows: int
    mapped: Mapping[str, str] = field(default_factory=dict)
    read: bool = False


@dataclass(frozen=True)
class Stash:
    """One launch's stash. `identities`: per table of Django's own, its ids and what they name; `sequences`: how far
    the migrated database had given out numbers. `owner`: whose it is, None where an earlier version did not say;
    `made_sha256` is of `made`. `referring`: columns that name rows of new tables by no constraint, `models` these
    by label."""

    folder: Path
    launch_id: str
    release: str
    made_at: datetime
    sha256: str
    tables: Mapping[str, StashedTable]
    identities: Mapping[str, Mapping[str, str]]
    sequences: Mapping[str, int]
    taken_by: str | None = None
    owner: str | None = None
    made_sha256: str | None = None
    given: tuple[Given, ...] = ()
    given_sha256: str | None = None
    referring: tuple[Loose, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> Path:
        """The lines."""
        return self.folder / ROWS

    @property
    def made(self) -> Path | None:
        """What rows of the migration's were that the lines name; None where they name none, or nobody knows."""
        return None if self.made_sha256 is None else self.folder / MADE

    @property
    def given_rows(self) -> Path | None:
        """What mappers had given the old release of rows that the lines lead to; None where there is nothing."""
        return None if self.given_sha256 is None else self.folder / GIVEN

    @property
    def count(self) -> int:
        """How many lines there are."""
        return sum(table.rows for table in self.tables.values())


def keep_stash(
    state: Path,
    launch_id: str,
    release: str,
    rows: Path,
    kept: Target,
    mapping: WayBack,
    *,
    spool: Path,
    owner: str,
    again: bool = False,
) -> Stash | None:
    """Take a replay's stash into the state folder; None where nothing was stashed. May be run again.

    Args:
        state: the state folder.
        owner: whose it is: several applications may share a state folder, and have tables of the same names.
        rows: the replay's file.
        spool: what the capture noted: it says what changed rows were before.
        kept: the migrated database, under its present name: what ids name, and how far its sequences are.
        again: earlier stashes wait again: even that a table was emptied since says something then.
    """
    before = read_stashes(state)
    if (found := next((one for one in before if one.launch_id == launch_id), None)) is not None:
        return found
    counts = _counted(rows, mapping)
    if not counts and not again:
        return None
    folder = state / "stash" / launch_id
    shutil.rmtree(folder, ignore_errors=True)  # half written: it has no manifest
    folder.mkdir(mode=0o700, parents=True)
    with connect(kept, application_name="safepoint stash") as connection:
        catalogue = read_catalogue(connection)
        sequences = _given_out(connection)
        identities = {name: named(connection, catalogue, name) for name in _naming(catalogue, mapping, counts)}
        read = read_tables(connection, mapping, catalogue)
        note_made(connection, catalogue, mapping, identities, rows, spool, folder / MADE)
        given = note_given(connection, catalogue, mapping, rows, folder / GIVEN)
    catalogue = as_named(mapping, catalogue)
    mapping = with_since(mapping, catalogue)
    told = [(name, _stashed(catalogue, mapping, name, count, read)) for name, count in counts.items()]
    _copy(rows, folder / ROWS)
    data = {
        "format": _FORMAT,
        "launch": launch_id,
        "release": release,
        "owner": owner,
        "made_at": _later(before).isoformat(),
        "sha256": _digest(folder / ROWS),
        "made_sha256": _digest(folder / MADE) if (folder / MADE).exists() else None,
        "tables": {name: asdict(table) for name, table in told},
        "identities": identities,
        "sequences": sequences,
        "given": [asdict(one) for one in given],
        "given_sha256": _digest(folder / GIVEN) if given else None,
        "referring": [asdict(one) for one in mapping.to_made],
        "models": dict(mapping.made),
    }
    return _written(folder, data)


def _written(folder: Path, data: Mapping[str, Any]) -> Stash | None:
    """With its manifest it is there, also after a crash."""
    _write(folder / MANIFEST, data)
    for one in (folder.parent, folder.parent.parent):
        sync_folder(one)
    return _read(folder)


def _given_out(connection: Connection) -> dict[str, int]:
    """How far the sequences are that have given out something."""
    return {row[0]: int(row[1]) for row in connection.execute(LAST_VALUES).fetchall() if row[1] is not None}


def _naming(catalogue: Catalogue, mapping: WayBack, names: Iterable[str]) -> list[str]:
    """The tables whose ids stand in rows of these, or of what the migration made, and are others in each database
    (content types, permissions)."""
    told = {*names, *(catalogue.tables.keys() - mapping.feeds.keys())}
    tables = [catalogue.tables[root] for name in told if (root := catalogue.roots.get(name)) is not None]
    parents = {key.parent for table in tables for key in table.foreign_keys}
    homes = {name for name in parents if catalogue.tables[name].relation in ID_TABLES}
    types = {one.types for one in mapping.to_made if one.types is not None}
    return sorted(homes | (types & catalogue.tables.keys()))


def _later(before: Sequence[Stash]) -> datetime:
    """Now, but later than all that are there: the newest says what a row is, also by a clock that was set back."""
    return max([datetime.now(UTC), *(one.made_at + timedelta(microseconds=1) for one in before)])


def _stashed(catalogue: Catalogue, mapping: WayBack, name: str, count: int, read: Collection[str]) -> StashedTable:
    known = catalogue.tables.get(catalogue.roots.get(name, name))
    rule = mapping.feeds.get(name)
    home = () if rule is None or known is None else witnessed(known.name, mapping, known.by_name)
    mapped = {} if rule is None else _made(rule)
    return StashedTable(rule is None, known.key if known else (), home, count, mapped, name in read)


def witnessed(table: str, mapping: WayBack, columns: Mapping[str, Any]) -> tuple[str, ...]:
    """The new columns of a carried table that have a home in the old one: by them a row is known to be what it was."""
    rule = mapping.feeds[table]
    return tuple(name for name, one in columns.items() if name not in rule.kept and not one.generated)


def _made(rule: TableRule) -> dict[str, str]:
    return {one.column: f"({one.expression})::{one.type}" for one in rule.columns if one.kind == "mapped"}


def read_stashes(state: Path) -> list[Stash]:
    """All stashes in the state folder, oldest first. One whose manifest cannot be read is no stash: see `damaged`."""
    found = [one for folder in (state / "stash").glob("*") if (one := _read(folder)) is not None]
    return sorted(found, key=lambda one: one.made_at)


def waiting(state: Path, launch_id: str, owner: str) -> list[Stash]:
    """The stashes of this owner that no other launch has taken up, oldest first."""
    return [one for one in read_stashes(state) if one.taken_by in (None, launch_id) and one.owner in (None, owner)]


def of_others(state: Path, owner: str) -> list[Stash]:
    """The stashes that wait for a launch of somebody else."""
    return [one for one in read_stashes(state) if one.taken_by is None and one.owner not in (None, owner)]


def unread(state: Path) -> list[Path]:
    """The folders whose manifest is damaged, or is not given by the system now: nobody knows what waits there."""
    folders = sorted((state / "stash").glob("*"))
    return [folder for folder in folders if os.path.lexists(folder / MANIFEST) and _read(folder) is None]


def damaged(state: Path) -> list[str]:
    """What is wrong with the stashes in the state folder, one sentence each."""
    found = [f"{folder} has a manifest that cannot be read." for folder in unread(state)]
    for one in read_stashes(state):
        try:
            verify(one)
        except ProofFailed as error:
            found.append(error.message)
    return found


def verify(stash: Stash) -> None:
    """See that the rows are those that were stashed.

    Raises:
        ProofFailed: they are not, or they are gone.
    """
    files = (stash.rows, stash.sha256), (stash.made, stash.made_sha256), (stash.given_rows, stash.given_sha256)
    for path, sha256 in files:
        if path is None:
            continue
        found = _digest(path) if path.exists() else "no file"
        if found != sha256:
            raise ProofFailed(
                f"The stash of launch {stash.launch_id} is not as it was written.",
                subject=str(path),
                expected=f"SHA-256 {sha256}",
                found=found,
                remedy=f"Restore it from a copy; or move {stash.folder} elsewhere, then nothing of it is re-attached.",
            )


def take(stash: Stash, launch_id: str) -> None:
    """Note that a launch has re-attached it."""
    _write(stash.folder / TAKEN, {"launch": launch_id, "at": datetime.now(UTC).isoformat()})


def taken_by(state: Path, launch_id: str) -> list[Stash]:
    """What that launch has re-attached."""
    return [one for one in read_stashes(state) if one.taken_by == launch_id]


def give_back(state: Path, launch_id: str) -> list[Stash]:
    """That launch is rolled back: what it had re-attached waits again."""
    found = taken_by(state, launch_id)
    for one in found:
        (one.folder / TAKEN).unlink()
        sync_folder(one.folder)
    return found


def _counted(rows: Path, mapping: WayBack) -> Counter[str]:
    """The lines by table; that one of the old schema's tables was emptied is nothing that waits."""
    counts: Counter[str] = Counter()
    with rows.open(encoding="utf-8") as file:
        for line in file:
            one = json.loads(line)
            counts[one["relation"]] += one["action"] != "truncate" or one["relation"] not in mapping.feeds
    return +counts


def _read(folder: Path) -> Stash | None:
    try:
        data: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if data["format"] != _FORMAT:
            return None
        taken = folder / TAKEN
        return Stash(
            folder=folder,
            launch_id=data["launch"],
            release=data["release"],
            made_at=datetime.fromisoformat(data["made_at"]),
            sha256=data["sha256"],
            tables={
                name: StashedTable(
                    one["whole"],
                    tuple(one["key"]),
                    tuple(one["home"]),
                    one["rows"],
                    one.get("mapped", {}),
                    one.get("read", False),
                )
                for name, one in data["tables"].items()
            },
            identities=data["identities"],
            sequences=data["sequences"],
            taken_by=json.loads(taken.read_text(encoding="utf-8"))["launch"] if taken.exists() else None,
            owner=data.get("owner"),
            made_sha256=data.get("made_sha256"),
            given=tuple(map(Given.from_json, data.get("given", ()))),
            given_sha256=data.get("given_sha256"),
            referring=tuple(Loose(**one) for one in data.get("referring", ())),
            models=data.get("models", {}),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(rows: Path, path: Path) -> None:
    """Durable, for the database forgets these rows next; whoever writes the manifest syncs the folder."""
    with rows.open("rb") as source, path.open("wb") as file:
        path.chmod(0o600)
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, data: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        partial.chmod(0o600)
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
