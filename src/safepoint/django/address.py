"""How an application is led to a database: by the variable of a URL that its settings read, or by one for each part.

This is the one place that knows both ways. Whether the settings go by the variables is seen by trying (see `followed`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from safepoint.config import Application

Leading = tuple[dict[str, str], dict[str, str]]
"""Variables for the environment, and the secret ones. What is no secret is not among these: a database's name that was
taken out of all that a command prints would take the names of migrations with it."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

# What a variable's name says of the part that it may have; the first that fits. Whether it has it is tried.
_OF_A_DATABASE = re.compile(r"DB|DATABASE|PG|POSTGRES|SQL|RDS")
_NO_PART = re.compile(r"(?:URL|URI|DSN|FILE|PATH)$")
_PARTS: Final = {
    "password": re.compile(r"PASS|PWD|SECRET"),
    "port": re.compile(r"PORT$"),
    "host": re.compile(r"HOST|SERVER|ADDRESS|ENDPOINT"),
    "user": re.compile(r"USER|LOGIN|ROLE"),
    "name": re.compile(r"NAME$|DB$|DATABASE$"),
}
# Settings that make the names of parts (f"{prefix}_HOST") have none of them in their source.
_USUAL: Final = tuple(
    f"{prefix}_{part}"
    for prefix in ("DB", "DATABASE", "POSTGRES", "PG", "SQL")
    for part in ("HOST", "PORT", "NAME", "DATABASE", "DB", "USER", "USERNAME", "PASSWORD", "PASS")
)
LIBPQ: Final = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password"}
"""libpq's own variables, which have what the settings leave out
(https://www.postgresql.org/docs/current/libpq-envars.html). Django gives it the database's name in any case."""

INSISTING: Final = ("require", "verify-ca", "verify-full")
"""Values of `sslmode` with which nobody connects to a server that does not offer encryption."""
NOT_INSISTING: Final = (
    "Let the settings read sslmode from a variable, and give that in [rehearsal.env], such as "
    '{ DB_SSLMODE = "prefer" }: the copy is on a server of 127.0.0.1.'
)


class Login(Protocol):
    """What is needed of a database's address here: `postgres.Target` is one."""

    @property
    def host(self) -> str:
        """The server's name, address, or the folder of its socket."""
        ...

    @property
    def port(self) -> int:
        """Its port."""
        ...

    @property
    def dbname(self) -> str:
        """The database."""
        ...

    @property
    def user(self) -> str:
        """The role."""
        ...

    @property
    def password(self) -> str | None:
        """Its password."""
        ...

    def at(self, address: str | None) -> Login:
        """The same login by another address."""
        ...

    def url(self) -> str:
        """A `postgresql://` URL with the password in it."""
        ...


def leading(application: Application, login: Login) -> Leading:
    """What leads the application to this login, as far as its variables go. Empty where it has none."""
    if application.url_env is not None:
        return {}, {application.url_env: of_its_kind(application.url_env, login.url())}
    values = {"host": login.host, "port": str(login.port), "name": login.dbname, "user": login.user}
    env = {name: values[part] for part, name in application.parts.items() if part != "password"}
    # Set to nothing where there is none: its own would be that of another role.
    secret = application.parts.get("password")
    return env, {} if secret is None else {secret: login.password or ""}


def leading_to_server(application: Application, own: str, there: str) -> Leading | None:
    """What leads the application to its database on another server: its login and the name stay as they are.

    Args:
        own: the server that its settings lead to, `host:port`.
        there: the other one.

    Returns:
        None where its variables do not lead there: one that has the whole address is not set here, or one of a part
        that is another there is missing.
    """
    if application.url_env is not None:
        known = os.environ.get(application.url_env)
        return None if known is None else ({}, {application.url_env: at_address(known, there)})
    was, wanted = _host_and_port(own), _host_and_port(there)
    if any(was[part] != wanted[part] and part not in application.parts for part in wanted):
        return None
    return {name: wanted[part] for part, name in application.parts.items() if part in wanted}, {}


def _host_and_port(address: str) -> dict[str, str]:
    host, _, port = address.rpartition(":")
    return {"host": host.strip("[]"), "port": port}


def of_its_kind(variable: str, url: str) -> str:
    """A database's address with the scheme of the application's own, as far as that stands in our environment.

    Settings choose the engine by it: with `postgresql` for `postgis` a migration knows no geometry.
    """
    scheme, separator, _rest = os.environ.get(variable, "").partition("://")
    return scheme + url[url.index("://") :] if separator and _SCHEME.fullmatch(scheme) else url


def at_address(url: str, address: str) -> str:
    """A database URL with another server in it; login, database and options stay. Pure."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    # libpq takes a host or port of the query before that of the authority.
    words = [word for word in parts.query.split("&") if word.partition("=")[0] not in ("host", "port", "hostaddr")]
    return urlunsplit((parts.scheme, f"{login}{at}{address}", parts.path, "&".join(words), parts.fragment))


def url_variables(environment: Iterable[str]) -> tuple[str, ...]:
    """Which variables look as if they carried a database's address, the likeliest first. Pure."""
    likely = [name for name in environment if name.upper().endswith(("URL", "DSN", "URI"))]
    words = ("DATABASE", "POSTGRES", "DB")
    ranked = [(next((i for i, word in enumerate(words) if word in name.upper()), None), name) for name in likely]
    return tuple(name for rank, name in sorted((r, n) for r, n in ranked if r is not None))


def part_variables(environment: Iterable[str]) -> dict[str, str]:
    """Which variables look as if they had a part of a database's address, each with that part. Pure.

    Args:
        environment: names that are known beside the usual ones.
    """
    found = dict(LIBPQ)
    for name in (*_USUAL, *environment):
        if _OF_A_DATABASE.search(name.upper()) and not _NO_PART.search(name.upper()):
            part = next((part for part, words in _PARTS.items() if words.search(name.upper())), None)
            found.update({} if part is None else {name: part})
    return found


def nowhere(variables: Mapping[str, str]) -> dict[str, str]:
    """A value for each variable by the part that it may have: of a database that is not there, and like no other. Pure.

    Nothing listens at these addresses of the machine itself, so whoever connects is refused at once.
    """
    forms = {"host": "127.0.9.{}", "port": "{}"}
    counts = {part: count(1) for part in _PARTS}
    return {
        name: forms.get(part, f"safepoint_nowhere_{part}_{{}}").format(next(counts[part]))
        for name, part in sorted(variables.items())
    }


def unled(application: Application) -> str:
    """What keeps its variables from leading the application to any database, for people. Pure."""
    if not application.parts:
        return "no variable for its database's address is named"
    return f"[application.variables] names none for {', '.join(application.fixed)}"


def how_to_lead(application: Application) -> str:
    """What a person does about that: the beginning of a sentence. Pure."""
    if not application.parts:
        return (
            "Name the variable with the database's address in application.url_env, or those with its parts in "
            "[application.variables]"
        )
    return f"Let the settings read {', '.join(application.fixed)} from variables, and name them there"
