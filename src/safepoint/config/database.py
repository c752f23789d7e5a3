"""`[database]` and `[application]` of the plan file: what is launched, and how each finds the other."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, model_validator

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


class Variables(Section):
    """The variables from which its settings read the parts of the database's address, where none has all of it. They do
    what `url_env` does, as far as they go: a rehearsal's copy has all five parts of its own, a migration's login `user`
    and `password`, another server of the twin `host` and `port`. A part that is left out stays as it is. Of what the
    settings leave out (HOST, PORT, USER, PASSWORD) the variables are libpq's: `PGHOST` and so on.
    """

    host: str | None = Field(default=None, examples=["DB_HOST"])
    """The variable that has the server's name, its address, or the folder of its socket."""
    port: str | None = Field(default=None, examples=["DB_PORT"])
    """The one that has its port."""
    name: str | None = Field(default=None, examples=["DB_NAME"])
    """The one that has the database's name."""
    user: str | None = Field(default=None, examples=["DB_USER"])
    """The one that has the role that the application logs in as; `password` belongs to it."""
    password: str | None = Field(default=None, examples=["DB_PASSWORD"])
    """The one that has this role's password."""

    @model_validator(mode="after")
    def _are_of_use(self) -> Variables:
        names = list(self.named.values())
        if not names:
            raise ValueError("names no variable: host, port, name, user, password; or leave the table out")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice[0]} is named for two parts: each has a variable of its own")
        if (self.user is None) != (self.password is None):
            raise ValueError(
                "`user` and `password` belong together: a login has both. Where the settings have no USER or no "
                "PASSWORD, its variable is libpq's, PGUSER or PGPASSWORD"
            )
        return self

    @property
    def named(self) -> dict[str, str]:
        """The variables by the parts that they have."""
        return {part: str(name) for part, name in self if name is not None}


class Application(Section):
    """How the application's `manage.py` is run and pointed at a database."""

    host: str = "here"
    """The host that runs `manage.py` and the releases' `start` and `stop`: one of `[hosts]`."""
    url_env: str | None = None
    """The variable from which its settings read the database's address, such as `DATABASE_URL`. With it a rehearsal
    leads the application to a copy, and a migration has a login of its own. Where they read the parts of the address,
    name these in `[application.variables]`. With neither PGOPTIONS carries what it can.
    """
    variables: Variables | None = None
    database_address: Address | None = None
    """The server as seen from `host`, if it has another address there than here."""
    error_log: str | None = None
    """The new release's log, a file on `host`: new error lines in it fail a checkpoint."""

    @model_validator(mode="after")
    def _is_led_one_way(self) -> Application:
        if self.url_env is not None and self.variables is not None:
            raise ValueError(
                "has `url_env` and [application.variables]: keep the one that the settings go by (`safepoint init` "
                "tries which)"
            )
        return self

    @property
    def parts(self) -> dict[str, str]:
        """The variables by the parts of the address that they have."""
        return {} if self.variables is None else self.variables.named

    @property
    def led_by(self) -> tuple[str, ...]:
        """The variables that lead the application to a database."""
        return tuple(self.parts.values()) if self.url_env is None else (self.url_env,)

    @property
    def fixed(self) -> tuple[str, ...]:
        """The parts of the address that no variable has, and that a copy's address cannot have otherwise."""
        return (
            () if self.url_env is not None else tuple(part for part in Variables.model_fields if part not in self.parts)
        )

    @property
    def has_login(self) -> bool:
        """Whether it can be given another login: its own can be locked out then, and migrations run by that one."""
        return not {"user", "password"} & {*self.fixed}
