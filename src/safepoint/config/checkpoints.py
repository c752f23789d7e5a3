"""`[checkpoints]` of the plan file: the limits of the monitored checks, and the visit of a test user."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from safepoint.config.section import PagePath, Section


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression of Python's: {error}") from error
    return value


Expression = Annotated[str, AfterValidator(_expression)]


class Login(Section):
    """A test user's way through the application: log in, then fill in one form. Its entry stays in the database."""

    path: PagePath = "/accounts/login/"
    """The login page. Where it leads on to `form_path` (`/accounts/login/?next=/entries/new/`), the window has a page
    less.
    """
    username: str
    """The test user's name."""
    password_env: str
    """The variable that has the test user's password."""
    form_path: PagePath | None = None
    """The page with the form; without it logging in is all."""
    fields: dict[str, str] = {}
    """What is filled in, by the fields' names. `{stamp}` becomes the time, so that each visit finds its own entry."""
    expect: str | None = None
    """What the page says afterwards; it may hold `{stamp}`."""
    browser: Literal["auto", "chromium", "http"] = "auto"
    """What visits: Chromium where there is one (`auto`), only Chromium, or plain HTTP."""


class Checkpoints(Section):
    """The limits of the monitored checks."""

    size_growth: float = Field(default=0.25, gt=0)
    """By how much the database may have grown, as a share of its size at T."""
    connections_share: float = Field(default=0.8, gt=0, le=1)
    """How many connections there may be, as a share of max_connections."""
    capture_wal_gb: float = Field(default=4.0, gt=0)
    """How much WAL the server may keep for the capture, in GB."""
    error_lines: int = Field(default=0, ge=0)
    """How many new error lines a log may have."""
    error_pattern: Expression = r"\b(ERROR|CRITICAL|FATAL|PANIC)\b"
    """What an error line of the application's log has in it, a regular expression."""
    # Of what PostgreSQL logs only what is never anybody's own mistake: a refused statement or login is no alarm.
    database_error_pattern: Expression = (
        r"\bPANIC: |\bLOG:  server process .* was terminated by signal|\b(?:FATAL|ERROR|WARNING): .*"
        r"(?:invalid page|corrupt|No space left|out of memory|could not (?:fsync|extend))"
    )
    """What an error line of the server's log has in it: crashes and damage, unless something else is said."""
    login: Login | None = None
