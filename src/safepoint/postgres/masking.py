"""Values of rows as people may see them in a list: short, and without what looks like a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

SECRET: Final = re.compile(
    r"passw(or)?d|passphrase|pwd|secret|token|session_key|session_data|api_?key|private_key|access_key|hashed_key"
    r"|credential",
    re.IGNORECASE,
)
"""Names of columns whose values are never shown."""

_KEEPERS: Final = re.compile(
    r"passw(or)?d|secret|token|api_?key|credential|otp_|authenticator|two_?factor", re.IGNORECASE
)
_KEPT: Final = re.compile(r"key|code|seed|data|value|digest|hash", re.IGNORECASE)
"""Names of tables that hold secrets, and of the columns that they do it in: `authtoken_token.key` logs somebody in."""

LONG: Final = 60
"""Characters of a value that are shown."""


@lru_cache(maxsize=4096)
def is_secret(name: str, table: str) -> bool:
    """Whether the values of a column of this name, in a table of that name, are never shown."""
    held = _KEPT.fullmatch(name) is not None and _KEEPERS.search(table) is not None
    return held or SECRET.search(name) is not None


def without_secrets(values: Mapping[str, Any] | None, table: str) -> dict[str, Any]:
    """The values of a table's row by column, secret ones masked, and else as they are. Pure."""
    return {name: "***" if is_secret(name, table) else value for name, value in (values or {}).items()}


def masked(name: str, value: str | None, table: str) -> str:
    """A column's value as text: secret ones masked, long ones cut. Pure."""
    if value is None:
        return "NULL"
    if is_secret(name, table):
        return "***"
    text = " ".join(value.split())
    return text if len(text) <= LONG else text[: LONG - 1] + "…"
