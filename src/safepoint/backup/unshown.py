"""What may be a secret in settings and statements, and is in no message, ledger or list: `***` stands for it. Pure.

A database's or a role's settings of the application's own may be secrets (PostgREST reads `app.jwt_secret`), and the
options of a user mapping mostly are. A snapshot has them, as the database has; whoever reads what is told of it need
not see them.
"""

from __future__ import annotations

import re
from typing import Final

from safepoint.postgres.masking import SECRET

_HIDDEN: Final = "***"
# PostgreSQL's own settings have no dot in their names, and are no secrets (`password_encryption`).
_NAME: Final = r"[\w\"]+(?:\.[\w\"]+)+"
_ITEM: Final = re.compile(
    rf"(?P<name>{_NAME})=(?P<value>.*?)(?=, {_NAME}=|, \w+=| parameters | comment '|$)", re.DOTALL
)
_SET: Final = re.compile(rf"^(?P<head>ALTER .* SET (?P<name>{_NAME}) TO )(?P<value>.*)$", re.DOTALL)
_OPTIONS: Final = re.compile(
    r"\b(?P<head>(?:USER MAPPING|SERVER)\b.*?\bOPTIONS? ?\()(?P<value>(?:[^')]|'(?:[^']|'')*')*)"
)


def value_of(name: str, value: str | None) -> str | None:
    """The value of a setting, as a fingerprint names it (`of role x app.secret`)."""
    own = name.rpartition(" ")[2]
    return _HIDDEN if value is not None and "." in own and _is_secret(own) else value


def items(text: str | None) -> str | None:
    """A role as a fingerprint describes it, with settings as `name=value` in it."""
    return None if text is None else _ITEM.sub(_without, text)


def statement(text: str) -> str:
    """A statement that sets something, as a message quotes it."""
    return _SET.sub(lambda found: found["head"] + (_HIDDEN if _is_secret(found["name"]) else found["value"]), text)


def said(text: str) -> str:
    """What a program said, with the statement that failed."""
    return _OPTIONS.sub(lambda found: found["head"] + _HIDDEN, text)


def _without(found: re.Match[str]) -> str:
    return f"{found['name']}={_HIDDEN}" if _is_secret(found["name"]) else found[0]


def _is_secret(name: str) -> bool:
    return SECRET.search(name) is not None or re.search(r"key\b", name) is not None
