"""Stashed values back into the new schema, after the next launch's migration and before anyone may write.

By key; nothing newer is overwritten: a value is set where the row still is what it was when it was stashed, or where
the column has its default still. In one transaction, with a mark in it, so that a kill attaches nothing twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from psycopg import sql
from psycopg.types.json import Jsonb

from safepoint.errors import Refused
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.own_schema import keep_to_ourselves
from safepoint.postgres.target import Target
from safepoint.wayback.mapping.catalogue import Catalogue, read_catalogue
from safepoint.wayback.names import SCHEMA_COMMENT, made_by
from safepoint.wayback.sessions import asking
from safepoint.wayback.stash import stash as stashes
from safepoint.wayback.stash.attaching import SETTINGS, Attaching
from safepoint.wayback.stash.column_defaults import Defaults
from safepoint.wayback.stash.left import Reattached
from safepoint.wayback.stash.stash import Stash

MARK: Final = "safepoint_reattach"
_PURPOSE: Final = "reattach"


def reattach(
    migrated: Target,
    old: Catalogue,
    found: Sequence[Stash],
    defaults: Defaults,
    *,
    launch_id: str,
    out: Path,
    homeless: Collection[str] = (),
) -> Reattached:
    """Re-attach these stashes, oldest first. May be run again after a kill; `forget_mark` ends it.

    Args:
        migrated: the database just migrated, to which nobody else may write.
        old: the twin's catalogue: what is not in it, this migration made.
        defaults: new table, as Django calls it -> column -> the value that Django gave to rows that were there.
        out: the file for what could not be re-attached.
        homeless: new tables that no old one became: such a one may have the name of one that is gone, or is renamed.

    Raises:
        ProofFailed: a stash is not as it was written; nothing was changed.
        DatabaseError: PostgreSQL refused; nothing was changed.
    """
    for one in found:
        stashes.verify(one)
    with (
        connect(migrated, application_name="safepoint reattach", lock_timeout=5) as connection,
        asking("Re-attaching the stash", migrated.dbname, at=connection),
        connection.transaction(),
    ):
        done = _marked(connection, launch_id)
        if done is not None:
            return done
        connection.execute(SETTINGS)
        new = read_catalogue(connection)
        made = {*homeless, *(name for name in new.tables if name not in old.tables)}
        answer = Attaching(connection, made, new, found, defaults).run(out)
        connection.execute(
            sql.SQL("INSERT INTO {}.done VALUES (%s)").format(sql.Identifier(MARK)),
            [Jsonb(answer.as_json())],
        )
        return answer


def forget_mark(migrated: Target, launch_id: str) -> None:
    """Once the outcome stands in the ledger, nothing of Safepoint stays in the database."""
    with connect(migrated, application_name="safepoint reattach", lock_timeout=5) as connection:
        if connection.execute(SCHEMA_COMMENT, [MARK]).fetchone() == (made_by(launch_id, _PURPOSE),):
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(MARK)))


def _marked(connection: Connection, launch_id: str) -> Reattached | None:
    """What was done by a run that was killed right after; else the mark is made."""
    name, mark = sql.Identifier(MARK), made_by(launch_id, _PURPOSE)
    there = connection.execute("SELECT to_regnamespace(%s)", [MARK]).fetchone() != (None,)
    if there:
        if connection.execute(SCHEMA_COMMENT, [MARK]).fetchone() != (mark,):
            raise Refused(
                f"There is a schema named {MARK} that this launch did not make.",
                subject=MARK,
                expected=mark,
                remedy="Look whose it is; rename or drop it, then `safepoint retry`.",
            )
        row = connection.execute(sql.SQL("SELECT outcome FROM {}.done").format(name)).fetchone()
        return None if row is None else Reattached.from_json(row[0])
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    keep_to_ourselves(connection, MARK)
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(name, sql.Literal(mark)))
    connection.execute(sql.SQL("CREATE TABLE {}.done (outcome jsonb)").format(name))
    return None
