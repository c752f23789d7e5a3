"""What became of the rows that were written after the launch: told by what a replay put aside, and by the mapping."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from safepoint.postgres import pgoutput
from safepoint.postgres.connections import Connection
from safepoint.postgres.pgoutput import UNCHANGED
from safepoint.wayback.capture.changes import Change, Transaction
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.mapping.expressions import PERMISSIONS
from safepoint.wayback.mapping.mapping import NOT_CARRIED, TableRule, WayBack
from safepoint.wayback.mapping.since import as_named, with_since
from safepoint.wayback.replay.passed_over import KIND
from safepoint.wayback.replay.renamed import Renames, find_renames
from safepoint.wayback.replay.too_large import LEFT

Fate = Literal["carried", "carried in part", "stashed", "not carried"]
KEPT = "kept for the next launch"
"""How the reason of what was carried in part begins where all that is missing comes back."""
LATE: Final = "it was committed after writes had been stopped, by somebody whom the fence does not hold"
_READ: Final = "not it, but what a mapper reads for it was written to: "
Usual = Mapping[str, Mapping[str, Collection[str]]]
"""New table -> column -> the values, as the log writes them, of a row in which nobody filled the column in."""


class Fates:
    """What became of the rows that a replay did not carry whole. Made of its files; `reason` where it carried none, or
    none that was committed after `carried_to`.

    `partitions`: see `Outcome`. `until`: what it could carry was committed up to there; 0: all of the list.
    """

    def __init__(
        self,
        store: sqlite3.Connection,
        mapping: WayBack | None,
        new: Catalogue,
        reason: str | None,
        partitions: Mapping[str, str] | None = None,
        carried_to: int = 0,
        until: int = 0,
    ) -> None:
        new = new if mapping is None or (reason is not None and not carried_to) else as_named(mapping, new)
        self._store, self._new, self._reason, self._carried_to = store, new, reason, carried_to
        self._mapping, self._partitions, self._until = mapping, partitions or {}, until
        self._roots = {**new.roots, **self._partitions}
        self._feeds = {} if mapping is None else with_since(mapping, new).feeds
        self._olds = {} if mapping is None else {rule.old: rule.new for rule in mapping.tables}
        self._homeless = {} if mapping is None else mapping.stash
        self._kept = {} if mapping is None else mapping.kept
        self._aside: set[str] = set()
        self._dangling: set[str] = set()

    def load(self, put_aside: Path, dangling: Path | None = None) -> None:
        """Take in the lines of what was put aside, and of what was carried and names such a row."""
        with put_aside.open(encoding="utf-8") as file:
            for line in file:
                one = json.loads(line)
                relation = self._olds.get(one["relation"], one["relation"])
                # A row without a key is named by all of its values.
                key = _canonical(one["key"] or one["values"])
                row = (relation, key, one["xid"], one["action"], one["kind"], one["reason"], one.get("kept", False))
                self._aside.add(relation)
                whole = json.dumps({**one, "relation": relation}) if one.get("read") else None
                self._store.execute("INSERT INTO aside VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, whole))
        self._store.execute("CREATE INDEX aside_key ON aside (relation, key)")
        self._store.execute("CREATE INDEX aside_xid ON aside (relation, xid)")
        with dangling.open(encoding="utf-8") if dangling is not None else nullcontext(()) as lines:
            for line in lines:
                one = json.loads(line)
                relation = self._olds.get(one["relation"], one["relation"])
                self._dangling.add(relation)
                found = (relation, _canonical(one["key"]), one["reason"])
                self._store.execute("INSERT INTO dangling VALUES (?, ?, ?)", found)
        self._store.execute("CREATE INDEX dangling_key ON dangling (relation, key)")

    def renames(self, connection: Connection, spool: Path) -> Renames:
        """Which relations of a spool had other names for a time. `connection`: to the migrated database."""
        return find_renames(connection, spool, self._mapping, self._new, self._partitions)

    def unwritten(self) -> Iterator[Change]:
        """Rows that were put aside though nobody wrote to them, but to what a mapper reads for them: as changes of
        whoever did that. The spool has none of them."""
        query = "SELECT line FROM aside WHERE line IS NOT NULL ORDER BY place"
        for one in map(json.loads, (row[0] for row in self._store.execute(query))):
            at = one["committed_at"]
            moment = None if at is None else datetime.fromisoformat(at)
            schema, _, name = one["relation"].partition(".")
            columns = tuple(pgoutput.Column(column, 0, -1, column in one["key"]) for column in one["values"])
            yield Change(
                Transaction(one["xid"], pgoutput.parse_lsn(one["commit_lsn"]), moment),
                pgoutput.Relation(0, schema, name, "d", columns),
                "update",
                one["values"],
                {},
                one["key"],
            )

    def of(self, change: Change, usual: Usual) -> tuple[Fate, str]:
        """The fate of one change and the reason."""
        table = self._roots.get(change.table, change.table)
        if (left_out := self._left_out(change, table)) is not None:
            return left_out
        row = {**change.old, **change.new}
        known = self._new.tables.get(table)
        if table in self._homeless and known is not None:
            name = table.partition(".")[2]
            if name == PERMISSIONS and change.action not in ("delete", "truncate"):
                return "stashed", "the old database keeps its own permissions: kept for the next launch"
            if name in NOT_CARRIED:
                return "not carried", f"the old database keeps its own: {NOT_CARRIED[name]}"
            return "stashed", "the old release has no such table: kept for the next launch"
        rule = self._feeds.get(table)
        if rule is None:
            return self._unmapped(table, known is not None)
        if change.action == "truncate" and (why := self._staying(change, table)) is not None:
            return "carried in part", f"some of its rows stay: {why}"
        if change.action in ("delete", "truncate"):
            return "carried", ""
        known_values = usual.get(table, {})
        filled = [name for name in rule.stash if isinstance(row.get(name), str)]
        parts = [name for name in filled if row[name] not in known_values.get(name, ())]
        if table in self._dangling and (why := self._names_nothing(change, table)) is not None:
            also = [_kept(rule, parts)] if parts and LEFT not in why else []
            return "carried in part", "; ".join([why, *also])
        if not parts:
            also = [name for name in rule.read if isinstance(row.get(name), str)]
            where = f"{KEPT} where the old release cannot say it"
            return "carried", f"{where}: {', '.join(also)}" if also and rule.key else ""
        return "carried in part", _kept(rule, parts)

    def _left_out(self, change: Change, table: str) -> tuple[Fate, str] | None:
        """Why nothing of this change was carried; None where it was."""
        if self._reason is not None and not 0 < change.transaction.commit_lsn <= self._carried_to:
            return "not carried", self._reason
        if not change.transaction.commit_lsn:
            return "not carried", "the capture was lost before it was read"
        if 0 < self._until < change.transaction.commit_lsn:
            return "not carried", LATE
        aside = self._put_aside(change, table) if table in self._aside else None
        if aside is None:
            return None
        why, kept = aside
        return ("stashed", f"{why}: kept for the next launch") if kept else ("not carried", why)

    def _put_aside(self, change: Change, table: str) -> tuple[str, bool] | None:
        """Why this row was put aside, and whether it is kept; None where it was not."""
        known = self._new.tables.get(table)
        names, key = self._named(change, table)
        row = {**change.old, **change.new}
        why = self._asked(change, table, "key = :key AND (kind <> 'transaction' OR xid = :xid)", key)
        if why is None and change.action == "update" and change.old:
            # It got another key on its way to one that was put aside, and so it stays where it was.
            left = _canonical({name: change.old.get(name, row.get(name)) for name in names})
            why = self._asked(change, table, "key = :key AND action = 'delete' AND kind <> 'transaction'", left)
        if why is None and known is not None and not known.key:
            # What is not there any more cannot be told from other rows of its transaction.
            # Nor by its values, where these were too large to be written down.
            why = self._asked(change, table, "xid = :xid AND (kind = 'conflict' OR key = '{}')")
        return why

    def _named(self, change: Change, table: str) -> tuple[Sequence[str], str]:
        """The columns that name a changed row, and what it is named by them."""
        known = self._new.tables.get(table)
        names: Sequence[str] = ()
        if known is not None and change.action != "truncate":
            names = known.key or [column.name for column in known.written]
        row = {**change.old, **{name: value for name, value in change.new.items() if value is not UNCHANGED}}
        return names, _canonical({name: row.get(name) for name in names})

    def _names_nothing(self, change: Change, table: str) -> str | None:
        """Why this row names one that is not there, where it does."""
        values = {"table": table, "key": self._named(change, table)[1]}
        found = self._store.execute("SELECT reason FROM dangling WHERE relation = :table AND key = :key", values)
        return "; ".join(row[0] for row in found.fetchall()) or None

    def _staying(self, change: Change, table: str) -> str | None:
        """Why rows of an emptied table stay, where some do."""
        found = self._asked(change, table, "xid = :xid AND action = 'delete' AND kind <> 'transaction'")
        return None if found is None else found[0]

    def _asked(self, change: Change, table: str, which: str, key: str = "") -> tuple[str, bool] | None:
        """`which`: a condition of ours over `aside`, with an index for each; what comes from rows are its values."""
        values = {"table": table, "key": key, "xid": change.transaction.xid}
        said = f"CASE WHEN line IS NULL OR kind = '{KIND}' THEN reason ELSE '{_READ}' || reason END"
        query = f"SELECT {said}, kept FROM aside WHERE relation = :table AND {which} ORDER BY place DESC LIMIT 1"
        row = self._store.execute(query, values).fetchone()
        return None if row is None else (str(row[0]), bool(row[1]))

    def _unmapped(self, table: str, there: bool) -> tuple[Fate, str]:
        """A table that was none when the way back was proven, or is none any more."""
        name = table.partition(".")[2]
        if name in NOT_CARRIED and table in self._kept:  # a tenant's schema that was made since has its own
            return "carried", NOT_CARRIED[name]
        if there:
            return "stashed", "the table was made after the launch: kept for the next one"
        if table in self._homeless:
            return "not carried", "the table was dropped after the launch"
        return "not carried", "the table was made after the launch and is gone again, or is not the application's own"


def _kept(rule: TableRule, columns: Sequence[str]) -> str:
    return f"{KEPT if rule.key else 'not kept, as the table has no key'}: {', '.join(columns)}"


def _canonical(key: Mapping[str, Any]) -> str:
    return json.dumps(dict(key), sort_keys=True, ensure_ascii=True)
