"""What a verb works on: the plan file, the parts that it names, and what the ledger knows already."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from safepoint.config import Argv, PlanFile, Release
from safepoint.django.managepy import Manage, redirect
from safepoint.errors import Interrupted, SafepointError
from safepoint.hosts import Command, Host, command, open_host
from safepoint.launch.background import Background
from safepoint.launch.ledger import Entry, Ledger
from safepoint.launch.step import Evidence, PlannedStep
from safepoint.launch.wayback.pairs import leading, level_pair, standing_pair
from safepoint.postgres.target import Target, target
from safepoint.progress import Progress
from safepoint.routers import Router, open_router
from safepoint.wayback.names import kept_name, twin_name
from safepoint.wayback.twin.pair import Pair

Which = Literal["old", "new"]
WHICH: tuple[Which, ...] = ("old", "new")


def aborts(entries: Sequence[Entry]) -> int:
    """How often this launch was aborted: each abort takes everything back, and the next try begins anew."""
    return sum(entry.kind == "end" and entry.data["status"] == "aborted" for entry in entries)


def since_abort(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries of the current try."""
    ends = [i for i, entry in enumerate(entries) if entry.kind == "end" and entry.data["status"] == "aborted"]
    return entries[ends[-1] + 1 :] if ends else entries


def newest_fact(entries: Sequence[Entry], name: str) -> dict[str, Any] | None:
    """A fact by its name, as the newest try recorded it; for readers of a ledger who have no step under way."""
    found = [entry for entry in entries if entry.kind == "fact" and entry.key.endswith(f":{name}")]
    return dict(found[-1].data) if found else None


class Ground:
    """One launch as its verbs see it. Made by the conductor for each step."""

    def __init__(
        self,
        plan: PlanFile,
        launch_id: str,
        ledger: Ledger,
        step: PlannedStep,
        *,
        background: Background,
        interrupted: threading.Event,
        tell: Callable[[PlannedStep, Progress], None],
        hurry: bool,
    ) -> None:
        self.plan = plan
        self.launch_id = launch_id
        self.ledger = ledger
        self.step = step
        self.background = background
        self.hurry = hurry
        self._interrupted = interrupted
        self._tell = tell

    @property
    def folder(self) -> Path:
        """The launch's own folder below the state folder."""
        return self.plan.state / "launches" / self.launch_id

    @property
    def snapshots(self) -> Path:
        """Where snapshots stand before they go to the stores."""
        return self.plan.state / "snapshots"

    @property
    def scratch(self) -> Path:
        """Where throw-away servers stand."""
        return self.plan.state / "scratch"

    @property
    def twin(self) -> str:
        """The name of the twin database."""
        return twin_name(self.plan.database.name, self.launch_id)

    @property
    def kept(self) -> str:
        """The name under which a rollback keeps the migrated database."""
        return kept_name(self.plan.database.name, self.launch_id)

    @cached_property
    def target(self) -> Target:
        """The live database, as the conductor logs in."""
        return target(self.plan.database)

    @cached_property
    def maintenance(self) -> Target:
        """The database that the conductor works from while nobody may be connected to the live one."""
        return self.target.on(self.plan.database.maintenance)

    @cached_property
    def pair(self) -> Pair:
        """The live database and the twin that is kept level."""
        return level_pair(self.plan, self.launch_id)

    @property
    def standing(self) -> Pair:
        """The live database and the twin that stands ready for a rollback."""
        return standing_pair(self.plan, self.launch_id, self.fact("twin"))

    @cached_property
    def router(self) -> Router:
        """What lets traffic through."""
        return open_router(self.plan.router, self.host, old=self.plan.releases.old.upstream)

    def host(self, name: str) -> Host:
        """A host of the plan by its name."""
        return open_host(name, self.plan.host(name), self.plan.folder)

    @property
    def application_host(self) -> Host:
        """Where the application runs."""
        return self.host(self.plan.application.host)

    def release(self, which: Which) -> Release:
        """The old or the new release."""
        return self.plan.releases.old if which == "old" else self.plan.releases.new

    def variables(self, which: Which) -> tuple[dict[str, str], dict[str, str]]:
        """The environment of a release's commands, and its secrets. A rollback may lead the old one elsewhere."""
        release = self.release(which)
        if which == "new" or not self.goes_elsewhere:
            return dict(release.env), {}
        env, secrets = leading(self.plan)
        return {**release.env, **env}, secrets

    @property
    def goes_elsewhere(self) -> bool:
        """Whether this step belongs to a rollback (or its return) that swaps in a twin on another server."""
        return self.step.id.startswith(("back-", "forth-")) and self.standing.apart

    def order(self, which: Which, words: Argv) -> Command:
        """A command of a release, with its variables and in its directory."""
        env, secrets = self.variables(which)
        return command(words, env=env, secrets=secrets, directory=self.release(which).directory)

    def manage(self, which: Which, login: Target | None = None) -> Manage:
        """The `manage.py` of a release, with its own login to the database or with another one."""
        env, secrets = self.variables(which)
        if login is not None:
            env, secrets = redirect(self.plan.application, login)
        return Manage(self.application_host, self.release(which), env=env, secrets=secrets)

    def record(self, name: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write down a fact or an intention before acting on it. The first one recorded stays."""
        key = f"fact:{self._try}:{name}"
        entry = self._fact(name) or self.ledger.append("fact", key, data, step=self.step.id)
        return entry.data

    def renew(self, name: str, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """As `record`, but what an earlier run of this try found holds no more: it failed before its window, and the
        cause may have been removed since. Within a run the first one recorded stays.
        """
        if self.is_of_this_run(name):
            return self.need(name)
        key = f"fact:{self._try}:run-{self._run}:{name}"
        return self.ledger.append("fact", key, data, step=self.step.id).data

    def fact(self, name: str) -> Mapping[str, Any] | None:
        """A fact recorded before, if there is one."""
        entry = self._fact(name)
        return None if entry is None else entry.data

    def is_of_this_run(self, name: str) -> bool:
        """Whether a fact was recorded in the newest run, and not in an earlier one that failed before its window."""
        entry = self._fact(name)
        begun = max((e.seq for e in self.ledger.entries if e.kind == "run"), default=0)
        return entry is not None and entry.seq > begun

    def _fact(self, name: str) -> Entry | None:
        # What was true before an abort is not taken for true by the next try of the same launch.
        keys = [f"fact:{self._try}:run-{run}:{name}" for run in range(self._run, -1, -1)]
        found = (self.ledger.find(key) for key in (*keys, f"fact:{self._try}:{name}"))
        return next((entry for entry in found if entry is not None), None)

    @property
    def _try(self) -> int:
        return aborts(self.ledger.entries)

    @property
    def _run(self) -> int:
        return sum(entry.kind == "run" for entry in self.ledger.entries)

    def need(self, name: str) -> Mapping[str, Any]:
        """A fact that an earlier step must have recorded.

        Raises:
            SafepointError: it is not there; the plan was not carried out in order.
        """
        data = self.fact(name)
        if data is None:
            raise SafepointError(f"The ledger has no fact {name!r} yet.", subject=self.step.id)
        return data

    def evidence(self, step_id: str) -> Mapping[str, Any] | None:
        """The newest evidence that a step was done."""
        return next(
            (
                entry.data["evidence"]
                for entry in reversed(since_abort(self.ledger.entries))
                if entry.kind == "step.done" and entry.step == step_id
            ),
            None,
        )

    @property
    def discards(self) -> bool:
        """Whether the way back was ordered with `--discard`: nothing is carried, all is listed."""
        return bool(self._ordered_back.get("discard"))

    @property
    def stops_first(self) -> bool:
        """Whether it was ordered with `--stop-first`: the site is closed at once, whatever is to be carried."""
        return bool(self._ordered_back.get("stop_first"))

    @property
    def _ordered_back(self) -> Mapping[str, Any]:
        """The newest order of this run that was taken; empty where the launch takes the way back by itself.

        What was ordered in an earlier run (of a try that was aborted, of a rollback that was turned round) holds no
        more, and what was answered with "ignored" is not obeyed.
        """
        given: Mapping[str, Any] = {}
        for entry in self.ledger.entries:
            if entry.kind == "run":
                given = entry.data.get("order") or {}
            elif entry.kind == "order" and entry.data["fate"] == "taken":
                given = entry.data if entry.data["order"] in ("abort", "rollback") else given
        return given

    @property
    def begun_before(self) -> bool:
        """Whether this step was begun before in this try: a conductor died in it, or it is tried again."""
        entries = since_abort(self.ledger.entries)
        begun = [e.seq for e in entries if e.kind == "step.begun" and e.step == self.step.id]
        resumed = [e.seq for e in entries if e.kind == "resumed"]
        return len(begun) > 1 or bool(begun and resumed and begun[0] < resumed[-1])

    def report(self, progress: Progress) -> None:
        """Tell how far the step is (for people; not recorded)."""
        self._tell(self.step, progress)

    def cancelled(self) -> bool:
        """Whether an order came that ends this step."""
        return self._interrupted.is_set()

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than until an order comes.

        Raises:
            Interrupted: it came.
        """
        if self._interrupted.wait(seconds):
            raise Interrupted(f"The step {self.step.id} was ended by an order.", subject=self.step.id)

    def until(self, seconds: float, every: float, done: Callable[[], Evidence | None]) -> Evidence | None:
        """Ask `done` again and again for a time; its first answer that is not None, else None at the end."""
        deadline = time.monotonic() + seconds
        while True:
            answer = done()
            if answer is not None or time.monotonic() >= deadline:
                return answer
            self.pause(min(every, max(0.0, deadline - time.monotonic())))
