"""Logical replication messages written as pgoutput writes them, for a capture that does not come from the log.

The inverse of `pgoutput.decode` for what such a capture needs: values are PostgreSQL's text as bytes, None is NULL.
Source of the layout: PostgreSQL's documentation, "Logical Replication Message Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

Values = Sequence[bytes | None]

_TEXT: Final = 25
_BEGIN = struct.Struct("!cQqI")
_COMMIT = struct.Struct("!cBQQq")
_OID = struct.Struct("!cI")
_COLUMN_TAIL = struct.Struct("!Ii")
_INT16 = struct.Struct("!H")
_INT32 = struct.Struct("!I")
_TRUNCATE = struct.Struct("!cIBI")
_MESSAGE = struct.Struct("!cBQ")


def begin(lsn: int, microseconds: int, xid: int) -> bytes:
    """A transaction starts. `microseconds` count from 2000-01-01 UTC."""
    return _BEGIN.pack(b"B", lsn, microseconds, xid & 0xFFFFFFFF)


def commit(lsn: int, microseconds: int) -> bytes:
    """It ends."""
    return _COMMIT.pack(b"C", 0, lsn, lsn, microseconds)


def relation(oid: int, schema: str, name: str, columns: Sequence[str]) -> bytes:
    """A table as under REPLICA IDENTITY FULL: every column names a row."""
    parts = [_OID.pack(b"R", oid), _string(schema), _string(name), b"f", _INT16.pack(len(columns))]
    parts += [b"\1" + _string(column) + _COLUMN_TAIL.pack(_TEXT, -1) for column in columns]
    return b"".join(parts)


def insert(oid: int, new: Values) -> bytes:
    """A new row."""
    return _OID.pack(b"I", oid) + b"N" + _tuple(new)


def update(oid: int, old: Values, new: Values) -> bytes:
    """A changed row, with all that it was before."""
    return b"".join((_OID.pack(b"U", oid), b"O", _tuple(old), b"N", _tuple(new)))


def delete(oid: int, old: Values) -> bytes:
    """A removed row, with all that it was."""
    return _OID.pack(b"D", oid) + b"O" + _tuple(old)


def truncate(oid: int) -> bytes:
    """An emptied table."""
    return _TRUNCATE.pack(b"T", 1, 0, oid)


def message(lsn: int, prefix: str, content: bytes) -> bytes:
    """Words of our own between the changes; a part of the transaction."""
    return _MESSAGE.pack(b"M", 1, lsn) + _string(prefix) + _INT32.pack(len(content)) + content


def _string(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"


def _tuple(values: Values) -> bytes:
    parts = [_INT16.pack(len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        else:
            parts += (b"t", _INT32.pack(len(value)), value)
    return b"".join(parts)
