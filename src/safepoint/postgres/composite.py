"""A row as PostgreSQL writes it as text, `(1,"a b",)`, taken apart. Pure.

Source: PostgreSQL's documentation, "Composite Type Input and Output Syntax": fields are separated by commas, nothing at
all is NULL, and inside double quotes a quote or a backslash stands twice.
"""

from __future__ import annotations

import re

from safepoint.errors import DatabaseError

_FIELD = re.compile(rb'(?:"((?:[^"\\]|""|\\\\)*)"|([^,()"\\]*))([,)])', re.DOTALL)


def fields(row: bytes) -> list[bytes | None]:
    """The fields as text; None is NULL. `()` has none: a row of one column that is NULL is written in the same way.

    Raises:
        DatabaseError: the text is no row.
    """
    if row == b"()":
        return []
    found: list[bytes | None] = []
    at, end = 1, len(row)
    while at < end:
        match = _FIELD.match(row, at)
        if match is None:
            break
        quoted, plain, after = match.groups()
        if quoted is not None:
            found.append(quoted.replace(b'""', b'"').replace(b"\\\\", b"\\"))
        else:
            found.append(plain or None)
        at = match.end()
        if after == b")":
            break
    if row[:1] != b"(" or row[-1:] != b")" or at != end:
        raise DatabaseError(
            "A captured row cannot be taken apart.",
            subject=f"row of {end} bytes",
            expected="(field,field,...) as PostgreSQL writes a row",
            found=f"something else from byte {at} on",
            remedy="Keep the database as it is and report this as a fault of Safepoint.",
        )
    return found
