"""`[database]` and `[application]` of the plan file: what is launched, and how each finds the other."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from safepoint.config.section import Address, Duration, Name, Section, SslMode


class Database(Section):
    """The database that is launched, as the conductor (not the application) connects to it: the server itself, past
    any pooler.
    """

    name: Name
    """The database. A rollback puts its twin there under this name, and keeps the migrated one under another."""
    host: str = "localhost"
    """The server's name, address, or the folder of its socket."""
    port: int = Field(default=5432, ge=1, le=65535)
    """The server's port."""
    user: Name
    """The login that Safepoint uses, not the application's: it copies, renames and locks out."""
    password_env: str | None = None
    """The variable that has its password; without it `~/.pgpass` or the server's own rules let it in."""
    sslmode: SslMode = "prefer"
    """Whether the connection is encrypted and the server's certificate checked, in libpq's words."""
    maintenance: Name = "postgres"
    """The database to connect to while the launched one is renamed."""
    application_roles: tuple[str, ...] = Field(min_length=1)
    """Everyone who writes, jobs and workers too: they are held off while the safe point is made."""
    tools_host: str = "here"
    """The host that runs `pg_dump` and the like: one of `[hosts]`, for a server that is only reachable there."""
    tools: Path | None = None
    """The folder of `pg_dump` and the like on `tools_host`; found by the server's version otherwise."""
    tools_address: Address | None = None
    """The server as seen from `tools_host`, if it has another address there than here."""
    error_log: str | None = None
    """The server's own log, a file on `tools_host`: crashes and damage in it fail a checkpoint."""
    lock_timeout: Duration = Field(default=timedelta(seconds=5), ge=timedelta(milliseconds=1))
    """How long a migration waits for a lock before it gives up, and is tried again."""
    lock_retries: int = Field(default=5, ge=0)
    """How often it is tried again; then a person is asked."""


class Application(Section):
    """How the application's `manage.py` is run and pointed at a database."""

    host: str = "here"
    """The host that runs `manage.py` and the releases' `start` and `stop`: one of `[hosts]`."""
    url_env: str | None = None
    """The variable from which its settings read the database's address, such as `DATABASE_URL`. With it a rehearsal
    leads the application to a copy, and a migration has a login of its own. Otherwise PGOPTIONS carries what it can.
    """
    database_address: Address | None = None
    """The server as seen from `host`, if it has another address there than here."""
    error_log: str | None = None
    """The new release's log, a file on `host`: new error lines in it fail a checkpoint."""
