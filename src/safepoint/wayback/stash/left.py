"""What became of a re-attachment, and what it had to leave behind: the rows of `pg_temp.sp_left`, in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from safepoint.postgres.connections import Connection, streamed
from safepoint.postgres.masking import without_secrets
from safepoint.wayback.capture.settling import settling
from safepoint.wayback.replay.statements import ask

MOVED: Final = "new-numbers.jsonl"
_PREVIEW: Final = 50
_MOVED: Final = """
SELECT v.relation, v.was, v.now FROM pg_temp.sp_moved v WHERE NOT EXISTS (
    SELECT FROM pg_temp.sp_left f
    WHERE f.relation = v.relation AND f.key = jsonb_build_object(v.col, v.now) AND f.col = '*') ORDER BY 1, v.was::int8
"""
# A row that was to come back under another number, and does not, is the one that people know by the number it had.
_LEFT: Final = """
SELECT f.relation, CASE WHEN v.was IS NULL THEN f.key ELSE jsonb_build_object(v.col, v.was) END, f.col, f.reason,
       CASE WHEN v.was IS NULL THEN f.value ELSE (f.value::jsonb || jsonb_build_object(v.col, v.was))::text END
FROM pg_temp.sp_left f LEFT JOIN pg_temp.sp_moved v
ON v.relation = f.relation AND f.col = '*' AND f.key = jsonb_build_object(v.col, v.now) ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class Left:
    """What was not re-attached, and why. `column` is `*` for a whole row."""

    table: str
    key: Mapping[str, Any]
    column: str
    reason: str


@dataclass(frozen=True)
class Moved:
    """A row that came back under another number, for the migration has given its own to another one."""

    table: str
    was: str
    now: str


@dataclass(frozen=True)
class Reattached:
    """`values` were set in rows that were carried, `rows` of whole tables were written or removed; `already` stood.

    `left` could not be: the first are in `preview`, all of them in `file`. `moved` rows of people's own have another
    number than they had: the first are in `moves`, all of them in the file `MOVED` beside that one.
    """

    launches: tuple[str, ...]
    values: int
    rows: int
    already: int
    left: int
    tables: Mapping[str, int] = field(default_factory=dict)
    preview: tuple[Left, ...] = ()
    file: str | None = None
    moved: int = 0
    moves: tuple[Moved, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reattached:
        """The inverse of `as_json`."""
        preview = tuple(Left(**one) for one in data["preview"])
        moves = tuple(Moved(**one) for one in data.get("moves", ()))
        return cls(**{**data, "launches": tuple(data["launches"]), "preview": preview, "moves": moves})


def write_left(connection: Connection, out: Path) -> tuple[int, tuple[Left, ...]]:
    """Gives how many there are, and the first ones."""
    left, preview = 0, list[Left]()
    with (
        settling(out) as file,
        connection.cursor() as cursor,
        streamed(cursor, _LEFT) as rows,
    ):
        for relation, key, column, reason, value in rows:
            line = {"table": relation, "key": key, "column": column, "reason": reason, "value": value}
            file.write(json.dumps(line) + "\n")
            left += 1
            if left <= _PREVIEW:
                shown = without_secrets(key, relation)
                preview.append(Left(relation.removeprefix("public."), shown, column, reason))
    return left, tuple(preview)


def write_moved(connection: Connection, out: Path) -> tuple[int, tuple[Moved, ...]]:
    """The same of rows that have another number now; no file where there are none."""
    moves = [Moved(relation.removeprefix("public."), *numbers) for relation, *numbers in ask(connection, _MOVED)]
    if moves:
        with settling(out) as file:
            file.writelines(json.dumps(asdict(one)) + "\n" for one in moves)
    return len(moves), tuple(moves[:_PREVIEW])
