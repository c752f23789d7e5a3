"""The spool's changes brought to the twin's server: by COPY, into one temporary table per new table, in commit order.

Values are not decoded here: they are staged as text and get their types inside PostgreSQL. Memory does not grow with
the spool.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psycopg import sql

from safepoint.errors import Interrupted, Refused
from safepoint.postgres import pgoutput
from safepoint.postgres.connections import Connection
from safepoint.progress import Cancelled, Progress, Report, never, silent
from safepoint.wayback.capture.spool import durable_end, read_messages
from safepoint.wayback.mapping.catalogue import Catalogue, Table
from safepoint.wayback.replay.copying import Writer
from safepoint.wayback.replay.sinks import fields, make_sink, packed
from safepoint.wayback.replay.staged import (
    DELETE,
    INSERT,
    META,
    MISSED,
    MOVE,
    TRANSACTIONS,
    UPDATE,
    Sink,
    Staged,
    Truncation,
)
from safepoint.wayback.replay.tuples import NULL, row_of_values, text_array, values_of

STAGING: Final = "taking transactions to the twin"
_FLUSH: Final = 2 << 20
_HOLD: Final = 16 << 20  # of all tables together, however many there are
_LOOK: Final = 4096

# Columns: how many; place in the commit order (times 4, plus what it is); transaction; relation.
_ROW = struct.Struct("!hiqiiiI")
_NEW_ROW = struct.Struct("!hiqiiiIii")  # moved from nowhere, and no value left alone: both NULL
_MISSED = struct.Struct("!hii")
_TRANSACTION = struct.Struct("!hiii4si8si8s")  # id, LSN and time as the message has them


def stage(
    connection: Connection,
    spool: Path,
    migrated: Catalogue,
    *,
    after: int = 0,
    up_to: int | None = None,
    start: int = 0,
    mapped: Mapping[str, Collection[str]] | None = None,
    former: Mapping[str, str] | None = None,
    now: Callable[[pgoutput.Relation], pgoutput.Relation] = lambda relation: relation,
    added: Mapping[str, Collection[str]] | None = None,
    earlier: int = 0,
    cancelled: Cancelled = never,
    report: Report = silent,
) -> Staged:
    """Stage the transactions that committed after one LSN and up to another.

    Args:
        connection: to the twin, inside the transaction that will apply them: a kill leaves nothing.
        start: an offset of the spool that nothing to be staged lies before (`Staged.end` of an earlier time).
        migrated: the catalogue of the database that the changes come from.
        mapped: the tables that the way back knows, and the columns that its rules are about; None: all. One that was
            made since may have changed meanwhile: of its rows those columns are staged that it still has.
        former: partitions that are none any more, and whose rows they had (`partitions.former`).
        now: gives a relation the names that it has now (`renamed`).
        added: by table, columns that may have come to it since: of rows that were captured before, their values are
            those of the migrated database.
        earlier: how many of the spool's transactions were staged at earlier times; only for the report.

    Raises:
        Refused: a table's columns are not those of the catalogue any more.
        CaptureLost: the spool is damaged.
        Interrupted: `cancelled` became true.
    """
    _make_tables(connection)
    durable = durable_end(spool)
    end, total = durable.offset, max(0, durable.transactions - earlier)
    with Writer(connection) as writer:
        staging = _Staging(connection, migrated, writer, mapped, former or {}, now, added or {})

        def look() -> None:
            if cancelled():
                raise Interrupted("The replay was stopped before anything was changed.", subject=str(spool))
            report(Progress(STAGING, staging.staged.transactions, total, "transactions"))

        later = staging.take_all(read_messages(spool, start, end), after, up_to, look)
    report(Progress(STAGING, total, total, "transactions"))
    staging.staged.end = 0 if later else end
    for sink in staging.staged.sinks.values():
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier("pg_temp", sink.rows_in)))
    return staging.staged


def _make_tables(connection: Connection) -> None:
    connection.execute(
        f"CREATE TEMP TABLE {TRANSACTIONS} (tx int4, xid oid, commit_lsn int8, committed_us int8) ON COMMIT DROP"
    )
    connection.execute(f"CREATE TEMP TABLE {MISSED} (tx int4) ON COMMIT DROP")


@dataclass(frozen=True)
class _Shape:
    """How a relation's tuples become rows of its sink. `order` is None where the columns stand alike.

    `loose`, `lacks`: the sink has columns that the tuples have not; for these `order` names the place behind their
    values. Of the latter the values are as good as unchanged.
    """

    sink: Sink
    relation: int
    leaf: str
    order: tuple[int, ...] | None
    key: tuple[int, ...]
    width: int
    loose: bool = False
    lacks: bool = False


class _Staging:
    def __init__(
        self,
        connection: Connection,
        migrated: Catalogue,
        writer: Writer,
        mapped: Mapping[str, Collection[str]] | None,
        former: Mapping[str, str],
        now: Callable[[pgoutput.Relation], pgoutput.Relation],
        added: Mapping[str, Collection[str]],
    ) -> None:
        self.connection, self.migrated, self.writer, self.mapped = connection, migrated, writer, mapped
        self.now, self.added = now, added
        self.roots = {**migrated.roots, **former}
        self.staged = Staged()
        self.at = 0
        self._held = 0
        self._shapes: dict[bytes, _Shape | None] = {}
        self._names: dict[bytes, pgoutput.Relation] = {}
        self._transactions: list[bytes] = []
        self._missed: list[bytes] = []
        self._takers: Mapping[int, Callable[[bytes, _Shape], None]] = {
            73: self._insert,
            85: self._update,
            68: self._delete,
        }

    def take_all(self, messages: Iterable[bytes], after: int, up_to: int | None, look: Callable[[], None]) -> bool:
        """Take what committed after one LSN and up to another; whether there is later. `look` is called at times."""
        wanted, later = False, False
        for number, message in enumerate(messages):
            if not number % _LOOK:
                look()
            kind = message[0]
            if kind == 67:  # C: Commit; Begin has told all of it
                continue
            if kind == 66:  # B: Begin
                lsn = int.from_bytes(message[1:9], "big")
                later = later or (up_to is not None and lsn > up_to)
                wanted = after < lsn and not later
                if wanted:
                    self.begin(message, lsn)
            elif kind == 82:  # R: Relation; described once for all transactions that follow
                self.describe(message)
            elif wanted:
                self.take(kind, message)
        self.flush_all()
        self.staged.at = self.at
        return later

    def begin(self, message: bytes, lsn: int) -> None:
        staged = self.staged
        staged.transactions += 1
        staged.last_lsn = lsn
        at, committed, xid = message[1:9], message[9:17], message[17:21]
        self._transactions.append(_TRANSACTION.pack(4, 4, staged.transactions, 4, xid, 8, at, 8, committed))
        if len(self._transactions) >= 20_000:
            self._flush_transactions()

    def describe(self, message: bytes) -> None:
        relation = pgoutput.decode(message)
        assert isinstance(relation, pgoutput.Relation)  # noqa: S101 - its first byte says so
        self._names[message[1:5]] = self.now(relation)
        self._shapes.pop(message[1:5], None)

    def take(self, kind: int, message: bytes) -> None:
        taker = self._takers.get(kind)
        if taker is None:
            if kind == 84:
                self._truncate(message)
            return
        oid = message[1:5]
        if (shape := self._shapes.get(oid)) or (shape := self._shape(oid)):
            self.staged.changes += 1
            taker(message, shape)
        else:
            self._miss()

    def _miss(self) -> None:
        row = _MISSED.pack(1, 4, self.staged.transactions)
        if self._missed[-1:] != [row]:
            self._missed.append(row)
        if len(self._missed) >= 20_000:
            self._flush_missed()

    def _shape(self, oid: bytes) -> _Shape | None:
        if oid not in self._shapes:
            self._shapes[oid] = self._make_shape(self._names[oid])
        return self._shapes[oid]

    def _make_shape(self, relation: pgoutput.Relation) -> _Shape | None:
        table = self.migrated.tables.get(self.roots.get(relation.qualified, ""))
        if table is None:
            self.staged.unknown.add(relation.qualified)
            return None  # an extension's own, or Safepoint's
        sink = self.staged.sinks.get(table.name) or self._make_sink(table)
        if table.partitioned:
            sink.leaves[relation.oid] = relation.qualified
        names = [column.name for column in relation.columns]
        if self.mapped is not None and table.name not in self.mapped:
            return _loose_shape(sink, relation, names)
        computed = {column.name for column in table.columns if column.generated}
        lacking = set(sink.columns) - set(names)
        gone = set(names) - computed - set(sink.columns)
        if self.mapped is not None:  # one of which no rule knows came since, and went again
            gone &= set(self.mapped[table.name])
        if gone or lacking - set(self.added.get(table.name, ())):
            raise Refused(
                f"The columns of {relation.qualified} are not those that were captured.",
                subject=relation.qualified,
                expected=", ".join(names),
                found=", ".join(sink.columns),
                remedy="Someone changed the table after the launch. Roll back with --discard, or carry it by hand.",
            )
        known = {column.name for column in relation.columns if column.key}
        if table.key and not set(table.key) <= known:
            raise Refused(
                f"The log names rows of {relation.qualified} by other columns than its key.",
                subject=relation.qualified,
                expected=", ".join(table.key),
                found=", ".join(sorted(known)) or "nothing",
                remedy="Its REPLICA IDENTITY was changed after the launch. Roll back with --discard.",
            )
        order = tuple(names.index(name) if name in names else len(names) for name in sink.columns)
        straight = None if order == tuple(range(len(names))) else order
        key = tuple(names.index(name) for name in table.key)
        width = fields(sink)
        return _Shape(sink, relation.oid, relation.qualified, straight, key, width, lacks=bool(lacking))

    def _make_sink(self, table: Table) -> Sink:
        self.writer.wait()
        return make_sink(self.connection, table, self.staged, set(self.added.get(table.name, ())))

    def _insert(self, message: bytes, shape: _Shape) -> None:
        """Most of what is written is new rows: so what `values_of` and `_add` do is done here in one go."""
        packed = shape.sink.packed
        if (
            shape.order is None
            and not packed
            and (row := row_of_values(message, 8, shape.width - len(META))) is not None
        ):
            self.at += 1
            at, transaction = self.at * 4 + INSERT, self.staged.transactions
            self._keep(shape.sink, _NEW_ROW.pack(shape.width, 8, at, 4, transaction, 4, shape.relation, -1, -1) + row)
        else:
            self._add(shape, INSERT, values_of(message, 6)[0])

    def _update(self, message: bytes, shape: _Shape) -> None:
        old: list[bytes | None] | None = None
        at, full = 6, False
        if message[5] != 78:  # N: only the new row follows
            old, at = values_of(message, 6)
            full = message[5] == 79  # O: all of the old row
            new, _ = values_of(message, at + 1)
            if full:
                new = [before if value is None else value for before, value in zip(old, new, strict=True)]
        else:
            new, _ = values_of(message, at)
        if not (shape.key or full or shape.loose):
            raise _unnamed(shape)
        if old is None or (shape.key and all(old[place] == new[place] for place in shape.key)):
            self._add(shape, UPDATE, new)
            return
        self._add(shape, DELETE, old)
        if shape.key:
            self._add(shape, MOVE, new, [old[place] or NULL for place in shape.key])
        else:
            self._add(shape, MOVE, new)

    def _delete(self, message: bytes, shape: _Shape) -> None:
        if not (shape.key or message[5] == 79 or shape.loose):
            raise _unnamed(shape)
        self._add(shape, DELETE, values_of(message, 6)[0])

    def _truncate(self, message: bytes) -> None:
        decoded = pgoutput.decode(message)
        assert isinstance(decoded, pgoutput.Truncate)  # noqa: S101 - its first byte says so
        self.at += 1
        for oid in decoded.relation_oids:
            shape = self._shape(oid.to_bytes(4, "big")) if oid.to_bytes(4, "big") in self._names else None
            if shape is None:
                self._miss()
            else:
                self.staged.changes += 1
                self.staged.truncations.append(
                    Truncation(shape.sink.table.name, shape.leaf, oid, self.at * 4, self.staged.transactions)
                )

    def _add(self, shape: _Shape, what: int, values: list[bytes | None], moved: list[bytes] | None = None) -> None:
        self.at += 1
        sink = shape.sink
        head = _ROW.pack(shape.width, 8, self.at * 4 + what, 4, self.staged.transactions, 4, shape.relation)
        origin = unchanged = NULL
        if what != INSERT:
            sink.others += 1
        if what == MOVE:
            sink.moves += 1
        if moved is not None:
            origin = text_array(moved)
        if shape.order is not None:
            if shape.loose or shape.lacks:
                values = [*values, None if shape.lacks and shape.key and what != DELETE else NULL]
            values = [values[place] for place in shape.order]
        if None in values:
            names = [name.encode() for name, value in zip(sink.columns, values, strict=True) if value is None]
            unchanged = text_array([len(name).to_bytes(4, "big") + name for name in names])
            sink.unchanged += 1
            values = [NULL if value is None else value for value in values]
        if sink.packed:
            values = packed(sink, values)
        self._keep(sink, b"".join((head, origin, unchanged, *values)))  # type: ignore[arg-type]  # no None is left in it

    def _keep(self, sink: Sink, row: bytes) -> None:
        sink.buffer.append(row)
        sink.rows += 1
        sink.size += len(row)
        self._held += len(row)
        if sink.size >= _FLUSH:
            self._flush(sink)
        elif self._held >= _HOLD:
            for one in self.staged.sinks.values():
                self._flush(one)

    def _flush(self, sink: Sink) -> None:
        self._held -= sink.size
        sink.largest = max(sink.largest, sink.size)
        rows, sink.buffer, sink.size = sink.buffer, [], 0
        if rows:
            self.writer.write(sink.rows_in, rows)

    def _flush_transactions(self) -> None:
        rows, self._transactions = self._transactions, []
        self.writer.write(TRANSACTIONS, rows)

    def _flush_missed(self) -> None:
        rows, self._missed = self._missed, []
        self.writer.write(MISSED, rows)

    def flush_all(self) -> None:
        """Bring what is left."""
        for sink in self.staged.sinks.values():
            self._flush(sink)
        self._flush_transactions()
        self._flush_missed()
        self.writer.wait()


def _unnamed(shape: _Shape) -> Refused:
    """Rows of a table without a key are counted: without the whole old row, one would be there still."""
    return Refused(
        f"The log does not say which row of {shape.leaf} was changed or deleted.",
        subject=shape.leaf,
        expected="whole old rows, as the table has no key (REPLICA IDENTITY FULL)",
        found="a key that only the partition has, or nothing",
        remedy="Its REPLICA IDENTITY was changed after the launch, or it was made since. Roll back with --discard.",
    )


def _loose_shape(sink: Sink, relation: pgoutput.Relation, names: list[str]) -> _Shape:
    order = tuple(names.index(name) if name in names else len(names) for name in sink.columns)
    named = all(name in names for name in sink.table.key)
    key = tuple(names.index(name) for name in sink.table.key) if named else ()
    width = fields(sink)
    return _Shape(sink, relation.oid, relation.qualified, order, key, width, loose=True)
