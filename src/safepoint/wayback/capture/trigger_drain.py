"""What triggers captured is brought into the spool: whole transactions in an order in which they could have committed.

A drain takes what one snapshot of the database shows and no earlier drain's snapshot showed. So a transaction that was
open meanwhile is not skipped, however late it commits; a high-water mark would skip it. The snapshot stands in the
spool itself, with the last transaction of the drain: what a kill left half written is cut off, and taken again.

Transactions are ordered by the last thing that each of them did. Where two touched one key, the first held the row's
lock (or its place in a unique index) until its end, so all that it did came before the second one's change: the order
is that of their commits. Two that touched nothing in common may stand in either order. Across drains it holds too: who
waited for a transaction that a snapshot does not show is not shown by it either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from psycopg import sql
from psycopg.adapt import Loader

from safepoint.errors import CaptureLost
from safepoint.postgres import messages
from safepoint.postgres.composite import fields
from safepoint.postgres.connections import Connection, streamed
from safepoint.progress import Cancelled
from safepoint.wayback.capture.slot import REPLACED, lost, read_elsewhere
from safepoint.wayback.capture.spool import SNAPSHOT, Spool
from safepoint.wayback.capture.timelines import CURRENT
from safepoint.wayback.capture.triggers import SHAPES

_LOOK: Final = 2_000
_VACUUM: Final = 50_000

ONE_AT_A_TIME: Final = "SELECT pg_advisory_lock(1935763571, 2)"
NEW: Final = "NOT pg_visible_in_snapshot(xid, {snapshot}::pg_snapshot)"
READ: Final = """
SELECT c.xid::text::int8, (extract(epoch FROM t.at - timestamptz '2000-01-01 00:00:00+00') * 1000000)::int8,
       c.seq, c.relation::int8, c.action::text, c.old, c.new
FROM safepoint_capture.changes c
JOIN (SELECT xid, max(seq) AS last, max(at) AS at FROM safepoint_capture.changes WHERE {new} GROUP BY xid) t USING (xid)
LEFT JOIN unnest({seqs}::int8[], {befores}::int8[], {depths}::int4[]) m(seq, before, depth) ON m.seq = c.seq
ORDER BY t.last, coalesce(m.before, c.seq), coalesce(m.depth, 0)
"""
# A version that was changed again before its own trigger fired, and where that change was noted: behind the last time
# that the table was emptied, for from then on places are given out anew.
LATE: Final = """
SELECT e.seq, min(f.seq) FROM safepoint_capture.changes e
JOIN safepoint_capture.changes f ON f.xid = e.xid AND f.relation = e.relation AND f.was = e.late
WHERE e.late IS NOT NULL AND {new_e} AND NOT EXISTS (
    SELECT FROM safepoint_capture.changes t WHERE t.xid = e.xid AND t.relation = e.relation AND t.action = 'T'
    AND t.seq BETWEEN f.seq AND e.seq)
GROUP BY e.seq
"""
FORGET: Final = """
WITH told AS (UPDATE safepoint_capture.forgotten SET snapshot = %(known)s::pg_snapshot, timeline = DEFAULT
              WHERE snapshot::text IS DISTINCT FROM %(known)s::text),
     gone AS (DELETE FROM safepoint_capture.changes
              WHERE pg_visible_in_snapshot(xid, %(known)s::pg_snapshot) RETURNING 1)
SELECT count(*) FROM gone
"""
# What one snapshot shows a later one shows, too. A kill may come between the spool's and this record of it, on the
# same timeline; on another one the server is a standby that was promoted before it had got that far, and the ids of
# transactions that it never had are given out again there.
TAKEN: Final = f"""
SELECT f.snapshot::text, coalesce(
    known IS NULL OR pg_snapshot_xmin(f.snapshot) > pg_snapshot_xmin(known)
    OR pg_snapshot_xmax(f.snapshot) > pg_snapshot_xmax(known)
    OR EXISTS (SELECT FROM pg_snapshot_xip(known) o (xid) WHERE pg_visible_in_snapshot(o.xid, f.snapshot)), false)
        AND f.snapshot IS NOT NULL,
    known IS NOT NULL AND known::text IS DISTINCT FROM f.snapshot::text
        AND f.timeline <> {CURRENT}
FROM safepoint_capture.forgotten f, CAST(nullif(%s, '') AS pg_snapshot) known
"""
# `pg_partition_tree` locks what it lists, and would wait for whoever has just emptied a partition and goes on.
LEAVES: Final = """
WITH RECURSIVE below AS (
    SELECT r.relation AS root, r.relation AS relation
    FROM safepoint_capture.shapes r JOIN pg_class c ON c.oid = r.relation WHERE c.relkind = 'p'
    UNION
    SELECT b.root, i.inhrelid FROM below b JOIN pg_inherits i ON i.inhparent = b.relation AND NOT i.inhdetachpending
)
SELECT b.root::int8, coalesce(array_agg(c.oid::int8) FILTER (WHERE c.relkind <> 'p'), '{}')
FROM below b JOIN pg_class c ON c.oid = b.relation GROUP BY b.root
"""
# Those of a capture that was armed by a former version have no `since`.
KNOWN: Final = """
SELECT relation::int8, coalesce((to_jsonb(s) ->> 'since')::int8, 0), name, columns, later
FROM safepoint_capture.shapes s ORDER BY 1, 2
"""


class _Raw(Loader):
    """Text as its bytes: a database may hold anything."""

    def load(self, data: Any) -> bytes:
        return bytes(data)


@dataclass(frozen=True)
class _Shape:
    """A table's columns: those that a row's text has, and which of them are captured."""

    name: str
    width: int
    columns: tuple[str, ...]
    places: tuple[int, ...]

    @classmethod
    def of(cls, name: str, marked: list[str]) -> _Shape:
        places = tuple(place for place, one in enumerate(marked) if one[0] == "+")
        return cls(name, len(marked), tuple(marked[place][1:] for place in places), places)

    def begins(self, other: _Shape) -> bool:
        """Whether the other one has these columns first, and perhaps more behind them."""
        count = len(self.columns)
        ours, others = (self.columns, self.places), (other.columns[:count], other.places[:count])
        return ours == others and self.width <= other.width


@dataclass
class TriggerDrain:
    """One drain's way through what the triggers noted. `unread`: tables made later of which rows could not be read."""

    connection: Connection
    spool: Spool
    cancelled: Cancelled
    transactions: int = 0
    changes: int = 0
    size: int = 0
    changed_tables: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    _known: dict[int, list[tuple[int, _Shape]]] = field(default_factory=dict)
    _later: set[int] = field(default_factory=set)
    _shapes: dict[int, _Shape] = field(default_factory=dict)
    _described: dict[int, _Shape] = field(default_factory=dict)
    _leaves: dict[int, list[int]] = field(default_factory=dict)
    _emptied: set[int] = field(default_factory=set)

    def run(self) -> bool:
        """Take what is committed now; gives whether it was taken whole (False: cancelled, and nothing of it counts)."""
        connection = self.connection
        connection.execute(ONE_AT_A_TIME)
        self._refuse_other()
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.execute("SET LOCAL work_mem = '64MB'")
            snapshot = str(self._one("SELECT pg_current_snapshot()::text"))
            self._read_shapes()
            done = self._take(snapshot)
        if not done:
            return False
        if self.transactions:
            before = self.spool.position
            self.spool.sync(before.commit_lsn + self.transactions, self.transactions, {}, snapshot)
        self._forget()
        return True

    def _refuse_other(self) -> None:
        """What another spool has taken is not here any more; and another server never had what this one has taken.

        Raises:
            CaptureElsewhere, CaptureLost: it is so.
        """
        known = self.spool.position.snapshot
        forgotten, beyond, replaced = self.connection.execute(TAKEN, [known]).fetchone() or (None, False, False)
        if beyond:
            raise read_elsewhere(self.spool.path, f"snapshot {known or 'none'}", f"snapshot {forgotten}")
        if replaced:
            raise lost(self.connection.info.dbname, REPLACED)

    def _forget(self) -> None:
        """Only what is durable in the spool leaves the database."""
        known = self.spool.position.snapshot
        if known:
            gone = int(self._one(FORGET, {"known": known}))
            if gone > _VACUUM:
                self.connection.execute("VACUUM safepoint_capture.changes")

    def _read_shapes(self) -> None:
        for oid, since, name, columns, later in self.connection.execute(KNOWN).fetchall():
            self._known.setdefault(oid, []).append((since, _Shape.of(name, columns)))
            if later:
                self._later.add(oid)
        self._leaves = {int(root): leaves for root, leaves in self.connection.execute(LEAVES)}
        relations = {*self._relations(), *self._known, *(leaf for leaves in self._leaves.values() for leaf in leaves)}
        now = self.connection.execute(SHAPES, [list(relations)])
        self._shapes = {oid: _Shape.of(name, columns) for oid, name, columns in now}

    def _relations(self) -> list[int]:
        """Partitions may have come since."""
        rows = self.connection.execute("SELECT DISTINCT relation::int8 FROM safepoint_capture.changes").fetchall()
        return [int(row[0]) for row in rows]

    def _take(self, snapshot: str) -> bool:
        number, current, at = self.spool.position.commit_lsn, None, 0
        with self._rows() as rows:
            for seen, (xid, microseconds, seq, relation, action, old, new) in enumerate(rows):
                if seen % _LOOK == 0 and self.cancelled():
                    return False
                if xid != current:
                    if current is not None:
                        self._append(messages.commit(number, at))
                    number, current, at = number + 1, xid, microseconds
                    self._emptied.clear()
                    self.transactions += 1
                    self._append(messages.begin(number, at, xid))
                self._change(seq, relation, action, old, new)
        if current is not None:
            # Its presence makes the transactions before it count: all of this drain, or none.
            self._append(messages.message(number, SNAPSHOT, snapshot.encode()))
            self._append(messages.commit(number, at))
        return True

    @contextmanager
    def _rows(self) -> Iterator[Iterator[tuple[Any, ...]]]:
        known = self.spool.position.snapshot
        new = sql.SQL(NEW).format(snapshot=sql.Literal(known)) if known else sql.SQL("true")
        new_e = sql.SQL(NEW.replace("(xid", "(e.xid")).format(snapshot=sql.Literal(known)) if known else sql.SQL("true")
        late = {int(seq): int(before) for seq, before in self.connection.execute(sql.SQL(LATE).format(new_e=new_e))}
        order = _in_order(late)
        query = sql.SQL(READ).format(
            new=new,
            seqs=sql.Literal([seq for seq, _, _ in order]),
            befores=sql.Literal([before for _, before, _ in order]),
            depths=sql.Literal([depth for _, _, depth in order]),
        )
        with self.connection.cursor() as cursor:
            cursor.adapters.register_loader("text", _Raw)
            with streamed(cursor, query) as rows:
                yield rows

    def _change(self, seq: int, relation: int, action: bytes, old: bytes | None, new: bytes | None) -> None:
        if action == b"T":
            # A partitioned table's is noted by itself and by its partitions: who reads the list counts them.
            for leaf in self._leaves.get(relation, [relation]):
                if leaf not in self._emptied:
                    self._truncate(seq, leaf)
            return
        self._emptied.discard(relation)
        before, after = (None if one is None else self._fields(relation, one) for one in (old, new))
        shape = self._shape(seq, relation, len(after if after is not None else before or ()))
        if shape is None:
            return
        self._describe(relation, shape)
        was = None if before is None else _picked(before, shape)
        now = None if after is None else _picked(after, shape)
        if was is None:
            data = messages.insert(relation, now or [])
        elif now is None:
            data = messages.delete(relation, was)
        else:
            data = messages.update(relation, was, now)
        self._append(data)
        self.changes += 1

    def _fields(self, relation: int, row: bytes) -> list[bytes | None]:
        """A row without columns is written as one whose only column is NULL is: that may be its only one no longer."""
        shapes = (self._shapes.get(relation), *(shape for _, shape in self._known.get(relation, ())))
        return fields(row) or ([None] if any(shape is not None and shape.width == 1 for shape in shapes) else [])

    def _truncate(self, seq: int, relation: int) -> None:
        shape = self._then(seq, relation) or self._shapes.get(relation) or self._first(relation)
        if shape is not None:
            self._describe(relation, shape)
            self._append(messages.truncate(relation))
            self._emptied.add(relation)
            self.changes += 1

    def _then(self, seq: int, relation: int) -> _Shape | None:
        """What a table was like when a change was noted; None where nobody has seen it altered, for where nobody may
        make an event trigger it may have been all the same."""
        known = self._known.get(relation, [])
        return next((shape for since, shape in reversed(known) if since <= seq), None) if len(known) > 1 else None

    def _first(self, relation: int) -> _Shape | None:
        known = self._known.get(relation)
        return known[0][1] if known else None

    def _shape(self, seq: int, relation: int, width: int) -> _Shape | None:
        """The columns that a row was written with: those of then, as far as they are known, or the present ones, or
        those of the time of arming; of a row that has more, what came behind them and went again is left out.

        None: nobody knows them any more, of a table that was made later; it is in `unread` then. No such table may
        keep what was written to the others from being carried back.
        """
        now, then = self._shapes.get(relation), self._first(relation)
        if now is not None and then is not None and now != then and relation not in self._later:
            self.changed_tables.add(now.name)
        for shape in (self._then(seq, relation), now, then):
            if shape is not None and shape.width == width:
                return shape
        if relation in self._later:
            self.unread.add(self._known[relation][-1][1].name)
            return None
        if now is not None and then is not None and then.begins(now) and then.width < width:
            return replace(then, width=width)
        raise CaptureLost(
            "A captured row has other columns than its table.",
            subject=now.name if now else f"relation {relation}",
            expected=f"{(now or then or _Shape('', 0, (), ())).width} columns",
            found=f"{width}",
            remedy="Someone changed the table more than once after the launch. Roll back with --discard.",
        )

    def _describe(self, relation: int, shape: _Shape) -> None:
        if self._described.get(relation) != shape:
            self._described[relation] = shape
            schema, _, name = shape.name.partition(".")
            self._append(messages.relation(relation, schema, name, shape.columns))

    def _append(self, data: bytes) -> None:
        self.size += self.spool.extend((data,))

    def _one(self, query: str, values: dict[str, Any] | None = None) -> Any:
        row = self.connection.execute(query.encode(), values).fetchone()
        return row[0] if row else None


def _picked(values: list[bytes | None], shape: _Shape) -> list[bytes | None]:
    return values if len(shape.places) == shape.width else [values[place] for place in shape.places]


def _in_order(following: dict[int, int]) -> list[tuple[int, int, int]]:
    """Which changes stand too late: before which other each belongs, and how far before, where several do. Pure.

    Args:
        following: of a version that was changed again early: where it was noted -> where the next change of it was.
    """
    places: dict[int, tuple[int, int]] = {}
    for first in following:
        chain = [first]
        while chain[-1] in following and chain[-1] not in places:
            chain.append(following[chain[-1]])
        for seq, then in zip(chain[-2::-1], chain[:0:-1], strict=True):
            before, depth = places.get(then, (then, 0))
            places[seq] = (before, depth - 1) if (before, depth) <= (seq, 0) else (seq, 0)
    return [(seq, *place) for seq, place in places.items() if place != (seq, 0)]
