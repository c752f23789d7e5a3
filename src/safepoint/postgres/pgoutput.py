"""Decoding of pgoutput, PostgreSQL's logical replication messages, protocol version 1. Pure: bytes in, values out.

Source of the layout: PostgreSQL's documentation, "Logical Replication Message Formats" (protocol-logicalrep-
message-formats). Version 1 has no streamed and no two-phase transactions: each transaction comes whole, as
Begin, its changes in order, Commit; transactions come in the order in which they committed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cached_property
from typing import Final, TypeAlias

from safepoint.errors import DatabaseError

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


class Unchanged(Enum):
    """The mark for a large (TOASTed) value that an UPDATE did not touch, and that is therefore not in the message."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED
Value: TypeAlias = str | bytes | Unchanged | None
"""A column's value: its text form, its binary form (only if binary output was asked for), NULL, or UNCHANGED."""
Tuple: TypeAlias = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction starts; `final_lsn` is the LSN of its commit record, which `Commit.commit_lsn` repeats."""

    final_lsn: int
    committed_at: datetime
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A transaction ends; `end_lsn` is just after its commit record: a slot may be advanced to it."""

    commit_lsn: int
    end_lsn: int
    committed_at: datetime
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Origin:
    """The transaction was replayed from another server."""

    commit_lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class Column:
    """A published column. `key` says that it belongs to the replica identity (under FULL every column does)."""

    name: str
    type_oid: int
    type_modifier: int
    key: bool


@dataclass(frozen=True)
class Relation:
    """A table as the following changes mean it. `replica_identity`: d default, i index, f full, n nothing."""

    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[Column, ...]

    @cached_property
    def qualified(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Type:
    """The name of a type that is not built in."""

    oid: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row."""

    relation_oid: int
    new: Tuple


@dataclass(frozen=True, slots=True)
class Update:
    """A changed row. `old` is there when the key changed (`old_is_key`: only key columns) or under FULL (all)."""

    relation_oid: int
    new: Tuple
    old: Tuple | None = None
    old_is_key: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """A removed row: its key columns (the others are None then), or under FULL all of it."""

    relation_oid: int
    old: Tuple
    old_is_key: bool


@dataclass(frozen=True, slots=True)
class Truncate:
    """Tables that were emptied by one TRUNCATE, those reached by CASCADE among them."""

    relation_oids: tuple[int, ...]
    cascade: bool = False
    restart_identity: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What someone wrote with `pg_logical_emit_message`."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


AnyMessage: TypeAlias = Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate | Message


def decode(data: bytes) -> AnyMessage:
    """Decode one message.

    Raises:
        DatabaseError: the bytes are not one whole message of protocol version 1.
    """
    if not data:
        raise _malformed(data, "it is empty")
    reader = _DECODERS.get(data[:1])
    if reader is None:
        raise _malformed(data, f"its first byte is {data[:1]!r}")
    cursor = _Cursor(data)
    try:
        message = reader(cursor)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise _malformed(data, f"it cannot be read to its end ({error})") from error
    if cursor.at != len(data):
        raise _malformed(data, f"{len(data) - cursor.at} bytes follow its end")
    return message


def parse_lsn(text: str) -> int:
    """An LSN as PostgreSQL prints it (`16/B374D848`) as a number.

    Raises:
        ValueError: the text is no LSN.
    """
    high, separator, low = text.partition("/")
    if not separator:
        raise ValueError(f"{text!r} is not an LSN such as '16/B374D848'")
    return (int(high, 16) << 32) | int(low, 16)


def format_lsn(lsn: int) -> str:
    """An LSN as PostgreSQL prints it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def _malformed(data: bytes, why: str) -> DatabaseError:
    return DatabaseError(
        f"A change of the capture cannot be decoded: {why}.",
        subject=f"message of {len(data)} bytes",
        expected="a pgoutput message of protocol version 1",
        found=repr(data[:32]),
        remedy="Keep the spool file and report this as a fault of Safepoint; do not remove the replication slot.",
    )


class _Cursor:
    """Reads a message from front to back."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 1

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        values = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return values

    def take(self, size: int) -> bytes:
        end = self.at + size
        if size < 0 or end > len(self.data):
            raise ValueError("cut short")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def string(self) -> str:
        end = self.data.index(0, self.at)
        text = self.data[self.at : end].decode("utf-8", "surrogateescape")
        self.at = end + 1
        return text

    def tuple(self) -> Tuple:
        """In one go: a list of what was written takes most of its time here."""
        (count,) = self.unpack(_INT16)
        data, at, end = self.data, self.at, len(self.data)
        values: list[Value] = []
        for _ in range(count):
            kind = data[at]
            at += 1
            if kind in (_TEXT, _BINARY):
                start = at + 4
                at = start + _INT32.unpack_from(data, at)[0]
                if at > end:
                    raise ValueError("cut short")
                raw = data[start:at]
                # A SQL_ASCII database may hold anything: what is not UTF-8 must come back out as it was.
                values.append(raw.decode("utf-8", "surrogateescape") if kind == _TEXT else raw)
            elif kind == _NULL:
                values.append(None)
            elif kind == _UNCHANGED:
                values.append(UNCHANGED)
            else:
                raise ValueError(f"a value of kind {bytes((kind,))!r}")
        self.at = at
        return tuple(values)


_TEXT, _BINARY, _NULL, _UNCHANGED = b"tbnu"
_INT8 = struct.Struct("!B")
_INT16 = struct.Struct("!H")
_INT32 = struct.Struct("!I")
_BEGIN = struct.Struct("!QqI")
_COMMIT = struct.Struct("!BQQq")
_INT64 = struct.Struct("!Q")
_COLUMN = struct.Struct("!Ii")
_MESSAGE = struct.Struct("!BQ")


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _begin(cursor: _Cursor) -> Begin:
    final_lsn, microseconds, xid = cursor.unpack(_BEGIN)
    return Begin(final_lsn, _instant(microseconds), xid)


def _commit(cursor: _Cursor) -> Commit:
    flags, commit_lsn, end_lsn, microseconds = cursor.unpack(_COMMIT)
    return Commit(commit_lsn, end_lsn, _instant(microseconds), flags)


def _origin(cursor: _Cursor) -> Origin:
    (lsn,) = cursor.unpack(_INT64)
    return Origin(lsn, cursor.string())


def _relation(cursor: _Cursor) -> Relation:
    (oid,) = cursor.unpack(_INT32)
    # The documentation: an empty string stands for pg_catalog.
    schema = cursor.string() or "pg_catalog"
    name = cursor.string()
    identity = cursor.take(1).decode("ascii")
    (count,) = cursor.unpack(_INT16)
    return Relation(oid, schema, name, identity, tuple(_column(cursor) for _ in range(count)))


def _column(cursor: _Cursor) -> Column:
    (flags,) = cursor.unpack(_INT8)
    name = cursor.string()
    type_oid, modifier = cursor.unpack(_COLUMN)
    return Column(name, type_oid, modifier, bool(flags & 1))


def _type(cursor: _Cursor) -> Type:
    (oid,) = cursor.unpack(_INT32)
    schema = cursor.string() or "pg_catalog"
    return Type(oid, schema, cursor.string())


def _insert(cursor: _Cursor) -> Insert:
    (oid,) = cursor.unpack(_INT32)
    _expect(cursor, b"N")
    return Insert(oid, cursor.tuple())


def _update(cursor: _Cursor) -> Update:
    (oid,) = cursor.unpack(_INT32)
    kind = _expect(cursor, b"KON")
    if kind == b"N":
        return Update(oid, cursor.tuple())
    old = cursor.tuple()
    _expect(cursor, b"N")
    return Update(oid, cursor.tuple(), old, kind == b"K")


def _delete(cursor: _Cursor) -> Delete:
    (oid,) = cursor.unpack(_INT32)
    kind = _expect(cursor, b"KO")
    return Delete(oid, cursor.tuple(), kind == b"K")


def _truncate(cursor: _Cursor) -> Truncate:
    (count,) = cursor.unpack(_INT32)
    (options,) = cursor.unpack(_INT8)
    oids = tuple(cursor.unpack(_INT32)[0] for _ in range(count))
    return Truncate(oids, bool(options & 1), bool(options & 2))


def _message(cursor: _Cursor) -> Message:
    flags, lsn = cursor.unpack(_MESSAGE)
    prefix = cursor.string()
    (size,) = cursor.unpack(_INT32)
    return Message(bool(flags & 1), lsn, prefix, cursor.take(size))


def _expect(cursor: _Cursor, kinds: bytes) -> bytes:
    kind = cursor.take(1)
    if kind not in kinds:
        raise ValueError(f"a tuple of kind {kind!r} where one of {kinds!r} must stand")
    return kind


_DECODERS: dict[bytes, Callable[[_Cursor], AnyMessage]] = {
    b"B": _begin,
    b"C": _commit,
    b"O": _origin,
    b"R": _relation,
    b"Y": _type,
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"T": _truncate,
    b"M": _message,
}
