"""`DATABASE_URL` -> Django's settings of one database."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

# libpq's connection words that may follow the `?`; all else is a mistake that should not pass silently.
_LIBPQ_WORDS = {
    "application_name",
    "connect_timeout",
    "options",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
}


def parse(url: str) -> dict[str, Any]:
    """Read `postgresql://user:password@host:port/name?sslmode=require&options=-c%20role%3Dx`.

    A Unix socket's folder is given as `?host=/folder`. The url holds a password: errors never show it.

    Raises:
        ValueError: the url is not one of PostgreSQL, or names no database, or has an unknown word.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ValueError("DATABASE_URL must begin with postgresql://")
    name = unquote(parts.path.lstrip("/"))
    if not name:
        raise ValueError("DATABASE_URL names no database: postgresql://user:password@host:port/NAME")
    words = dict(parse_qsl(parts.query, keep_blank_values=True))
    host = words.pop("host", parts.hostname or "")
    port = words.pop("port", str(parts.port or ""))
    if unknown := sorted(set(words) - _LIBPQ_WORDS):
        raise ValueError(f"DATABASE_URL has unknown parameters: {', '.join(unknown)}")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": port,
        "OPTIONS": words,
    }
