"""What Safepoint had standing in a database when it was dumped, and that no restore may bring back.

A level twin's feed and a capture are made to be gone with their launch: a publication with the replica identities that
it raised, and the triggers of a server that does not decode. A dump has them, as it has everything; in a copy they
would stand for ever, and nobody would retire them. So a copy is first compared as it was dumped, and then they go: what
carries Safepoint's mark, and nothing else. A stash stays: what is in it are the users' own values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from psycopg import sql

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.raised_identities import unwatch
from safepoint.postgres.replica_identity import Identity, restore
from safepoint.postgres.target import Target

_MARK: Final = re.compile(r"made by Safepoint for launch [^\s:]+: (?:capture|twin|between)")

# Last made first: a later one raised only what the former ones had not.
PUBLICATIONS: Final = """
select pubname::text, obj_description(oid, 'pg_publication') from pg_publication
where obj_description(oid, 'pg_publication') like 'made by Safepoint %' order by oid desc
"""
TRIGGERS: Final = """
select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = 'safepoint_capture'
"""


def take_away(target: Target) -> tuple[str, ...]:
    """Take what is Safepoint's out of a restored copy, which nobody else uses yet, in one transaction.

    Returns:
        A sentence for each thing that was there.

    Raises:
        psycopg.Error: PostgreSQL refused; then all of it is there still.
    """
    # The database's own settings stand already, and may forbid writing.
    writing = "-c default_transaction_read_only=off"
    with connect(target, application_name="safepoint restore", options=writing) as found, found.transaction():
        return (*_publications(found), *_triggers(found))


def _publications(connection: Connection) -> list[str]:
    notes = []
    for name, comment in connection.execute(PUBLICATIONS).fetchall():
        identities = _identities(str(comment))
        if identities is None:
            continue
        unwatch(connection, name, identities, copy=True)
        for identity in identities:
            restore(connection, identity)
        connection.execute(sql.SQL("drop publication {}").format(sql.Identifier(name)))
        notes.append(f"Safepoint's publication {name}, which stood there during the dump, was left out")
    return notes


def _triggers(connection: Connection) -> list[str]:
    row = connection.execute(TRIGGERS).fetchone()
    if row is None or _state(str(row[0] or "")) is None:
        return []
    connection.execute("drop schema safepoint_capture cascade")
    return ["Safepoint's capture by triggers, which stood there during the dump, was left out"]


def _state(comment: str) -> Mapping[str, Any] | None:
    """What a comment with our mark says; None where it is somebody else's."""
    first, _, rest = comment.partition("\n")
    if _MARK.fullmatch(first) is None:
        return None
    try:
        state = json.loads(rest)
    except ValueError:
        return None
    return state if isinstance(state, dict) else None


def _identities(comment: str) -> list[Identity] | None:
    state = _state(comment)
    try:
        return None if state is None else [Identity(**one) for one in state["identities"]]
    except (KeyError, TypeError):
        return None
