"""What a replay leaves in the twin, in a schema of Safepoint's own: how far it came, the stash, what was put aside.

All of it is written in the replay's own transaction, so it is there exactly when the rows are. The files beside the
ledger are copies of these tables.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from safepoint.errors import Refused
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.own_schema import keep_to_ourselves
from safepoint.postgres.target import Target
from safepoint.wayback.capture.spool_position import sync_folder
from safepoint.wayback.names import made_by, short_id
from safepoint.wayback.replay.stash_schema import show_in_database

SCHEMA: Final = "safepoint"
COMMENT: Final = "SELECT obj_description(to_regnamespace('safepoint'), 'pg_namespace'), to_regnamespace('safepoint')"
TABLES: Final = """
CREATE TABLE safepoint.replays (
    commit_lsn int8 PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp(), outcome jsonb NOT NULL,
    spool_end int8 NOT NULL DEFAULT 0);
CREATE TABLE safepoint.stash (
    relation text NOT NULL, action text NOT NULL, key jsonb NOT NULL, values jsonb NOT NULL,
    xid int8 NOT NULL, commit_lsn pg_lsn NOT NULL, committed_at timestamptz, witness text, mapped jsonb,
    place int8, whole boolean, was jsonb, leaf text, together int8);
CREATE TABLE safepoint.put_aside (
    relation text NOT NULL, action text NOT NULL, kind text NOT NULL, reason text NOT NULL, key jsonb NOT NULL,
    values jsonb NOT NULL, xid int8 NOT NULL, commit_lsn pg_lsn NOT NULL, committed_at timestamptz,
    kept boolean NOT NULL DEFAULT false, read boolean NOT NULL DEFAULT false);
CREATE TABLE safepoint.transactions (
    state text NOT NULL, xid int8 NOT NULL, commit_lsn pg_lsn NOT NULL, committed_at timestamptz);
CREATE TABLE safepoint.dangling (
    relation text NOT NULL, key jsonb NOT NULL, reason text NOT NULL,
    xid int8 NOT NULL, commit_lsn pg_lsn NOT NULL, committed_at timestamptz);
CREATE INDEX ON safepoint.put_aside (commit_lsn);
CREATE INDEX ON safepoint.transactions (commit_lsn);
"""
EARLIER: Final = re.compile(r"made by Safepoint for launch (?P<launch>[^\s:]+): replay")
FILES: Final = {
    "stash": "stash.jsonl",
    "put_aside": "put-aside.jsonl",
    "transactions": "not-whole.jsonl",
    "dangling": "dangling.jsonl",
}
# JSON has no control characters of its own, so with these for quote and delimiter a line comes out as it is.
# A stashed row's place is for finding it again here.
EXPORT: Final = """
COPY (SELECT to_jsonb(r) - 'place' FROM safepoint.{} r ORDER BY r.commit_lsn)
TO STDOUT (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')
"""


def prepare(connection: Connection, launch_id: str, purpose: str = "replay") -> None:
    """Make the schema; it may be there from an earlier part of the same launch's replay.

    Raises:
        Refused: a schema of this name is someone else's.
    """
    mark = made_by(launch_id, purpose)
    comment, there = connection.execute(COMMENT).fetchone() or (None, None)
    if there is not None and comment != mark:
        there = _set_aside(connection, comment)
    if there is not None and comment != mark:
        raise Refused(
            "There is a schema named safepoint in the twin that this launch did not make.",
            subject=SCHEMA,
            expected=mark,
            found=repr(comment),
            remedy="Rename it, or roll back with --discard.",
        )
    if there is None:
        connection.execute("CREATE SCHEMA safepoint")
        keep_to_ourselves(connection, SCHEMA)
        connection.execute(sql.SQL("COMMENT ON SCHEMA safepoint IS {}").format(sql.Literal(mark)))
        connection.execute(TABLES)


def remove(target: Target, launch_id: str) -> bool:
    """Drop the schema of this launch's replay, if it is there; gives whether it was. Its files are kept.

    What was stashed stays in the database until the launch is retired, in a schema of its own, for whoever asks.
    """
    with connect(target, lock_timeout=5) as connection:
        comment, there = connection.execute(COMMENT).fetchone() or (None, None)
        if there is None or comment != made_by(launch_id, "replay"):
            return False
        if not show_in_database(connection, launch_id):
            connection.execute("DROP SCHEMA safepoint CASCADE")
        return True


def forget(connection: Connection, launch_id: str, purpose: str) -> bool:
    """Drop the schema inside the caller's transaction, if it is this launch's and was made for this; whether it was."""
    comment, there = connection.execute(COMMENT).fetchone() or (None, None)
    if there is None or comment != made_by(launch_id, purpose):
        return False
    connection.execute("DROP SCHEMA safepoint CASCADE")
    return True


def _set_aside(connection: Connection, comment: str | None) -> str | None:
    """An earlier launch's schema, which came into the twin with the copy, gets another name; its stash is kept."""
    match = EARLIER.fullmatch(comment or "")
    if match is None:
        return SCHEMA
    name = f"{SCHEMA}_{short_id(match['launch'])}"
    connection.execute(sql.SQL("ALTER SCHEMA safepoint RENAME TO {}").format(sql.Identifier(name)))
    return None


@dataclass(frozen=True)
class Last:
    """The commit up to which changes are applied, that replay's outcome, and the spool's offset behind them (or 0)."""

    commit_lsn: int
    outcome: dict[str, Any]
    spool_end: int


def last_replay(connection: Connection) -> Last | None:
    """How far the twin is; None before the first replay."""
    row = connection.execute(
        "SELECT commit_lsn, outcome, spool_end FROM safepoint.replays ORDER BY commit_lsn DESC LIMIT 1"
    ).fetchone()
    return None if row is None else Last(int(row[0]), row[1], int(row[2]))


def before(connection: Connection, launch_id: str) -> Last | None:
    """How far a former replay of this launch came: a follower's, what was carried ahead, a rollback's that was turned
    round. None where nothing of it is in the twin."""
    comment, there = connection.execute(COMMENT).fetchone() or (None, None)
    if there is None or comment != made_by(launch_id, "replay"):
        return None
    return last_replay(connection)


def record(connection: Connection, lsn: int, outcome: Mapping[str, Any], spool_end: int) -> None:
    """Note how far the twin is. Whoever runs the replay again goes on behind this.

    It has what the earlier ones had in it. A follower notes one each second, for days: so these go.
    """
    connection.execute("DELETE FROM safepoint.replays")
    connection.execute(
        "INSERT INTO safepoint.replays (commit_lsn, outcome, spool_end) VALUES (%s, %s, %s)",
        [lsn, Jsonb(dict(outcome), dumps=json.dumps), spool_end],
    )


def write_files(connection: Connection, folder: Path) -> dict[str, str]:
    """The tables as files of JSON lines, durable before the replay's commit. Gives their paths by table."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = {}
    for table, name in FILES.items():
        path = folder / name
        partial = folder / f"{name}.partial"
        with partial.open("wb") as file, connection.cursor() as cursor:
            with cursor.copy(sql.SQL(EXPORT).format(sql.Identifier(table))) as copy:
                for piece in copy:
                    file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        found[table] = str(path)
    sync_folder(folder)
    return found
