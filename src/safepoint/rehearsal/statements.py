"""Statements as people may read them, and what kind they are. Pure."""

from __future__ import annotations

import re
from typing import Final

_SHOWN: Final = 160

_LITERALS = re.compile(r"'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$|\$\d+\b|\b\d+(?:\.\d+)?\b", re.DOTALL)
_WRITES = re.compile(
    r"(insert|update|delete|merge|create\s+table|create\s+materialized|select\b.*\binto)\b", re.I | re.S
)
_WITHIN = re.compile(r"\b(insert\s+into|update|delete\s+from|merge\s+into)\b", re.IGNORECASE)
_COPY_IN = re.compile(r"copy\b.*\bfrom\s+stdin\b|copy\s+\S+(\s*\([^)]*\))?\s+from\b", re.IGNORECASE | re.DOTALL)
_ALTERS = re.compile(
    r"alter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?(?:(?:\"[^\"]+\"|\w+)\.)?(?P<table>\"[^\"]+\"|\w+)", re.IGNORECASE
)
_COMMENT = re.compile(r"\s*(/\*.*?\*/|--[^\n]*\n)\s*", re.DOTALL)


def shown(text: str) -> str:
    """A statement without the values in it, cut to a readable length."""
    line = " ".join(_LITERALS.sub("…", text).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def writes(text: str) -> bool:
    """Whether the rows of a statement are rows that it wrote."""
    said = text
    while (comment := _COMMENT.match(said)) is not None:
        said = said[comment.end() :]
    said = said.lstrip()
    if said[:4].lower() == "with":
        return _WITHIN.search(said) is not None
    if said[:4].lower() == "copy":
        return _COPY_IN.match(said) is not None
    return _WRITES.match(said) is not None


def altered(text: str) -> str | None:
    """The bare name of the table that a statement alters; None for any other statement."""
    found = _ALTERS.match(text.lstrip())
    return None if found is None else found["table"].strip('"')


def speaks_of(text: str, name: str) -> bool:
    """Whether a name stands in a statement that builds something."""
    builds = text.lstrip()[:7].lower() in ("create ", "alter t", "reindex")
    return builds and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
