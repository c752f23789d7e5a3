"""What Safepoint had standing in a database when it was dumped, and that no restore may bring back.

A level twin's feed and a capture are made to be gone with their launch: a publication with the replica identities that
it raised, and the triggers of a server that does not decode. A dump has them, as it has everything; in a copy they
would stand for ever, and nobody would retire them. So a copy is first compared as it was dumped, and then they go: what
carries Safepoint's mark, and nothing else. A stash stays: what is in it are the users' own values.

Where a copy is compared with a database that lives on, either may have them: there they are left out of both, on paper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from psycopg import sql

from safepoint.backup.prints import Fingerprint
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.raised_identities import unwatch
from safepoint.postgres.replica_identity import Identity, restore
from safepoint.postgres.target import Target

_MARK: Final = re.compile(r"made by Safepoint for launch [^\s:]+: (?:capture|twin|between)")

_CAPTURE: Final = "safepoint_capture"
_NOTE: Final = re.compile(r"(?P<prior>[dinf]) (?P<table>.+)", re.DOTALL)  # see postgres.raised_identities
_IDENTITY: Final = re.compile(r"\nreplica identity [dinf]$", re.MULTILINE)  # as backup.structure has them
_MARKED: Final = " replica identity"

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


def without_own(found: Fingerprint) -> tuple[Fingerprint, tuple[str, ...]]:
    """A fingerprint as it were without what is Safepoint's in it, and the names of that. Pure."""
    comments = found.structure.get("comment", {})
    publications = {
        name.removeprefix("publication "): identities
        for name, text in comments.items()
        if name.startswith("publication ") and (identities := _identities(text)) is not None
    }
    names = list(publications)
    if _state(comments.get(f"schema {_CAPTURE}", "")) is not None:
        names.append(_CAPTURE)
    if not names:
        return found, ()
    own = re.compile(rf"(^|[\s\"])({'|'.join(map(re.escape, names))})([.\"(\s]|$)")

    def others(entries: Mapping[str, Any]) -> dict[str, Any]:
        return {name: text for name, text in entries.items() if own.search(name) is None}

    structure = {kind: others(entries) for kind, entries in found.structure.items()}
    calls = f"EXECUTE FUNCTION {_CAPTURE}."
    structure["trigger"] = {name: text for name, text in structure.get("trigger", {}).items() if calls not in text}
    notes = [_NOTE.fullmatch(note) for name, note in comments.items() if own.search(name) is not None]
    raised = [(note["table"], note["prior"]) for note in notes if note is not None]
    _put_back(structure, raised, [one for each in reversed(publications.values()) for one in each])
    bare = replace(
        found,
        tables=others(found.tables),
        sequences=others(found.sequences),
        structure=structure,
        ownership=others(found.ownership),
    )
    return bare, tuple(names)


def _put_back(
    structure: Mapping[str, dict[str, str]], raised: Sequence[tuple[str, str]], identities: Sequence[Identity]
) -> None:
    """The replica identities that stood there before, in the words of the tables' and the indexes' definitions."""
    relations, indexes = structure.get("relation", {}), structure.get("index", {})
    named = {_plain(name): name for name in relations}
    marked = {_plain(name): name for name in indexes}
    for table, prior in [(_plain(name), prior) for name, prior in raised] + [
        (f"{one.schema}.{one.relation}", one.prior) for one in identities
    ]:
        if (name := named.get(table)) is not None:
            kind, *lines = _IDENTITY.sub("", relations[name]).split("\n")
            at = 1 if lines and lines[0].startswith("options ") else 0
            stands = [] if prior == "d" else [f"replica identity {prior}"]
            relations[name] = "\n".join([kind, *lines[:at], *stands, *lines[at:]])
    for one in identities:
        for index, mark in ((one.now_index, ""), (one.prior_index, _MARKED)):
            name = marked.get(f"{one.schema}.{index}")
            if name is not None:
                indexes[name] = indexes[name].removesuffix(_MARKED) + mark


def _plain(name: str) -> str:
    """A name without SQL's quotes."""
    return name.replace('""', "\0").replace('"', "").replace("\0", '"')


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
