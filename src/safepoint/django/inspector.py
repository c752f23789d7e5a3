"""What a Django project says about itself: its databases, migrations, commands, caches, logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from safepoint.config import Application
from safepoint.django.address import nowhere, of_its_kind
from safepoint.django.managepy import Manage
from safepoint.django.piped import ask
from safepoint.errors import CommandFailed

START_SECONDS: Final = 600.0
"""How long a project may take to start and answer: large ones on a slow disk, or a busy machine, take minutes."""

# Two connections that lead to one database give the same text, whatever names and addresses they use.
IDENTITY = """
    select oid::text || '@' || extract(epoch from pg_postmaster_start_time())::text
    from pg_database where datname = current_database()
"""


@dataclass(frozen=True)
class Migration:
    """One migration that is not applied yet. `reversible` is about structure only, never about the rows; `replaces` are
    those that a squashed one stands for."""

    app: str
    name: str
    atomic: bool
    operations: tuple[str, ...]
    runs_python: bool
    runs_sql: bool
    reversible: bool
    replaces: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`app.0002_name`, as `migrate` prints it."""
        return f"{self.app}.{self.name}"

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "operations": list(self.operations), "replaces": list(self.replaces)}


@dataclass(frozen=True)
class ProjectDatabase:
    """One entry of DATABASES without its password. `options` are libpq's, which keep PGOPTIONS from working. What the
    settings leave to libpq (by a `service`, say) is as the connection has it, where the database answers.

    `vendor` is Django's word for whose database the engine talks to; empty where it cannot be loaded.
    """

    alias: str
    engine: str
    name: str
    host: str
    port: str
    user: str
    service: str = ""
    options: str = ""
    sslmode: str = ""
    vendor: str = ""

    @property
    def is_postgresql(self) -> bool:
        """Whether the engine is PostgreSQL's, or one made from it, whatever that one is called."""
        return self.vendor == "postgresql" or (not self.vendor and "postg" in self.engine)


@dataclass(frozen=True)
class Project:
    """A Django project's own answers. What needs the database is None where `database_error` says why.

    Attributes:
        settings: the module's name; empty where the program configures Django itself.
        environment: names of the environment variables that the settings' source reads, and libpq for them.
        unmade: apps whose models have changes that no migration has made.
        inconsistent: why `migrate` would refuse the database that it finds, in Django's words.
        without_key: tables of models that have no primary key in the database.
        user_columns: columns of the user table: `label` (what people log in with), `email`, `names`.
        data: folders and files that the settings name for what is no code: uploads, caches, logs.
        session: of its connection: `host` and `port` of the server, whether it is `pooled`, and its `lock_timeout`.
        identity: which database the project is connected to: `IDENTITY` of this module gives the same text.
    """

    django: str
    python: str
    settings: str
    debug: bool
    allowed_hosts: tuple[str, ...]
    databases: tuple[ProjectDatabase, ...]
    user_model: str | None
    user_table: str | None
    caches: dict[str, str]
    session_engine: str
    login_url: str
    commands: tuple[str, ...]
    installed_apps: tuple[str, ...]
    error_logs: tuple[str, ...]
    environment: tuple[str, ...]
    pending: tuple[Migration, ...] | None
    applied: int | None
    unmade: tuple[str, ...] | None
    without_key: tuple[str, ...] | None
    conflicts: tuple[str, ...] = ()
    inconsistent: str | None = None
    identity: str | None = None
    database_error: str | None = None
    database_answers: bool = True
    user_columns: dict[str, Any] | None = None
    routers: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    session: dict[str, Any] | None = None

    def database(self, alias: str = "default") -> ProjectDatabase | None:
        """The database of that alias."""
        return next((one for one in self.databases if one.alias == alias), None)

    @property
    def unknown(self) -> str:
        """Why what needs the database is not known, where that is so: a sentence without its end."""
        what = "migrations cannot be looked at" if self.database_answers else "database does not answer"
        return f"The application's {what}: {self.database_error}"

    def as_json(self) -> dict[str, Any]:
        """JSON-safe; holds no secret."""
        fields = asdict(self)
        if self.pending is not None:
            fields["pending"] = [migration.as_json() for migration in self.pending]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def inspect(
    manage: Manage,
    *,
    database: str = "default",
    timeout: float | None = START_SECONDS,
    cancelled: Callable[[], bool] | None = None,
) -> Project:
    """Ask a project about itself: one start of Django, read-only.

    Args:
        database: the alias in DATABASES whose migrations are looked at.

    Raises:
        CommandFailed: the project cannot be started. A database that does not answer is no error here.
    """
    return project(ask(manage, "project", {"database": database}, timeout=timeout, cancelled=cancelled))


def project(answer: dict[str, Any]) -> Project:
    """Read the inspector's answer. Pure."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in answer.items()
    }
    fields["databases"] = tuple(ProjectDatabase(alias=alias, **values) for alias, values in answer["databases"].items())
    if answer["pending"] is not None:
        fields["pending"] = tuple(
            Migration(**{**one, **{name: tuple(one[name]) for name in ("operations", "replaces")}})
            for one in answer["pending"]
        )
    return Project(**fields)


def pending(manage: Manage, *, timeout: float | None = START_SECONDS) -> tuple[Migration, ...]:
    """The migrations that `migrate` would apply, in its order.

    Raises:
        CommandFailed: the project cannot be started, or its database does not answer.
    """
    known = inspect(manage, timeout=timeout)
    if known.pending is None:
        raise CommandFailed(
            known.unknown,
            subject=known.settings,
            remedy="Check the database's address and login that the application's settings carry."
            if not known.database_answers
            else "Let `manage.py showmigrations` run with this release first: are its libraries those that it needs?",
        )
    return known.pending


def redirected(manage: Manage, variable: str, *, timeout: float | None = START_SECONDS) -> ProjectDatabase | None:
    """The project's default database where this variable has another address; None where it does not go by it.

    Tried, not guessed: the project is started once with an address that leads nowhere (port 1), without connecting.
    """
    url = "postgresql://safepoint@127.0.0.1:1/safepoint_nowhere"
    others = {name: value for name, value in manage.secrets.items() if name != variable}
    env = {**manage.env, variable: of_its_kind(variable, url), "PGCONNECT_TIMEOUT": "2"}
    probe = Manage(manage.host, manage.release, env, others, manage.directory)
    database = inspect(probe, timeout=timeout).database()
    return database if database is not None and database.name == "safepoint_nowhere" else None


def followed(manage: Manage, variables: Mapping[str, str], *, timeout: float | None = START_SECONDS) -> dict[str, str]:
    """By part of its default database's address the variable that the project takes it from, of these.

    Tried, not guessed: the project is started once with values in them that lead nowhere, without connecting.

    Args:
        variables: with the part that each may have.

    Raises:
        CommandFailed: the project cannot be started with such values.
    """
    values = nowhere(variables)
    others = {name: value for name, value in manage.secrets.items() if name not in values}
    env = {**manage.env, **values, "PGCONNECT_TIMEOUT": "2"}
    probe = Manage(manage.host, manage.release, env, others, manage.directory)
    return dict(ask(probe, "address", {"values": values}, timeout=timeout))


def led_along(manage: Manage, application: Application, *, timeout: float | None = START_SECONDS) -> set[str]:
    """The aliases of the databases whose server is decided by the variables that lead the default one.

    Tried as `followed` is.
    """
    values = nowhere({name: part for part, name in application.parts.items()})
    if application.url_env is not None:
        url = "postgresql://safepoint@127.0.9.1:1/safepoint_nowhere"
        values = {application.url_env: of_its_kind(application.url_env, url)}
    others = {name: value for name, value in manage.secrets.items() if name not in values}
    env = {**manage.env, **values, "PGCONNECT_TIMEOUT": "2"}
    found = inspect(Manage(manage.host, manage.release, env, others, manage.directory), timeout=timeout)
    default = found.database()
    return {
        one.alias
        for one in found.databases
        if default is not None and one.is_postgresql and (one.host, one.port) == (default.host, default.port)
    }
