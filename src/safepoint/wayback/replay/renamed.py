"""Tables and columns that had another name for a time after the launch, and have their own again.

What was captured meanwhile has the other name, and is theirs all the same: a relation's number stays, and so does the
order of its columns. What only takes a table's name (a copy that is put into its place) has another number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.postgres.pgoutput import Relation
from safepoint.wayback.capture.spool import read_header
from safepoint.wayback.capture.triggers import THERE
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.mapping import WayBack

# Numbers are given out in turn: what was there before the publication has a lower one. Where they have begun anew in
# the meantime, after four billion, changes keep the names that they were captured with.
_BY_LOG: Final = "SELECT oid FROM pg_class WHERE oid < (SELECT oid FROM pg_publication WHERE pubname = %s)"
# Partitions that came later have a shape that is theirs since then.
_BY_TRIGGERS: Final = """
SELECT relation FROM safepoint_capture.shapes s WHERE NOT later AND coalesce((to_jsonb(s) ->> 'since')::int8, 0) = 0
"""
_TABLES: Final = """
SELECT c.oid::int8, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid IN ({then})
"""
# A column that was dropped keeps its place; one that was before the capture began (the launch removed it, say) is no
# column that changes were captured of.
_PLACES: Final = """
SELECT a.attname, a.attisdropped, a.attgenerated <> ''
FROM pg_attribute a CROSS JOIN (
    SELECT greatest((SELECT age(xmin) FROM pg_publication WHERE pubname = %s),
                    (SELECT age(xmin) FROM pg_namespace WHERE nspname = 'safepoint_capture')) AS began) b
WHERE a.attrelid = %s AND a.attnum > 0
  AND NOT (a.attisdropped AND coalesce(age(a.xmin) > b.began, false))
ORDER BY a.attnum
"""


@dataclass(frozen=True)
class Renames:
    """`there`: by number the schema and name of relations that were there when the capture began. `roots`: by name the
    table that a relation's rows belong to; `needed`: by table the columns that the way back is about. `slot`: the
    capture's, and its publication's. `numbers`: see `by_number`."""

    connection: Connection
    slot: str
    new: Catalogue
    roots: Mapping[str, str]
    needed: Mapping[str, Collection[str]]
    there: Mapping[int, tuple[str, str]]
    numbers: Mapping[int, str] = field(default_factory=dict)
    _found: dict[Relation, Relation] = field(default_factory=dict)

    @property
    def gone(self) -> dict[str, str]:
        """By names that partitions had only until they were dropped, the tables that they were of."""
        those = ((was, now) for was, now in self._found.items() if was.oid in self.numbers)
        found = ((was.qualified, self.roots.get(now.qualified)) for was, now in those)
        return {name: root for name, root in found if root is not None and name not in self.roots}

    def now(self, relation: Relation) -> Relation:
        """The relation with the names of now; as it is, where it has been called so all along or nobody knows."""
        if relation not in self._found:
            self._found[relation] = self._columns(self._table(relation))
        return self._found[relation]

    def shown(self, relation: Relation) -> Relation:
        """The same by a name that it has: what it was called when it was captured may be nothing's name any more."""
        now, there = self.now(relation), self.there.get(relation.oid)
        if there is None or now.qualified in self.new.roots:
            return now
        return replace(now, schema=there[0], name=there[1])

    def away(self, tables: Iterable[str]) -> set[str]:
        """Which of these have a name now that the way back does not know, and were there when the capture began."""
        then = {self.roots.get(".".join(one), ".".join(one)) for one in self.there.values()}
        return (then & set(tables)) - self.needed.keys()

    def _table(self, relation: Relation) -> Relation:
        if (leaf := self.numbers.get(relation.oid)) is not None:
            schema, _, name = leaf.partition(".")
            return replace(relation, schema=schema, name=name)
        schema, name = self.there.get(relation.oid, (relation.schema, relation.name))
        root = self.roots.get(f"{schema}.{name}")
        if root not in self.needed or root == self.roots.get(relation.qualified):
            return relation
        return replace(relation, schema=schema, name=name)

    def _columns(self, relation: Relation) -> Relation:
        """What stands where a column of another name stood is that column: nobody else gets its place. Whether it is
        the same one behind a column that was dropped meanwhile nobody can say."""
        root = self.roots.get(relation.qualified, "")
        names = [column.name for column in relation.columns]
        known = self.new.tables[root].by_name if root in self.needed else {}
        needed = set(self.needed.get(root, ()))
        if relation.oid not in self.there or not needed or known.keys() >= set(names):
            return relation
        places = self.connection.execute(_PLACES, [self.slot, relation.oid]).fetchall()
        places = [one for one in places if one[0] in names or not one[2]]
        at, now = 0, dict[str, str]()
        for name in names:
            if name in known:
                at = 1 + next((place for place, one in enumerate(places) if one[0] == name), len(places))
            elif at < len(places) and not places[at][1] and places[at][0] not in names and name not in needed:
                now[name] = places[at][0]
                at += 1
        columns = tuple(replace(column, name=now.get(column.name, column.name)) for column in relation.columns)
        return replace(relation, columns=columns)


def names_now(connection: Connection, spool: Path) -> dict[int, tuple[str, str]]:
    """Schema and name of the relations that were there when this spool's capture began, by their numbers."""
    slot = str(read_header(spool)[0].get("slot", ""))
    then = f"{_BY_LOG} UNION ALL {_BY_TRIGGERS}" if connection.execute(THERE).fetchone() == (True,) else _BY_LOG
    rows = connection.execute(_TABLES.format(then=then).encode(), [slot]).fetchall()
    return {int(oid): (schema, name) for oid, schema, name in rows}


def find_renames(
    connection: Connection,
    spool: Path,
    mapping: WayBack | None,
    new: Catalogue,
    partitions: Mapping[str, str],
    numbers: Mapping[int, str] | None = None,
) -> Renames:
    """What was there when this spool's capture began. `connection`: to the migrated database."""
    needed: dict[str, Collection[str]] = {}
    if mapping is not None:
        needed = {name: () for name in mapping.stash if name in new.tables}
        needed |= {
            rule.new: {*rule.kept, *(one.new for one in rule.columns if one.new and one.kind != "generated")}
            for rule in mapping.tables
            if rule.new in new.tables
        }
    slot = str(read_header(spool)[0].get("slot", ""))
    there = names_now(connection, spool) if needed else {}
    return Renames(connection, slot, new, {**new.roots, **partitions}, needed, there, numbers or {})
