"""The plan file as a whole: frozen, validated models. Each field says what it means and in which unit.

The models hold no secret: passwords are named by the environment variable that has them.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, PrivateAttr, model_validator

from safepoint.config.checkpoints import Checkpoints
from safepoint.config.database import Application, Database
from safepoint.config.day import Cache, Canary, Gates, Launch, Timetable, Watch
from safepoint.config.hosts import AnyHost, HereHost
from safepoint.config.rehearsal import Rehearsal
from safepoint.config.releases import Releases
from safepoint.config.routers import AnyRouter, CommandRouter
from safepoint.config.scratch import ScratchServer
from safepoint.config.section import Section
from safepoint.config.snapshots import SnapshotSettings, Store
from safepoint.config.wayback import Wayback

_LAUNCH_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,98}")


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
    _text: str = PrivateAttr(default="")
    _fault: str = PrivateAttr(default="")

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
        if both := [name for name in self.application.led_by if name in self.rehearsal.env]:
            raise ValueError(
                f"rehearsal.env has {both[0]!r}, by which [application] is led to a database: a rehearsal sets it to "
                "the address of its copy"
            )
        if len({store.name for store in self.stores}) != len(self.stores):
            raise ValueError("two stores have the same name")
        if self.scratch and (self.scratch.host, self.scratch.port) == (self.database.host, self.database.port):
            raise ValueError(
                "scratch names the server of the database itself: copies are never made beside what is live"
            )
        return self

    def read_as(self, text: str, fault: str = "") -> PlanFile:
        """This plan file, with the text that it was read from.

        Args:
            fault: what is wrong with the file now, where this is not it, but what a conductor read before.
        """
        self._text, self._fault = text, fault
        return self

    @property
    def text(self) -> str:
        """What was read."""
        return self._text

    @property
    def fault(self) -> str:
        """Why the file as it is now is not gone by (see `launch.last_read`); empty where it is."""
        return self._fault

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
