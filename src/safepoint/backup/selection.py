"""A part of a snapshot: which tables are meant, and which lines of the archive's table of contents bring them. Pure.

All definitions are restored (a table may need types, functions and extensions from anywhere), then the rows and the
keys of the tables that are meant; what is not needed is dropped from the new database afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from safepoint.backup.manifest import Manifest
from safepoint.backup.statements import names, unquoted
from safepoint.errors import Refused

_ENTRY = re.compile(r"\d+; \d+ \d+ (?P<rest>\S.*)")
_REFERENCES = re.compile(r"REFERENCES ((?:\"(?:[^\"]|\"\")+\"|[^\s\".(]+)\.(?:\"(?:[^\"]|\"\")+\"|[^\s\".(]+))\(")
_OWNER = re.compile(r'owner ("(?:[^"]|"")+"|[^\s;]+)')
# What follows is a schema, whose name may be in capitals as well.
_ROWS, _KEY, _CHECK = "TABLE DATA ", "FK CONSTRAINT ", "CHECK CONSTRAINT "
# Large objects belong to no table, a materialised view would be computed from tables that are empty here.
_NEVER = ("BLOB", "MATERIALIZED VIEW DATA", "EVENT TRIGGER", "PUBLICATION", "SUBSCRIPTION")
# What is said of something else stands in lines of their own, and goes with it.
_SAID = ("COMMENT", "ACL", "SECURITY LABEL")
_LEFT_OUT = (
    *_NEVER,
    *(
        f"{said} - {kind}"
        for said in _SAID
        for kind in ("LARGE OBJECT", "EVENT TRIGGER", "PUBLICATION", "SUBSCRIPTION")
    ),
)
_SHOWN = 20
_NAMED_KEY = re.compile(r'(?P<key>"(?:[^"]|"")+"|\S+) on (?P<table>.+)', re.DOTALL)


@dataclass(frozen=True)
class Selection:
    """What is wanted of a snapshot. `tables` are names as the fingerprint has them; `words` what was asked for.

    `partitioned`: the tables without rows of their own that were asked for.
    """

    words: tuple[str, ...]
    tables: frozenset[str]
    partitioned: frozenset[str] = frozenset()


def select(manifest: Manifest, words: Sequence[str]) -> Selection:
    """Find the tables that are meant by names of schemas, of tables, or `schema.table`.

    A partitioned table, or a parent of an inheritance, means all its descendants too.

    Raises:
        Refused: a word means nothing in this snapshot, or several tables.
    """
    found: set[str] = set()
    for word in words:
        found |= _meant(manifest, word)
    tables = found & manifest.fingerprint.tables.keys()
    return Selection(
        tuple(words), frozenset(tables), frozenset(name for name in found if _is_partitioned(manifest, name))
    )


def _meant(manifest: Manifest, word: str) -> set[str]:
    relations = {*manifest.fingerprint.tables, *manifest.fingerprint.structure.get("relation", {})}
    parts = {name: names(name) for name in relations}
    exact = {name for name, (schema, table) in parts.items() if word in (name, f"{schema}.{table}")}
    alone = {name for name, (_schema, table) in parts.items() if table == word}
    whole = {name for name, (schema, _table) in parts.items() if schema == word}
    if not exact and len(alone) > 1:
        raise Refused(
            f"{word} is the name of several tables.",
            subject=word,
            found=", ".join(sorted(alone)),
            remedy="Name the one that you mean with its schema: --only SCHEMA.TABLE.",
        )
    found = exact or alone or whole
    reached = _with_descendants(manifest, found)
    if not reached & manifest.fingerprint.tables.keys():
        raise Refused(
            f"The snapshot {manifest.id} has no table and no schema {word} with rows in it.",
            subject=word,
            found=", ".join(sorted(manifest.fingerprint.tables)[:20]) or "no tables at all",
            remedy="Name a schema, a table, or SCHEMA.TABLE that is in the snapshot.",
        )
    return reached


def _is_partitioned(manifest: Manifest, name: str) -> bool:
    return manifest.fingerprint.structure.get("relation", {}).get(name, "").startswith("partitioned table")


def _with_descendants(manifest: Manifest, found: set[str]) -> set[str]:
    parents = {
        name: {line.strip() for line in text.splitlines() if line.startswith("inherits ")}
        for name, text in manifest.fingerprint.structure.get("relation", {}).items()
    }
    reached = set(found)
    while True:
        more = {
            name
            for name, lines in parents.items()
            if any(parent in line.removeprefix("inherits ").split(", ") for line in lines for parent in reached)
        } - reached
        if not more:
            return reached
        reached |= more


def wanted_lines(listing: str, manifest: Manifest, selection: Selection) -> tuple[list[str], list[str]]:
    """The lines of `pg_restore --list` to restore before unneeded tables are dropped, and those for after it.

    Args:
        listing: what `pg_restore --list` printed.

    Raises:
        Refused: the rows of a wanted table are not in the archive under the name that is expected.
    """
    rows, ends = _Rows(manifest), _Ends(manifest, selection)
    keys = {_key_as_listed(manifest, name): name for name in manifest.fingerprint.structure.get("constraint", {})}
    before: list[str] = []
    after: list[str] = []
    seen: set[str] = set()
    for line in listing.split("\n"):
        match = _ENTRY.match(line)
        if match is None or (entry := match["rest"]).startswith(_LEFT_OUT):
            continue
        if entry.startswith(_ROWS):
            name = rows.of(entry.removeprefix(_ROWS))
            if name in selection.tables:
                seen.add(name)
                before.append(line)
        elif entry.startswith(_KEY):
            if ends.are_wanted(keys.get(entry.removeprefix(_KEY))):
                after.append(line)
        elif entry.startswith(_CHECK) and entry.removeprefix(_CHECK) not in keys:
            after.append(line)  # a domain's, see `refreshing`
        else:
            before.append(line)
    if missing := selection.tables - seen:
        raise Refused(
            "The archive has no rows for a table that was asked for.",
            subject=", ".join(sorted(missing)),
            remedy="Restore the whole snapshot into a new database, and take the table from there.",
        )
    return before, after


def left_out(manifest: Manifest, selection: Selection) -> tuple[str, ...]:
    """What the wanted rows may refer to and a part does not bring, as sentences for who restores it."""
    ends = _Ends(manifest, selection)
    keys = [
        name
        for name, text in sorted(manifest.fingerprint.structure.get("constraint", {}).items())
        if text.startswith("FOREIGN KEY") and ends.lead_out(name)
    ]
    notes = [f"foreign keys to what was left out are not there: {_named(keys)}"] if keys else []
    if views := _views(manifest, selection):
        notes.append(f"views were left out, whatever tables they read: {_named(views)}")
    if many := manifest.fingerprint.large_objects.rows:
        notes.append(f"large objects ({many:,}) were left out, whatever rows refer to them by their oids")
    return tuple(notes)


def _named(found: Sequence[str]) -> str:
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return ", ".join([*found[:_SHOWN], *more])


def _views(manifest: Manifest, selection: Selection) -> list[str]:
    """Those of the schemas that were asked for as a whole."""
    schemas = {names(name)[0] for name in selection.tables} & {*selection.words}
    found = manifest.fingerprint.structure.get("relation", {}).items()
    return sorted(
        name for name, text in found if text.startswith(("view", "materialised view")) and names(name)[0] in schemas
    )


class _Rows:
    """Whose rows a line of the table of contents brings, which has names without quotes, and line feeds as spaces."""

    def __init__(self, manifest: Manifest) -> None:
        self._exact: dict[str, str] = {}
        self._beginnings: dict[str, str] = {}  # of extensions' tables, whose owners no fingerprint tells
        for name in manifest.fingerprint.tables:
            listed = " ".join(names(name)).replace("\n", " ") + " "
            owner = _OWNER.match(manifest.fingerprint.ownership.get(f"relation {name}", ""))
            if owner is None:
                self._beginnings[listed] = name
            else:
                self._exact[listed + unquoted(owner[1]).replace("\n", " ")] = name

    def of(self, rest: str) -> str | None:
        """The table that `schema table owner` means."""
        if rest in self._exact:
            return self._exact[rest]
        # A name, and one that goes on after a blank: the longer one is meant.
        fits = [listed for listed in self._beginnings if rest.startswith(listed)]
        return self._beginnings[max(fits, key=len)] if fits else None


def _key_as_listed(manifest: Manifest, name: str) -> str:
    key, table = _key_and_table(name)
    schema, relation = names(table)
    owner = _OWNER.match(manifest.fingerprint.ownership.get(f"relation {table}", ""))
    return " ".join((schema, relation, unquoted(key), unquoted(owner[1]) if owner else "")).replace("\n", " ")


def _key_and_table(name: str) -> tuple[str, str]:
    """A constraint's name and its table's, both as SQL writes them, of how a fingerprint names it."""
    match = _NAMED_KEY.fullmatch(name)
    return (match["key"], match["table"]) if match is not None else (name, "")


class _Ends:
    """Of foreign keys: which have both their ends among the wanted tables."""

    def __init__(self, manifest: Manifest, selection: Selection) -> None:
        self._manifest = manifest
        self._wanted = selection.tables | selection.partitioned
        self._below: dict[str, set[str]] = {}

    def are_wanted(self, key: str | None) -> bool:
        """Whether both are, of a key by the name that the fingerprint has for it; None: it has none."""
        if key is None:
            return False
        reference = _REFERENCES.search(self._manifest.fingerprint.structure["constraint"][key])
        return reference is not None and self._refers(_key_and_table(key)[1]) and self._is_whole(reference[1])

    def lead_out(self, key: str) -> bool:
        """Whether only what refers is wanted, and not all that is referred to."""
        return self._refers(_key_and_table(key)[1]) and not self.are_wanted(key)

    def _refers(self, table: str) -> bool:
        """Whether a table may have rows that refer to something: of a partitioned one some partitions are enough."""
        return table in self._wanted or not self._wanted.isdisjoint(self._partitions(table))

    def _is_whole(self, table: str) -> bool:
        """Whether all rows that may be referred to are there: of a partitioned one every partition's."""
        return table in self._wanted or (bool(found := self._partitions(table)) and self._wanted >= found)

    def _partitions(self, table: str) -> set[str]:
        if not _is_partitioned(self._manifest, table):
            return set()
        if table not in self._below:
            below = _with_descendants(self._manifest, {table})
            self._below[table] = below & self._manifest.fingerprint.tables.keys()
        return self._below[table]
