"""What the tables of the plan file are made of: their base, and the types of their values."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from safepoint.config.durations import parse_duration, write_duration

_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/,\[\]]+):([0-9]{1,5})")


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(write_duration, return_type=str),
]


def _address(value: str) -> str:
    match = _HOST_PORT.fullmatch(value)
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise ValueError("expected host:port, such as 127.0.0.1:8000 or [::1]:8000: one address, and no URL")
    return value


class Section(BaseModel):
    """The base of all tables of the plan file: unknown keys are refused, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


Argv = tuple[str, ...]
Address = Annotated[str, AfterValidator(_address)]
"""`host:port`, one of them and no URL; an IPv6 address stands in brackets."""
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


def address(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets. Pure."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ServerLogin(Section):
    """A PostgreSQL server beside the live one, and a login to it; `password_env` names the variable of its password."""

    host: str = Field(examples=["db2.internal"])
    port: int = Field(default=5432, ge=1, le=65535)
    user: str = Field(examples=["safepoint"])
    password_env: str | None = Field(default=None, examples=["SAFEPOINT_DB2_PASSWORD"])
    sslmode: SslMode = "prefer"
