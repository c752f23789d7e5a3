"""What a database contains, as a value that can be compared: rows by content, structure, owners, grants, settings.

Two databases with equal fingerprints give the same `COPY` output for each table (in some order of rows), and were
made by the same definitions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from safepoint.backup.definitions import normal_form, own_name
from safepoint.backup.members import altered, is_member
from safepoint.backup.particulars import OF_ONE_VERSION, settled
from safepoint.backup.scattered import groups
from safepoint.backup.sequence_prints import SequencePrint, of_parts, set_back
from safepoint.backup.undumped import KIND as UNDUMPED
from safepoint.backup.undumped import lost as lost_of
from safepoint.backup.unshown import items, value_of
from safepoint.errors import ProofFailed
from safepoint.postgres.rows import added

# How tables are hashed (since 2), definitions written down (since 3), and which of them (since 4 and 5). Of older
# formats there are snapshots still: those are compared as they were taken.
FORMAT = 5
FORMATS = (1, 2, 3, 4, 5)
# Of a user mapping: there may be options, but the login is not shown them, and so its dump has none.
UNSEEN = "options that are not shown to this login"
_SHOWN = 200
_LITERAL = re.compile(r"('(?:[^']|'')*')")
_CAST = re.compile(
    r"::(?:\"[^\"]+\"|[a-z_]\w*)(?:\.(?:\"[^\"]+\"|\w+))?(?: varying| precision)?(?:\(\d+(?:, ?\d+)?\))?"
    r"(?: with(?:out)? time zone)?(?:\[\])*"
)
_NAMED_CAST = re.compile(rf"({_CAST.pattern}) AS \"?(\w+)\"?(?!\w)")
# What is text as it was given, or made of names: equal only where it is the same.
_AS_WRITTEN = frozenset(
    {"comment", "object", "sequence definition", "event trigger", "encoding", "owner and grants of", "setting", "role"}
    | {"user mapping", "storage", "inside of type", "inside of aggregate", "dependence", "security label"}
)
_Written = Callable[[str, str], str]
"""Of a kind and a text, what is equal in two that say the same."""


@dataclass(frozen=True)
class TablePrint:
    """One relation that stores rows. `content` is 128 bits, as 32 hexadecimal digits; it ignores the rows' order."""

    rows: int
    content: str

    def __str__(self) -> str:
        return f"{self.rows:,} rows, content {self.content}"


@dataclass(frozen=True)
class Difference:
    """One thing that two databases do not have in common. None: it is not there at all."""

    kind: str
    name: str
    expected: str | None
    found: str | None

    def as_json(self) -> dict[str, str | None]:
        """For the ledger and `--json`."""
        return {"kind": self.kind, "name": self.name, "expected": self.expected, "found": self.found}

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.kind} {self.name} is missing"
        if self.expected is None:
            return f"{self.kind} {self.name} is there and should not be"
        return f"{self.kind} {self.name}: expected {_cut(self.expected)}, found {_cut(self.found)}"


@dataclass(frozen=True)
class Fingerprint:
    """What a database contains. Names are `schema.name`, quoted where SQL needs it.

    `structure` has definitions by kind ("table", "index", "function", ...) and name; `ownership` owners and grants
    by object; `settings` what ALTER DATABASE / ALTER ROLE IN DATABASE SET says; `roles` those that the database
    refers to, with attributes and memberships; `extensions` name to version.
    """

    server_version_num: int
    encoding: str
    tables: Mapping[str, TablePrint]
    sequences: Mapping[str, SequencePrint]
    large_objects: TablePrint
    structure: Mapping[str, Mapping[str, str]]
    ownership: Mapping[str, str]
    extensions: Mapping[str, str]
    settings: Mapping[str, str]
    roles: Mapping[str, str]
    format: int = FORMAT

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables.values())

    @property
    def digest(self) -> str:
        """SHA-256 over everything in it that must be equal in a faithful copy, as 64 hexadecimal digits."""
        facts = {
            "format": self.format,
            "encoding": self.encoding,
            "tables": {name: [table.rows, table.content] for name, table in self.tables.items()},
            "sequences": {name: [s.last, s.called] for name, s in self.sequences.items()},
            "large_objects": [self.large_objects.rows, self.large_objects.content],
            "structure": {
                kind: texts
                for kind, found in self.structure.items()
                if (
                    texts := {
                        name: self._digested(kind, text)
                        for name, text in found.items()
                        if kind != UNDUMPED or not is_member(text)
                    }
                )
            },
            "ownership": dict(self.ownership),
            "extensions": sorted(self.extensions),
            "settings": dict(self.settings),
            "roles": dict(self.roles),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def _digested(self, kind: str, text: str) -> str:
        return normalised(text) if self.format < 3 else _compared(kind, text)

    def with_later(self, later: Mapping[str, SequencePrint]) -> Fingerprint:
        """The same, with where its sequences had got to when the dump was done: they obey no snapshot."""
        moved = {
            name: replace(state, until=(later[name].last, later[name].called))
            if name in later and (later[name].last, later[name].called) != (state.last, state.called)
            else state
            for name, state in self.sequences.items()
        }
        return replace(self, sequences=moved)

    def as_json(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {
            "format": self.format,
            "digest": self.digest,
            "server_version_num": self.server_version_num,
            "encoding": self.encoding,
            "tables": {name: [table.rows, table.content] for name, table in self.tables.items()},
            "sequences": {
                name: [s.last, s.called] if s.until is None else [s.last, s.called, *s.until]
                for name, s in self.sequences.items()
            },
            "large_objects": [self.large_objects.rows, self.large_objects.content],
            "structure": {kind: dict(found) for kind, found in self.structure.items()},
            "ownership": dict(self.ownership),
            "extensions": dict(self.extensions),
            "settings": dict(self.settings),
            "roles": dict(self.roles),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fingerprint:
        """Read it back.

        Raises:
            ProofFailed: it was written by a newer version, or is damaged.
        """
        if data.get("format") not in FORMATS:
            raise ProofFailed(
                "This fingerprint was written by another version of Safepoint.",
                expected=f"format {FORMATS[0]} to {FORMATS[-1]}",
                found=f"format {data.get('format')}",
                remedy="Use the version of Safepoint that took the snapshot, or a newer one.",
            )
        try:
            read = cls(
                server_version_num=data["server_version_num"],
                encoding=data["encoding"],
                tables={name: TablePrint(*parts) for name, parts in data["tables"].items()},
                sequences={name: of_parts(parts) for name, parts in data["sequences"].items()},
                large_objects=TablePrint(*data["large_objects"]),
                structure=data["structure"],
                ownership=data["ownership"],
                extensions=data["extensions"],
                settings=data["settings"],
                roles=data["roles"],
                format=data["format"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ProofFailed(f"The fingerprint is damaged: {error!r}.", remedy="Take a new snapshot.") from None
        if read.digest != data.get("digest"):
            raise ProofFailed(
                "The fingerprint was changed after it was written.",
                expected=str(data.get("digest")),
                found=read.digest,
                remedy="Do not trust this snapshot; take a new one.",
            )
        return read


def compare(expected: Fingerprint, found: Fingerprint, *, unfilled: Collection[str] = ()) -> tuple[Difference, ...]:
    """Everything in which a copy differs from its source; empty means that it is faithful.

    Not compared, because a faithful copy elsewhere may differ in it: extensions' versions, locales and the versions
    of collations. Definitions are written anew by each major version: between two, only names are compared. And what
    no dump has (see `undumped`) is none of a copy's faults.

    Args:
        unfilled: materialised views that have data in the source, and not in the copy (see `refreshing`).

    Raises:
        ValueError: they were taken in different formats, so that their tables cannot be compared.
    """
    if expected.format != found.format:
        raise ValueError(f"fingerprints of formats {expected.format} and {found.format} cannot be compared")
    texts = expected.server_version_num // 10000 == found.server_version_num // 10000
    written: _Written = _compared if expected.format > 2 else _canonical
    differences = [
        *_texts("encoding", {"of the database": expected.encoding}, {"of the database": found.encoding}, written),
        *_missing("extension", expected.extensions, found.extensions),
        *_tables(expected, found),
        *_sequences(expected, found),
    ]
    for kind in sorted({*expected.structure, *found.structure} - {UNDUMPED, *(() if texts else OF_ONE_VERSION)}):
        ours, theirs = expected.structure.get(kind, {}), found.structure.get(kind, {})
        if kind == "user mapping":
            ours, theirs = _seen(ours, theirs), _seen(theirs, ours)
        if kind == "relation":
            theirs = {name: _filled(text) if name in unfilled else text for name, text in theirs.items()}
        if kind == "object":
            ours, theirs = _without_public(ours), _without_public(theirs)
        differences += _texts(kind, ours, theirs, written) if texts else _missing(kind, ours, theirs)
    grants = (expected.ownership, found.ownership) if texts else (_older(expected.ownership), _older(found.ownership))
    differences += _texts("owner and grants of", *settled(*grants), written)
    differences += _texts("setting", expected.settings, found.settings, written)
    roles = {name: found.roles.get(name, "(none)") for name in expected.roles}
    differences += _texts("role", expected.roles, roles, written)
    return tuple(differences)


def _compared(kind: str, text: str) -> str:
    """What two texts have in common that say the same, since format 3."""
    return text if kind in _AS_WRITTEN else normal_form(text)


def normalised(definition: str) -> str:
    """The same up to format 2: without any parentheses and casts, so that some that differed were equal.

    `status in ('a', 'b')` on a varchar column comes back with its casts and parentheses elsewhere. A constant without a
    name within a view is written `'x'::text`, and comes back named after its type. Text in quotes is left as it is.
    """
    parts = _LITERAL.split(definition)
    for place in range(0, len(parts), 2):
        words = _NAMED_CAST.sub(_without_own_name, parts[place])
        words = re.sub(r"[\s()]+", " ", _CAST.sub("", words))
        parts[place] = re.sub(r" ?([^\w ]) ?", r"\1", words).strip()
    return "".join(parts)


def _without_own_name(cast: re.Match[str]) -> str:
    """A cast, without the name that its type gave."""
    return cast[1] if cast[2] == own_name(cast[1].removeprefix("::")) else cast[0]


def gathered(tables: Mapping[str, TablePrint], whole: Mapping[str, str]) -> dict[str, TablePrint]:
    """The same, with partitions as one whose rows a restore puts elsewhere (see `scattered`). Pure.

    Args:
        whole: names by partition.
    """
    result: dict[str, TablePrint] = {}
    for name, table in tables.items():
        before = result.get(key := whole.get(name, name))
        result[key] = (
            table if before is None else TablePrint(before.rows + table.rows, added(before.content, table.content))
        )
    return result


def _tables(expected: Fingerprint, found: Fingerprint) -> list[Difference]:
    whole = groups(expected.structure)
    ours, theirs = gathered(expected.tables, whole), gathered(found.tables, whole)
    ours["(all)"], theirs["(all)"] = expected.large_objects, found.large_objects
    result = []
    for name in sorted({*ours, *theirs}):
        kind = "large objects" if name == "(all)" else "table"
        mine, other = ours.get(name), theirs.get(name)
        if mine != other:
            result.append(
                Difference(kind, name, None if mine is None else str(mine), None if other is None else str(other))
            )
    return result


def _sequences(expected: Fingerprint, found: Fingerprint) -> list[Difference]:
    result = []
    for name in sorted({*expected.sequences, *found.sequences}):
        mine, other = expected.sequences.get(name), found.sequences.get(name)
        defined = expected.structure.get("sequence definition", {}).get(name, "")
        if mine is None or other is None or not mine.holds(other, definition=defined):
            result.append(
                Difference("sequence", name, None if mine is None else str(mine), None if other is None else str(other))
            )
    return result


def _texts(kind: str, ours: Mapping[str, str], theirs: Mapping[str, str], written: _Written) -> list[Difference]:
    result = []
    for name in sorted({*ours, *theirs}):
        mine, other = ours.get(name), theirs.get(name)
        if mine != other and (mine is None or other is None or written(kind, mine) != written(kind, other)):
            result.append(Difference(kind, name, _shown(kind, name, mine), _shown(kind, name, other)))
    return result


def _shown(kind: str, name: str, text: str | None) -> str | None:
    """A text as it may be told: some are secrets."""
    return value_of(name, text) if kind == "setting" else items(text) if kind == "role" else text


def unseen(found: Fingerprint) -> tuple[str, ...]:
    """What a snapshot lacks because its login was not shown it, as a sentence for who restores it; or nothing."""
    names = [name for name, text in found.structure.get("user mapping", {}).items() if text == UNSEEN]
    if not names:
        return ()
    return (
        "the login that took the snapshot was not shown the options (passwords, perhaps) of these user mappings, so a "
        f"restore has none: {', '.join(names)}. Set them there again (ALTER USER MAPPING ... OPTIONS), or let a "
        "superuser take the snapshots",
    )


def lost(expected: Fingerprint, found: Fingerprint) -> tuple[str, ...]:
    """What a copy lacks because no dump has it, or has of a later moment, as sentences; or nothing."""
    definitions = expected.structure.get("sequence definition", {})
    ours, theirs = expected.structure.get(UNDUMPED, {}), found.structure.get(UNDUMPED, {})
    members = {name: text for name, text in ours.items() if is_member(text)}
    alike = expected.server_version_num // 10000 == found.server_version_num // 10000
    return (
        *lost_of(ours, theirs),
        *(altered(members, theirs, expected.extensions, found.extensions) if alike else ()),
        *set_back(expected.sequences, found.sequences, definitions),
    )


def _seen(ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    """Texts of user mappings as both sides were shown them."""
    return {name: UNSEEN if UNSEEN in (text, theirs.get(name)) else text for name, text in ours.items()}


def _filled(view: str) -> str:
    return view.replace("materialised view without data", "materialised view", 1)


def _without_public(objects: Mapping[str, str]) -> dict[str, str]:
    """Objects without the schema `public`, of which its grants tell that it is there.

    Up to format 3 it stood here as well, where somebody had dropped it and made it again.
    """
    return {name: text for name, text in objects.items() if name != "schema public"}


def _canonical(_kind: str, definition: str) -> str:
    """Normalised, as up to format 2; of an inheriting table without the order of its columns.

    A restore cannot keep it, and snapshots of former versions tell it: see `structure._INHERITED`.
    """
    lines = definition.split("\n")
    if lines[0].startswith("table") and any(line.startswith("inherits ") for line in lines):
        lines.sort()
    return normalised("\n".join(lines))


def _missing(kind: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[Difference]:
    gone = [Difference(kind, name, ours[name], None) for name in sorted({*ours} - {*theirs})]
    return gone + [Difference(kind, name, None, theirs[name]) for name in sorted({*theirs} - {*ours})]


def _older(ownership: Mapping[str, str]) -> dict[str, str]:
    """Grants without MAINTAIN, which PostgreSQL 17 added to what ALL means."""
    return {name: re.sub(r", [^,]+=maintain\\*?(?=,|;|$)", "", text) for name, text in ownership.items()}


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
