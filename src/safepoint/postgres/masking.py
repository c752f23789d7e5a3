"""Values of rows as people may see them in a list: short, and without what looks like a secret."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

SECRET: Final = re.compile(
    r"passw(or)?d|secret|token|session_key|session_data|api_?key|private_key|credential", re.IGNORECASE
)
"""Names of columns whose values are never shown."""

LONG: Final = 60
"""Characters of a value that are shown."""


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether the values of a column of this name are never shown."""
    return SECRET.search(name) is not None


def masked(name: str, value: str | None) -> str:
    """A column's value as text: secret ones masked, long ones cut. Pure."""
    if value is None:
        return "NULL"
    if is_secret(name):
        return "***"
    text = " ".join(value.split())
    return text if len(text) <= LONG else text[: LONG - 1] + "…"
