"""The SQL that a snapshot brings beside its archive, read apart: for another name of the database, for missing roles.

Pure. pg_dumpall writes standard-conforming strings, one statement after the other, each ended by a semicolon.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

_IDENTIFIER: Final = r'(?:"(?:[^"]|"")+"|[^\s";]+)'
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|^\\[^\n]*|;", re.DOTALL | re.MULTILINE)
_ROLE = re.compile(rf"(?:CREATE|ALTER) ROLE (?P<role>{_IDENTIFIER})")
_MEMBER = re.compile(rf"GRANT (?P<group>{_IDENTIFIER}) TO (?P<role>{_IDENTIFIER})")
# What PostgreSQL 15 and newer let a role set that is for superusers otherwise (GRANT SET ON PARAMETER).
_PARAMETER = re.compile(rf"GRANT [A-Z, ]+ ON PARAMETER {_IDENTIFIER} TO (?P<role>{_IDENTIFIER})")
_ABOUT_ROLE = re.compile(rf"(?:COMMENT|SECURITY LABEL FOR {_IDENTIFIER}) ON ROLE (?P<role>{_IDENTIFIER}) IS ")
_GRANTOR = re.compile(rf" GRANTED BY {_IDENTIFIER}$")
_ON_DATABASE = re.compile(
    rf"(?P<head>COMMENT ON DATABASE|ALTER DATABASE|(?:REVOKE|GRANT) [A-Z ]+ ON DATABASE"
    rf"|ALTER ROLE {_IDENTIFIER} IN DATABASE|SECURITY LABEL FOR {_IDENTIFIER} ON DATABASE) (?P<name>{_IDENTIFIER}) "
)


def statements(script: str) -> list[str]:
    """The statements of a script, without comments, without their semicolons, and without what only `psql` obeys."""
    found: list[str] = []
    start, current = 0, ""
    for token in _TOKEN.finditer(script):
        word = token[0]
        if word == ";" or word.startswith(("--", "\\")):
            current += script[start : token.start()]
            start = token.end()
            if word == ";":
                found.append(current.strip())
                current = ""
    return [statement for statement in (*found, (current + script[start:]).strip()) if statement]


def for_roles(script: str, roles: Collection[str]) -> list[str]:
    """The statements of `globals.sql` that make these roles, with all that it says of them: settings and memberships,
    parameters that they may set, comments, security labels.

    Others are left out: a role that is on the server already belongs to somebody, and stays as it is. Who granted a
    membership is left out as well: that superuser may have another name on another server.

    Args:
        roles: their names, not quoted.
    """
    kept = []
    for statement in statements(script):
        found = (pattern.match(statement) for pattern in (_ROLE, _MEMBER, _PARAMETER, _ABOUT_ROLE))
        match = next(filter(None, found), None)
        if match is not None and unquoted(match["role"]) in roles:
            kept.append(_GRANTOR.sub("", statement))
    return kept


def granted_among(script: str, roles: Collection[str]) -> list[str]:
    """The memberships of `globals.sql` among these roles, and of one of them in a role of PostgreSQL's own."""
    kept = []
    for statement in statements(script):
        match = _MEMBER.match(statement)
        if match is not None and unquoted(match["role"]) in roles:
            group = unquoted(match["group"])
            if group in roles or group.startswith("pg_"):
                kept.append(_GRANTOR.sub("", statement))
    return kept


def for_database(script: str, name: str) -> list[str]:
    """The statements of `database.sql`, each aimed at a database of another name. Its comment is left out."""
    aimed = []
    for statement in statements(script):
        match = _ON_DATABASE.match(statement)
        if match is None or match["head"].startswith("COMMENT"):
            continue
        aimed.append(f"{match['head']} {quoted(name)} {statement[match.end() :]}")
    return aimed


def own_comment(script: str) -> str | None:
    """The comment that `database.sql` gives the database; None where it gives none. As `format('%L')` writes it."""
    for statement in statements(script):
        match = _ON_DATABASE.match(statement)
        literal = statement[match.end() :].removeprefix("IS ") if match else ""
        if match is not None and match["head"].startswith("COMMENT") and literal.startswith(("'", "E'")):
            text = literal.partition("'")[2][:-1].replace("''", "'")
            return text.replace("\\\\", "\\") if literal.startswith("E") else text
    return None


def quoted(name: str) -> str:
    """An identifier in quotes, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def unquoted(identifier: str) -> str:
    """The name that an identifier of SQL stands for."""
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def names(qualified: str) -> tuple[str, str]:
    """Schema and name of what `format('%I.%I')` made of them."""
    parts = re.findall(r'"(?:[^"]|"")+"|[^."]+', qualified)
    schema, name = (unquoted(part) for part in parts)
    return schema, name
