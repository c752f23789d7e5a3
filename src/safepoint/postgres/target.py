"""Where a database is and how to log in to it: one value that every part of Safepoint passes on."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from safepoint.config import Database, ServerLogin
from safepoint.config.section import address
from safepoint.errors import PlanFileError


@dataclass(frozen=True)
class Target:
    """One database on one server, with a login. The password is never shown. `options`: libpq's, for each session."""

    host: str
    port: int
    dbname: str
    user: str
    password: str | None = field(default=None, repr=False)
    sslmode: str = "prefer"
    options: str = ""

    def on(self, dbname: str) -> Target:
        """The same server and login, another database."""
        return replace(self, dbname=dbname)

    def at(self, address: str | None) -> Target:
        """The same database and login by the address that it has elsewhere (`host:port`); None: by the same one."""
        if address is None:
            return self
        host, _, port = address.rpartition(":")
        return replace(self, host=host.strip("[]"), port=int(port))

    @property
    def address(self) -> str:
        """The server for people: `host:port`."""
        return address(self.host, self.port)

    def same_server(self, other: Target) -> bool:
        """Whether both are on one server, by how it is addressed."""
        return (self.host, self.port) == (other.host, other.port)

    def login(self, user: str, password: str | None) -> Target:
        """The same database, another login."""
        return replace(self, user=user, password=password)

    def conninfo(self) -> dict[str, Any]:
        """Keyword arguments for `psycopg.connect`, whose stubs name each apart. Holds the password: never print it."""
        words = {
            "host": self.host,
            "hostaddr": "",  # PGHOSTADDR, or that of a service (PGSERVICE), would be connected to instead
            "port": self.port,
            "dbname": self.dbname,
            "user": self.user,
            "sslmode": self.sslmode,
        }
        if self.password is not None:
            words["password"] = self.password
        return words

    def env(self) -> dict[str, str]:
        """libpq's environment variables without the password (see `secrets`)."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGDATABASE": self.dbname,
            "PGUSER": self.user,
            "PGSSLMODE": self.sslmode,
        }

    def secrets(self) -> dict[str, str]:
        """libpq's secret environment variables."""
        return {} if self.password is None else {"PGPASSWORD": self.password}

    def url(self) -> str:
        """A `postgresql://` URL with the password in it, for an environment variable. Never print it."""
        login = quote(self.user, safe="")
        if self.password is not None:
            login += ":" + quote(self.password, safe="")
        if self.host.startswith("/"):
            return (
                f"postgresql://{login}@/{quote(self.dbname, safe='')}?host={quote(self.host, safe='')}&port={self.port}"
            )
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{login}@{host}:{self.port}/{quote(self.dbname, safe='')}"

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.dbname}"


def target(database: Database) -> Target:
    """The conductor's login, its password taken from the environment variable that the plan file names.

    Raises:
        PlanFileError: the variable is not set.
    """
    password = _password(database.password_env, "database", database.user)
    return Target(database.host, database.port, database.name, database.user, password, database.sslmode)


def server_target(server: ServerLogin, section: str, dbname: str) -> Target:
    """The login to another server that the plan file names in `section`. Raises as `target`."""
    password = _password(server.password_env, section, server.user)
    return Target(server.host, server.port, dbname, server.user, password, server.sslmode)


def _password(variable: str | None, section: str, user: str) -> str | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise PlanFileError(
            f"The environment variable {variable} ({section}.password_env) is not set.",
            subject=f"{section}.password_env",
            remedy=f"Set {variable} to the password of role {user!r} and try again.",
        )
    return os.environ[variable]
