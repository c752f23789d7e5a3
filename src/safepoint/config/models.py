"""The plan file's contents as frozen, validated models. Each field says what it means and in which unit.

The models hold no secret: passwords are named by the environment variable that has them.
"""

from __future__ import annotations

import os
import re
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from safepoint.config.durations import Moment
from safepoint.config.rehearsal import Rehearsal
from safepoint.config.releases import Releases
from safepoint.config.scratch import ScratchServer
from safepoint.config.section import Address, Argv, Duration, Name, PagePath, Section, SslMode, Url
from safepoint.config.wayback import Wayback


def _moment(value: Any) -> Any:
    return Moment.parse(value) if isinstance(value, str) else value


def _zone(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{value!r} is no time zone of the IANA database, such as 'Europe/Berlin'") from error


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression of Python's: {error}") from error
    return value


_LAUNCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,98}")

TimetableMoment = Annotated[Moment, BeforeValidator(_moment), PlainSerializer(str, return_type=str)]
Zone = Annotated[ZoneInfo, BeforeValidator(_zone), PlainSerializer(lambda z: z.key, return_type=str)]


class Launch(Section):
    """Which application is launched, to which release, and when."""

    application: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")
    date: date
    timezone: Zone = Field(default_factory=lambda: ZoneInfo("UTC"), validate_default=True)
    id: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    state: Path = Path(".safepoint")


class HereHost(Section):
    """Commands run on the machine of the conductor."""

    kind: Literal["here"] = "here"
    directory: Path | None = None


class ComposeHost(Section):
    """Commands run by `docker compose exec -T SERVICE` (or the older `docker-compose`)."""

    kind: Literal["compose"]
    service: str
    project: Path
    command: Argv = ("docker", "compose")
    directory: str | None = None
    user: str | None = None


class SshHost(Section):
    """Commands run over OpenSSH; what is not said here comes from the operator's `ssh_config`."""

    kind: Literal["ssh"]
    address: str
    port: int | None = Field(default=None, ge=1, le=65535)
    user: str | None = None
    identity: Path | None = None
    options: tuple[str, ...] = ()
    directory: str | None = None


AnyHost = Annotated[HereHost | ComposeHost | SshHost, Field(discriminator="kind")]


class Database(Section):
    """The database that is launched, as the conductor (not the application) connects to it.

    `tools` is the folder of `pg_dump` and the like on `tools_host`; `tools_address` is where they find the server,
    if it has another address there than here. `error_log` is the server's own log, a file on `tools_host`.
    """

    name: Name
    host: str = "localhost"
    port: int = Field(default=5432, ge=1, le=65535)
    user: Name
    password_env: str | None = None
    sslmode: SslMode = "prefer"
    maintenance: Name = "postgres"
    application_roles: tuple[str, ...] = Field(min_length=1)
    tools_host: str = "here"
    tools: Path | None = None
    tools_address: Address | None = None
    error_log: str | None = None
    lock_timeout: Duration = Field(default=timedelta(seconds=5), ge=timedelta(milliseconds=1))
    lock_retries: int = Field(default=5, ge=0)


class Application(Section):
    """How the application's `manage.py` is run and pointed at a database.

    `database_address` is where it finds the server, if it has another address on `host` than here.
    """

    host: str = "here"
    url_env: str | None = None
    database_address: Address | None = None
    error_log: str | None = None


class CaddyRouter(Section):
    """Caddy through its admin API; `route` is the `@id` of the handler that Safepoint may replace."""

    kind: Literal["caddy"]
    admin: Url = "http://127.0.0.1:2019"
    route: Name = "safepoint"
    url: Url
    retry_after: Duration = timedelta(seconds=60)


class CommandRouter(Section):
    """Traffic is switched by commands of the user's own (a load balancer's CLI, a maintenance mode).

    Without `split` a launch has no canary. `state` prints `closed`, `open UPSTREAM` or `split UPSTREAM PERCENT`;
    without it `url` is asked, which shows whether the site is closed, but not a split.
    """

    kind: Literal["command"]
    host: str = "here"
    url: Url
    close: Argv
    open_old: Argv
    open_new: Argv
    split: Argv | None = None
    state: Argv | None = None
    retry_after: Duration = timedelta(seconds=60)


AnyRouter = Annotated[CaddyRouter | CommandRouter, Field(discriminator="kind")]


class KeepRules(Section):
    """How many days, weeks and months keep their newest proven snapshot beyond `keep`."""

    daily: int = Field(default=0, ge=0)
    weekly: int = Field(default=0, ge=0)
    monthly: int = Field(default=0, ge=0)


class SnapshotSettings(Section):
    """How snapshots are dumped, how long they stay on this machine, and to whom they are encrypted when they leave it.

    `encrypt_to` are age recipients (`age1...`) or SSH public keys; empty leaves them in the clear.
    """

    jobs: int = Field(default_factory=lambda: max(1, min(os.cpu_count() or 1, 8)), ge=1, le=64)
    compress: str = "zstd:1"
    max_age: Duration = timedelta(hours=2)
    keep: Duration = timedelta(days=30)
    keep_rules: KeepRules = KeepRules()
    encrypt_to: tuple[str, ...] = ()


class Store(Section):
    """One place where snapshots are kept: any fsspec URL.

    `encrypt_to` is `snapshot.encrypt_to` unless the store says something else (an empty list: in the clear).
    `lock`: how what is written to S3 is locked for the time of `keep`, where the bucket has Object Lock. `auto` leaves
    it to the bucket's default retention, and uses `governance` where the bucket has none.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")
    url: str
    options: dict[str, Any] = {}
    keep: Duration = timedelta(days=30)
    keep_rules: KeepRules = KeepRules()
    lock: Literal["auto", "none", "governance", "compliance"] = "auto"
    encrypt_to: tuple[str, ...] | None = None


class Cache(Section):
    """How the cache is cleared (commands of `manage.py`) and warmed (paths that are fetched)."""

    clear: tuple[Argv, ...] = (("clear_cache",),)
    warm: tuple[PagePath, ...] = ("/",)


class Canary(Section):
    """How many clients are let in to the new release first, and for how long they are watched."""

    percent: int = Field(default=10, ge=1, le=50)
    hold: Duration = timedelta(minutes=10)


class Watch(Section):
    """How the launch is watched once everyone is let in."""

    duration: Duration = timedelta(hours=2)
    every: Duration = timedelta(seconds=30)


class Login(Section):
    """A test user's way through the application: log in, then fill in one form.

    Where `path` leads on to `form_path` (`/accounts/login/?next=/entries/new/`), no other page is built in the window.
    """

    path: PagePath = "/accounts/login/"
    username: str
    password_env: str
    form_path: PagePath | None = None
    fields: dict[str, str] = {}
    expect: str | None = None
    browser: Literal["auto", "chromium", "http"] = "auto"


class Checkpoints(Section):
    """The limits of the monitored checks."""

    size_growth: float = Field(default=0.25, gt=0, description="share of the baseline")
    connections_share: float = Field(default=0.8, gt=0, le=1, description="share of max_connections")
    capture_wal_gb: float = Field(default=4.0, gt=0, description="WAL that the server keeps for the capture")
    error_lines: int = Field(default=0, ge=0)
    error_pattern: Annotated[str, AfterValidator(_expression)] = r"\b(ERROR|CRITICAL|FATAL|PANIC)\b"
    # Of what PostgreSQL logs only what is never anybody's own mistake: a refused statement or login is no alarm.
    database_error_pattern: Annotated[str, AfterValidator(_expression)] = (
        r"\bPANIC: |\bLOG:  server process .* was terminated by signal|\b(?:FATAL|ERROR|WARNING): .*"
        r"(?:invalid page|corrupt|No space left|out of memory|could not (?:fsync|extend))"
    )
    login: Login | None = None


class Gates(Section):
    """Who decides: `rule` (by evidence; a person only where it is inconclusive) or `person` (always)."""

    stop: Literal["rule", "person"] = "rule"
    canary: Literal["rule", "person"] = "rule"
    green: Literal["rule", "person"] = "rule"


class Timetable(Section):
    """When each phase begins, relative to the launch day T, in the plan's time zone."""

    prepare: TimetableMoment = Moment.parse("T-1 18:00")
    freeze: TimetableMoment = Moment.parse("T 08:00")
    stop: TimetableMoment = Moment.parse("T 09:00")
    migrate: TimetableMoment = Moment.parse("T 09:15")
    green: TimetableMoment = Moment.parse("T 09:30")
    watch: TimetableMoment = Moment.parse("T 10:00")
    retire: TimetableMoment = Moment.parse("T+3 12:00")

    @model_validator(mode="after")
    def _in_order(self) -> Timetable:
        moments = [(name, getattr(self, name)) for name in type(self).model_fields]
        for (name, earlier), (next_name, later) in pairwise(moments):
            if (earlier.days, earlier.at) > (later.days, later.at):
                raise ValueError(f"'{name}' ({earlier}) is later than '{next_name}' ({later})")
        return self


class PlanFile(Section):
    """`launch.toml` as a whole. `path` is the file that it was read from; relative paths in it start in its folder."""

    launch: Launch
    hosts: dict[str, AnyHost] = {}
    database: Database
    application: Application = Application()
    releases: Releases
    router: AnyRouter
    snapshot: SnapshotSettings = SnapshotSettings()
    scratch: ScratchServer | None = None
    stores: tuple[Store, ...] = Field(min_length=1)
    cache: Cache = Cache()
    canary: Canary = Canary()
    watch: Watch = Watch()
    checkpoints: Checkpoints = Checkpoints()
    gates: Gates = Gates()
    wayback: Wayback = Wayback()
    rehearsal: Rehearsal = Rehearsal()
    timetable: Timetable = Timetable()
    path: Path = Field(default=Path("launch.toml"), exclude=True)

    @model_validator(mode="after")
    def _stores_encrypt(self) -> PlanFile:
        """Whoever opens a store need not think of it: each knows to whom it encrypts."""
        stores = tuple(
            store.model_copy(update={"encrypt_to": self.snapshot.encrypt_to}) if store.encrypt_to is None else store
            for store in self.stores
        )
        object.__setattr__(self, "stores", stores)
        return self

    @model_validator(mode="after")
    def _has_an_id(self) -> PlanFile:
        """Folders and snapshots bear it: better refused here than by the first of them, the evening before."""
        if not _LAUNCH_ID.fullmatch(self.launch_id):
            raise ValueError(
                f"releases.new.version {self.releases.new.version[:99]!r} cannot be part of the launch's id, which has "
                "letters, digits, '.', '_' and '-' only, 99 at most: name an id in launch.id"
            )
        return self

    @model_validator(mode="after")
    def _hosts_exist(self) -> PlanFile:
        named = {"application.host": self.application.host, "database.tools_host": self.database.tools_host}
        if isinstance(self.router, CommandRouter):
            named["router.host"] = self.router.host
        for where, name in named.items():
            if name != "here" and name not in self.hosts:
                known = ", ".join(["here", *self.hosts])
                raise ValueError(f"{where} names the host {name!r}, which is not in [hosts] (known: {known})")
        if self.application.url_env in self.rehearsal.env:
            raise ValueError(
                f"rehearsal.env has {self.application.url_env!r}, which is application.url_env: a rehearsal sets it "
                "to the address of its copy"
            )
        if len({store.name for store in self.stores}) != len(self.stores):
            raise ValueError("two stores have the same name")
        if self.scratch and (self.scratch.host, self.scratch.port) == (self.database.host, self.database.port):
            raise ValueError(
                "scratch names the server of the database itself: copies are never made beside what is live"
            )
        return self

    @property
    def folder(self) -> Path:
        """The folder of the plan file, absolute."""
        return self.path.resolve().parent

    @property
    def has_canary(self) -> bool:
        """Whether a share of the clients can be let in before everyone is."""
        return not isinstance(self.router, CommandRouter) or self.router.split is not None

    @property
    def launch_id(self) -> str:
        """The launch's id, such as `accounting-2.0-20260301`."""
        launch = self.launch
        return launch.id or f"{launch.application}-{self.releases.new.version}-{launch.date:%Y%m%d}"

    @property
    def state(self) -> Path:
        """The folder of Safepoint's own state, absolute."""
        return (self.folder / self.launch.state).resolve()

    @property
    def conductor_lock(self) -> Path:
        """The file that the one conductor of this application holds, whichever of its launches it carries out."""
        return self.state / f"conductor-{self.launch.application}.lock"

    def host(self, name: str) -> AnyHost:
        """The settings of a host by its name; `here` always exists."""
        return self.hosts.get(name, HereHost())
