"""Tables that are partitioned by the hash of an enum: a restore puts their rows into other partitions. Pure.

The hash of an enum's value is that of its object id, which is another one in each database. So pg_dump lets the rows
find their places anew (`forcePartitionRootLoad` in its source): what a copy has in common with its source are the rows
of all these partitions together.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

_BY_HASH: Final = re.compile(r"^partition by HASH \((?P<key>.*)\)$", re.MULTILINE)
_INHERITS: Final = re.compile(r"^inherits (?P<parent>.*)$", re.MULTILINE)
_IDENTIFIER: Final = r'(?:"(?:[^"]|"")+"|\w+)'
_NEVER: Final = re.compile(r"(?!)")


def groups(structure: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """By the name of a partition whose rows may be elsewhere in a copy: the name of the table that has them all.

    Args:
        structure: a fingerprint's.
    """
    relations = structure.get("relation", {})
    enums = _of_enums(structure.get("type", {}))
    by_hash = {name for name, text in relations.items() if _is_by_hash(text, enums)}
    above = {name: [one for one in _above(name, relations) if one in by_hash] for name in relations if by_hash}
    return {name: found[-1] for name, found in above.items() if found}


def _of_enums(types: Mapping[str, str]) -> re.Pattern[str]:
    """Finds the columns, in the definition of their table, that are enums or domains over these."""
    names = {name for name, text in types.items() if text.startswith("enum ")}
    more = names
    while more:
        names = names | more
        more = {name for name, text in types.items() if _is_over(text, names)} - names
    kinds = "|".join(map(re.escape, names))
    return re.compile(rf"^(?P<column>{_IDENTIFIER}) (?:{kinds})(?: |$)", re.MULTILINE) if names else _NEVER


def _is_over(text: str, names: Collection[str]) -> bool:
    return any(text == f"domain {name}" or text.startswith(f"domain {name} ") for name in names)


def _is_by_hash(text: str, enums: re.Pattern[str]) -> bool:
    """Whether a table is partitioned by a hash in which an enum has a part."""
    match = _BY_HASH.search(text)
    return match is not None and any(one["column"] in match["key"] for one in enums.finditer(text, match.end()))


def _above(name: str, relations: Mapping[str, str]) -> Iterator[str]:
    """What it is a partition of, the nearest first."""
    while (match := _INHERITS.search(relations.get(name, ""))) is not None:
        name = match["parent"]
        yield name
