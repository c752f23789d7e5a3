"""A tuple of the log as a row of COPY BINARY: nearly the same bytes, a length and the text of each value. Pure.

This is the innermost loop of the replay: lengths are taken over as they stand.
"""

from __future__ import annotations

import struct
from typing import Final

NULL: Final = b"\xff\xff\xff\xff"
SHORT: Final = 0x7400
"""The first length whose bytes hold a `t` before a zero."""

_INT16 = struct.Struct("!H")
_INT32 = struct.Struct("!I")


def row_of_values(message: bytes, at: int, columns: int) -> bytes | None:
    """The values that end the message as COPY BINARY has them; None where `values_of` has to go through the tuple.

    Args:
        at: where they begin, behind their number.
        columns: their number.

    A tuple of values only differs from COPY BINARY in the `t` before each length. A `t` and a zero byte stand nowhere
    else: a value in text form has no zero byte, and in a length below `SHORT` none follows a `t`. So all of them are
    replaced at once, where they are as many as columns.
    """
    if len(message) < SHORT and message.count(b"t\0", at) == columns:
        return message[at:].replace(b"t\0", b"\0")
    return None


def values_of(message: bytes, at: int) -> tuple[list[bytes | None], int]:
    """The values of a tuple as COPY BINARY has them (None: unchanged), and the place behind it."""
    (count,) = _INT16.unpack_from(message, at)
    at += 2
    values: list[bytes | None] = []
    add, length = values.append, _INT32.unpack_from
    for _ in range(count):
        kind = message[at]
        if kind == 116:  # t: length and text follow
            (size,) = length(message, at + 1)
            end = at + 5 + size
            add(message[at + 1 : end])
            at = end
        else:
            add(NULL if kind == 110 else None)
            at += 1
    return values, at


def text_array(fields: list[bytes]) -> bytes:
    """A one-dimensional text[] as COPY BINARY has it, from values that carry their length."""
    body = struct.pack("!iiIii", 1, 0, 25, len(fields), 1) + b"".join(fields)
    return len(body).to_bytes(4, "big") + body
