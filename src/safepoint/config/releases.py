"""`[releases]` of the plan file: the release that runs today, and the one that is launched."""

from __future__ import annotations

from datetime import timedelta

from pydantic import PrivateAttr, model_validator

from safepoint.config.section import Address, Argv, Duration, Name, PagePath, Section

PORT = "{port}"
"""Stands in a release's commands and variables for the port of its `upstream`."""


class Release(Section):
    """One release of the application: where it is, how it is started, stopped and reached.

    `{port}` in `start`, `stop` and `env` is the port of `upstream`. Written so, a rehearsal can start the release at
    another port, with the variables of `[application]` leading to its copy: they must reach the release.
    """

    version: Name
    """What people call it."""
    directory: str | None = None
    """Its folder on the application's host: two folders, two units or two images, so that the old one is there when it
    is needed again.
    """
    manage: Argv = ("python", "src/manage.py")
    """How its `manage.py` is called."""
    env: dict[str, str] = {}
    """Variables for its `manage.py`, `start` and `stop`."""
    start: Argv
    """Starts it, workers and schedulers included, and returns. Given twice, it must be harmless."""
    stop: Argv
    """Stops it, workers and schedulers included, and returns: what is left running works on in the other release's
    schema, once the window is over. Given twice, it must be harmless.
    """
    upstream: Address
    """Where it answers in plain HTTP, for the router and for the launch itself, which asks it there. Of several hosts
    it is one: a load balancer answers for a release that is gone, too, and would make it seem to be there still.
    """
    health: PagePath = "/"
    """A page that answers 200 when all is well, and does not lead to a login."""
    start_timeout: Duration = timedelta(seconds=60)
    """How long it may take from its start to that answer."""
    stage: bool = False
    """Start it before the window, without traffic, so that the window need not wait for it. For the new release."""
    data: tuple[str, ...] = ()
    """Files and folders in `directory` that are no code, and may change after the code is frozen: what people upload,
    pid files, caches. Those that the settings name (MEDIA_ROOT, caches and logs in files) need not be told.
    """
    _written: tuple[Argv, Argv, dict[str, str]] = PrivateAttr(((), (), {}))

    @model_validator(mode="after")
    def _at_its_port(self) -> Release:
        """Whoever carries out a launch reads commands that are ready."""
        if not any(self._written):
            self._written = (self.start, self.stop, self.env)
        self._place(self.upstream.rpartition(":")[2])
        return self

    def _place(self, port: str) -> None:
        start, stop, env = self._written
        object.__setattr__(self, "start", tuple(word.replace(PORT, port) for word in start))
        object.__setattr__(self, "stop", tuple(word.replace(PORT, port) for word in stop))
        object.__setattr__(self, "env", {name: value.replace(PORT, port) for name, value in env.items()})

    def at_port(self, port: int) -> Release | None:
        """The same release at another port; None where its commands do not leave the port open."""
        start, stop, env = self._written
        by_variable = any(PORT in value for value in env.values())
        if not all(by_variable or any(PORT in word for word in words) for words in (start, stop)):
            return None
        moved = self.model_copy(update={"upstream": f"{self.upstream.rpartition(':')[0]}:{port}"})
        moved._place(str(port))
        return moved


class Releases(Section):
    """The release that runs today and the one that is launched."""

    old: Release
    """The release that runs today, and again after a rollback."""
    new: Release
    """The release that is launched."""

    @model_validator(mode="after")
    def _side_by_side(self) -> Releases:
        if self.new.stage and self.new.upstream == self.old.upstream:
            raise ValueError(
                f"new.stage starts {self.new.version} while {self.old.version} still answers at {self.old.upstream}: "
                "give the new release another upstream, or leave stage out"
            )
        return self
