"""What must be in the twins of an entangled world (`twofold_plays`), and whether it is. Nothing is written here, but by
the next launch at the end."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odd_worlds import quoted
from twofold_rows import ORPHANS, SCHEMAS, SEQUENCES, Row, attempt, bare, brief, difference, keys_of, lines_of, rows_of
from twofold_schemas import World
from twofold_worlds import Column, Table

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import Gathering, Telling, catalogue_of
from safepoint.wayback.affected.fates import Fates
from safepoint.wayback.affected.written import list_written
from safepoint.wayback.capture.changes import Change
from safepoint.wayback.capture.spool import read_changes
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.replay.manner import Policy
from safepoint.wayback.replay.outcome import Outcome
from safepoint.wayback.replay.renamed import find_renames
from safepoint.wayback.stash.reattach import reattach
from safepoint.wayback.stash.stash import keep_stash


@dataclass
class Truth:
    """`shadow`: the database that knows; `began`: the rows that were there before, with their partitions; `folder` has
    the spool of the triggers, and what each replay left."""

    world: World
    live: Target
    shadow: Target
    folder: Path
    mapping: WayBack
    policy: Policy
    tally: Counter[str]
    began: dict[str, Counter[Row]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.had = {table.name: self._keys(self.live.on(f"{self.live.dbname}_log"), table) for table in self._unlike()}
        self.has = {table.name: self._keys(self.live, table) for table in self._unlike()}
        self.began = {table.now: _with_leaves(self.live, table) for table in self.world.tables}

    def _unlike(self) -> list[Table]:
        """Tables of which a migration may have added or removed rows."""
        return [one for one in self.world.tables if self.world.unlike and one.name and one.keyed]

    def _keys(self, target: Target, table: Table) -> set[Row]:
        there = target != self.live
        names = [str(one.name if there else one.now) for one in table.key]
        return set(rows_of(target, table.name if there else table.now, [quoted(one) for one in names]))

    def alike(self, outs: dict[str, Outcome]) -> None:
        """Both captures lead to the same, and so do batches; of rows that only one of can stay, another one may."""
        # Of rows without a key that came and went again nothing is left that a transaction could be known by.
        counts = {
            name: (one.transactions, one.carried + one.stashed, one.partly, one.not_carried)
            for name, one in outs.items()
        }
        aside = any(one.put_aside for one in outs.values())
        assert len({one[0] for one in counts.values()}) == 1, counts
        if aside:
            self.tally["with rows put aside"] += 1
            return
        assert len(set(counts.values())) == 1, counts
        stashes = {name: _stash(self.folder / f"{name}.out") for name in outs}
        assert stashes["log"] == stashes["trg"], difference(stashes["log"], stashes["trg"])
        assert stashes["log"] == stashes["bat"], difference(stashes["log"], stashes["bat"])

    def is_true(self, twin: Target, name: str, outcome: Outcome) -> None:
        """Each row of the shadow is in the twin, or told; none is there that it has not, but those that are told."""
        told = lines_of(self.folder / f"{name}.out" / "put-aside.jsonl")
        assert len(told) == outcome.put_aside, (len(told), outcome.put_aside)
        assert self.world.relaxes or not told, (name, told[:3])
        if self.policy == "transaction" and told and not self.world.unlike:
            self._transactions_are_true(twin, name)
            return
        for table in self.world.tables:
            if table.name:
                self._table_is_true(twin, name, table, [one for one in told if one["relation"] == table.old])

    def _transactions_are_true(self, twin: Target, name: str) -> None:
        """What came of carrying out, one by one, the transactions that were not put aside."""
        told = lines_of(self.folder / f"{name}.out" / "put-aside.jsonl")
        left = {one["xid"] for one in told}
        whole = {one["xid"] for one in told if one["kind"] == "transaction"}
        assert left == whole, (
            "rows of a transaction that is carried",
            left - whole,
            [one for one in told if one["xid"] in left - whole][:3],
            told[:3],
        )
        tables = {
            leaf: table for table in self.world.tables for leaf in (*table.leaves, *table.detached) or (table.now,)
        }
        rows = {now: Counter(had) for now, had in self.began.items()}
        for change in self._changes():
            relation = bare(change.table)
            table = None if change.table.startswith("side.") else tables.get(relation)
            if table is None or change.transaction.xid in left:
                continue
            had, leaf = rows[table.now], relation
            old, new = (_whole(table, one, leaf) for one in (change.old, change.new))
            if change.action == "truncate":
                for one in [one for one in had if one[0] == leaf]:
                    del had[one]
                continue
            if change.action == "update" and old == new and not table.keyed:  # one of those that are alike, as before
                continue
            if change.action != "insert":
                assert had[old] > 0, (
                    "a carried transaction changes a row that is not so",
                    name,
                    change.table,
                    brief(Counter([old])),
                    [brief(Counter([one])) for one, times in had.items() if times and one[1:3] == old[1:3]],
                    told[:3],
                )
                had[old] -= 1
            if change.action != "delete":
                had[new] += 1
        self._came_of(rows, twin, name, told)
        self.tally["transactions put aside"] += len(left)

    def _came_of(
        self, rows: Mapping[str, Counter[Row]], twin: Target, name: str, told: Sequence[dict[str, Any]]
    ) -> None:
        """The twin has these rows of each table, and no others."""
        for table in self.world.tables:
            if not table.name:
                continue
            some = [one for one in table.columns if one.name and one.now]
            olds = [
                f"{quoted(one.name)}::{one.now_type}" if one.now_type != one.type else quoted(one.name) for one in some
            ]
            there = rows_of(twin, table.name, olds)
            places = [place for place, one in enumerate(self._began_with(table)) if one.name]
            truth = Counter[Row]()
            for row, times in rows[table.now].items():
                truth[tuple(row[1 + place] for place in places)] += times
            assert +truth == there, (
                name,
                table.name,
                "missing",
                brief(truth - there),
                "too much",
                brief(there - truth),
                told[:4],
            )

    def _changes(self) -> Iterator[Change]:
        spool = self.folder / "triggers"
        with connect(self.live) as connection:
            yield from read_changes(
                spool, find_renames(connection, spool, self.mapping, read_catalogue(connection), {}).now
            )

    def _began_with(self, table: Table) -> list[Column]:
        return [one for one in table.current if not str(one.now).startswith("since ")]

    def _table_is_true(self, twin: Target, name: str, table: Table, told: list[dict[str, Any]]) -> None:
        # Of rows without a key, those that are alike are as good as one another.
        some = [one for one in table.columns if one.name and (table.keyed or one.now or one.seen)]
        if (
            table.kind == "deep"
        ):  # which row it was nobody can tell where partitions go by all of the key: see `design.md`
            some = [one for one in some if one.now or one.seen]
        news = [one.seen or f"new.{quoted(one.now or one.name)}" for one in some]
        olds = [f"{quoted(one.name)}::{one.now_type}" if one.now_type != one.type else quoted(one.name) for one in some]
        truth, there = rows_of(self.shadow, table.now, news), rows_of(twin, table.name, olds)
        places = [some.index(one) for one in table.key]
        for leaf in table.detached:  # what was in it is the table's; which it is of two with one key nobody can say
            apart = rows_of(self.shadow, leaf, news)
            double = keys_of(truth, places) & keys_of(apart, places)
            truth, there = (
                Counter({row: n for row, n in rows.items() if tuple(row[one] for one in places) not in double})
                for rows in (truth + apart, there)
            )
            told = [one for one in told if tuple(one["key"].get(str(key.now)) for key in table.key) not in double]
        self.tally["rows compared"] += truth.total()
        if (truth == there and not told) or (self.world.unlike and not table.keyed):
            return
        found = (name, table.name, "missing", brief(truth - there), "too much", brief(there - truth), told[:5])
        if not table.keyed:
            assert told, found
            return
        keys = [str(one.now) for one in table.key]
        listed = Counter((tuple(one["key"].get(key) for key in keys), one["action"]) for one in told)
        groups = any(one["kind"] == "transaction" for one in told)  # a constraint trigger asks for whole ones
        if any(one["action"] == "truncate" for one in told):  # whose rows nobody counts
            return
        assert max(listed.values(), default=1) == 1 or groups, ("listed twice", listed, found)
        missing, staying = (keys_of(rows, places) for rows in (truth - there, there - truth))
        if table.name in self.had:  # the twin is without rows that were added, and with those that were removed
            missing -= self.has[table.name] - self.had[table.name]
            staying -= self.had[table.name] - self.has[table.name]
            named, gone = (
                {key for key, action in listed if groups or (action == "delete") == one} for one in (False, True)
            )
            assert missing <= named and staying - missing <= gone, (missing - named, staying - gone, found)
            return
        if groups:
            aside = {key for key, _ in listed}
            assert missing | staying <= aside, ("not told", (missing | staying) - aside, found)
            return
        named = {key for key, action in listed if action != "delete"}
        gone = {key for key, action in listed if action == "delete"}
        idle = keys_of(truth & there, places)  # an UPDATE that changed nothing
        self.tally["told though nothing is missing"] += len(named & idle)
        assert missing == named - idle, ("rows that are not there", missing ^ named, found)
        assert staying - missing == gone, ("rows that stay", (staying - missing) ^ gone, found)
        self.tally["told"] += len(told)

    def holds(self, twin: Target) -> None:
        """What the silent triggers would have looked after: foreign keys, and rules that may be broken for a while."""
        with connect(twin) as connection:
            for schema in SCHEMAS.split(", "):
                connection.execute(f"reindex schema {schema}".encode())
            for (query,) in connection.execute(ORPHANS).fetchall():
                row = connection.execute(query.encode()).fetchone()
                assert row == (0,), (query, row)

    def decoys(self, twin: Target, run: str) -> None:
        """Tables that only have another one's name: as they are, but for what is put aside of them, with its
        transaction perhaps."""
        told = lines_of(self.folder / f"{run}.out" / "put-aside.jsonl")
        aside = {(one["relation"], one["key"]["id"]) for one in told if "id" in one["key"]}
        for name in self.world.decoys:
            query = f'select * from side.{quoted(name)} order by "id"'.encode()
            with connect(twin) as old, connect(self.live) as new:
                differ = set(old.execute(query).fetchall()) ^ set(new.execute(query).fetchall())
                missing = {row for row in differ if (f"side.{name}", str(row[0])) not in aside}
                assert not missing, ("a namesake", name, missing, told[:5])

    def sequences(self, twin: Target) -> None:
        news = {table.name: table for table in self.world.tables if table.name}
        with connect(twin) as old, connect(self.live) as new:
            there = {(row[0], row[1]): row[2] for row in new.execute(SEQUENCES).fetchall()}
            for relation, column, last in old.execute(SEQUENCES).fetchall():
                table = news[relation]
                now = next(one.now for one in table.columns if one.name == column)
                given = there[table.now, now]
                assert given is None or (last is not None and last >= given), (relation, column, last, given)

    def stashed(self, name: str) -> None:
        """What has no home in the old schema is in the stash as it is now: all of it, and nothing else."""
        stash = lines_of(self.folder / f"{name}.out" / "stash.jsonl")
        told = lines_of(self.folder / f"{name}.out" / "put-aside.jsonl")
        if (self.policy == "transaction" and told) or any(one["kind"] == "transaction" for one in told):
            return  # it is that of the transactions that were carried
        aside = {(one["relation"], tuple(sorted(one["key"].items()))) for one in told}
        for table in self.world.tables:
            kept = [one for one in table.current if not (one.name and table.name) and not one.derived]
            if not kept or not table.keyed or table.detached:
                continue
            keys, names = [str(one.now) for one in table.key], [str(one.now) for one in kept]
            rows = rows_of(self.live, table.now, [quoted(one) for one in (*keys, *names)])
            now = {row[: len(keys)]: row[len(keys) :] for row in rows}
            lines = [one for one in stash if one["relation"] == table.new and one["action"] in ("insert", "update")]
            was = {  # one that got another key is named by the one that it had
                tuple(one["values"].get(key, one["key"][key]) for key in keys): tuple(
                    one["values"].get(each, "usual" if each[:6] == "since " else None) for each in names
                )
                for one in lines
            }
            assert len(was) == len(lines), ("stashed twice", table.now, lines)
            assert was.items() <= now.items(), ("stashed, and not so", table.now, was.items() - now.items())
            usual = () if not table.name else tuple(eval(one.default) for one in kept)
            added = self.has.get(table.name, set()) - self.had.get(table.name, set())
            for key, values in now.items() if not table.moved else ():
                lost = (table.old, tuple(sorted(zip(keys, key, strict=True)))) in aside
                assert key in was or values == usual or lost or key in added, ("not stashed", table.now, key, values)
            self.tally["stashed rows"] += len(was)

    def attached_again(self, twin: Target, launch_id: str) -> None:
        """The next launch migrates the last twin once more, and gets back what was stashed: then all is as it was."""
        rows = self.folder / "bat.out" / "stash.jsonl"
        words = (self.folder, launch_id, "2.0", rows, self.live, self.mapping)
        stash = keep_stash(*words, spool=self.folder / "log", owner="twofold/twofold")
        if stash is None:
            return
        with connect(twin) as connection:
            connection.execute("drop schema safepoint cascade")
            old = read_catalogue(connection)
            for statement, _ in self.world.steps:
                assert attempt(connection, statement) is None, statement
        done = reattach(twin, old, [stash], {}, launch_id="twofold-3", out=self.folder / "left.jsonl")
        for table in self.world.tables:
            if table.moved or table.detached:  # the migration makes its rows of the old values; it has more of them
                continue
            some = [quoted(str(one.now)) for one in table.current if not str(one.now).startswith("since ")]
            there, truth = (rows_of(target, table.now, some) for target in (twin, self.live))
            found = (table.now, "missing", brief(truth - there), "too much", brief(there - truth), done)
            assert not table.keyed or there == truth, ("attached again", found)
        self.tally["attached again"] += done.values + done.rows

    def listed(self, name: str, spool: str, partitions: Mapping[str, str]) -> Counter[Row]:
        """The list of all that was written, each with its fate, without what only one capture can know."""
        out = self.folder / f"{name}.csv"
        with Gathering(self.folder) as gathering:
            fates = Fates(gathering.store, self.mapping, catalogue_of(self.live), None, partitions)
            fates.load(self.folder / f"{name}.out" / "put-aside.jsonl")
            told = Telling(fates, gathering, {})
            list_written(self.live, self.folder / spool, out, user_table="no_such", user_label="x", told=told)
        with out.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self._fates(name, rows)
        plain = not self.world.relaxes
        named = {
            leaf for table in self.world.tables if table.keyed and table.primary for leaf in (table.now, *table.leaves)
        }
        # What a mapper reads is the last one's doing: of two at a time triggers see another one as the last.
        read = {table.now for table in self.world.tables for one in table.columns if "select" in one.back}
        return Counter(
            (
                "" if bare(one["table"]) in read else one["xid"],
                *(one["table"], one["action"]),
                one["key"] if bare(one["table"]) in named else "",
                one["fate"] if plain else "",
            )
            for one in rows
        )

    def _fates(self, name: str, rows: Sequence[dict[str, str]]) -> None:
        """Who is told that a row was not carried, or waits for the next launch, and only who is to be."""
        told = lines_of(self.folder / f"{name}.out" / "put-aside.jsonl")
        fates = [(one, one["fate"], one["reason"].startswith("the old release has no such table")) for one in rows]
        lost = [one for one, fate, new in fates if fate == "not carried" or (fate == "stashed" and not new)]
        if all(table.now != "fresh" for table in self.world.tables):  # somebody dropped it, and what was in it
            lost = [one for one in lost if not bare(one["table"]).startswith("fresh")]
        assert bool(told) or not lost, (name, lost[:3])
        roots = {leaf: table.now for table in self.world.tables for leaf in table.leaves}
        olds = {table.now: table.name or table.now for table in self.world.tables}
        names = {bare(one["table"]) for one in lost}
        tables = {olds[roots.get(name, name)] for name in names}
        # Of these what was written may be a row of the table that has the values now.
        read = {table.name for table in self.world.tables for one in table.columns if "select" in one.back}
        for one in told:
            assert bare(one["relation"]) in {*tables, *read} or one["action"] == "delete", (name, one, lost)


def _with_leaves(target: Target, table: Table) -> Counter[Row]:
    """A table's rows, each behind the partition that it is in."""
    some = [quoted(str(one.now)) for one in table.current]
    leaf = "(select c.relname from pg_class c where c.oid = new.tableoid)"
    return rows_of(target, table.now, [leaf, *some])


def _whole(table: Table, row: Mapping[str, Any], leaf: str) -> Row:
    some = [str(one.now) for one in table.current if not str(one.now).startswith("since ")]
    return (leaf, *(row.get(name) for name in some))


def _stash(folder: Path) -> Counter[str]:
    """Without places and times, which each capture has of its own; whether a row is new depends on how far the twin was
    before, and of a deleted one the log has only the key."""
    lines, emptied = [], set[str]()
    for one in lines_of(folder / "stash.jsonl"):
        gone = one["action"] == "delete"
        if one["action"] == "truncate":  # of several in one replay the last is noted
            emptied.add(json.dumps(one["relation"]))
        else:
            # Whether a column that came since was seen, before or until it went, depends on when the capture was read.
            values = {name: value for name, value in one["values"].items() if name[:6] != "since "}
            values = {} if gone else values
            if one["values"] and not values and not gone:
                continue
            lines.append(
                json.dumps((one["relation"], gone, one["key"], values, one["xid"], one["witness"]), sort_keys=True)
            )
    return Counter([*lines, *emptied])
