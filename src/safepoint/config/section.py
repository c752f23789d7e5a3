"""What the tables of the plan file are made of: their base, and the types of their values.

The text below a field is what `safepoint settings` says of it (see `reference`).
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from safepoint.config.durations import parse_duration, write_duration

_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/,\[\]]+):([0-9]{1,5})")


def _duration(value: Any) -> Any:
    """A bare number is refused like a text without a unit: `keep = 30` would be half a minute."""
    return value if isinstance(value, timedelta) else parse_duration(str(value))


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(write_duration, return_type=str),
    WithJsonSchema({"type": "string", "title": "duration"}),
]


def _address(value: str) -> str:
    match = _HOST_PORT.fullmatch(value)
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise ValueError("expected host:port, such as 127.0.0.1:8000 or [::1]:8000: one address, and no URL")
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        whole = False
    if not whole or re.search(r"\s", value) or parts.query or parts.fragment:
        raise ValueError("expected the address of a site, such as https://shop.example.com or http://127.0.0.1:8080")
    return value.rstrip("/")


def _path(value: str) -> str:
    if not value.startswith("/") or value.startswith("//"):
        raise ValueError("expected the path of a page, which begins with one /, such as /healthz")
    return value


class Section(BaseModel):
    """The base of all tables of the plan file: unknown keys are refused, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


Argv = Annotated[tuple[str, ...], Field(min_length=1, title="command")]
"""A command and its arguments, a word each."""
Name = Annotated[str, Field(min_length=1)]
Url = Annotated[str, AfterValidator(_url), Field(title="http or https address")]
"""Where a site answers; a slash at its end is left out, for paths are put behind it."""
PagePath = Annotated[str, AfterValidator(_path), Field(title="path of a page")]
Address = Annotated[str, AfterValidator(_address), Field(title="host:port")]
"""`host:port`, one of them and no URL; an IPv6 address stands in brackets."""
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


def address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets. Pure."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ServerLogin(Section):
    """A PostgreSQL server beside the live one, and a login to it."""

    host: str = Field(examples=["db2.internal"])
    """The server's name, address, or the folder of its socket."""
    port: int = Field(default=5432, ge=1, le=65535)
    """The server's port."""
    user: str = Field(examples=["safepoint"])
    """The login there."""
    password_env: str | None = Field(default=None, examples=["SAFEPOINT_DB2_PASSWORD"])
    """The variable that has its password."""
    sslmode: SslMode = "prefer"
    """Whether the connection is encrypted and the server's certificate checked, in libpq's words."""
