"""Looking at the site outside a launch's own steps: before it, between green and T+3, or while it recovers.

Nothing is changed anywhere, and no conductor is needed. What the error logs get counts from one look to the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from safepoint.checkpoints import database, logs
from safepoint.checkpoints import router as router_checkpoint
from safepoint.checkpoints.checkpoint import Checkpoint, Verdict, timed, worst
from safepoint.checkpoints.pages import health
from safepoint.config import PlanFile, Release
from safepoint.hosts import open_host
from safepoint.launch.begin import entries_of, no_way_back, status_of
from safepoint.launch.error_logs import Watched, watched
from safepoint.launch.ground import newest_fact
from safepoint.launch.storage import make_private, storage_error, write_private
from safepoint.launch.wayback import captured
from safepoint.launch.wayback.pairs import standing_pair
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.routers import Router, RouterState, open_router
from safepoint.wayback.capture import capture
from safepoint.wayback.capture.spool import durable_end


@dataclass(frozen=True)
class Seen:
    """One look. `release` is the version that people are on (None where nobody is let in), `percent` the share of them
    where the router splits."""

    release: str | None
    checkpoints: tuple[Checkpoint, ...]
    percent: int | None = None

    @property
    def verdict(self) -> Verdict:
        """Of all together."""
        return worst(self.checkpoints)

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        points = [point.as_json() for point in self.checkpoints]
        return {"release": self.release, "percent": self.percent, "verdict": self.verdict, "checkpoints": points}


class Watching:
    """Look after look at whichever release people are on. `release`, where one is given, is the one to look at."""

    def __init__(self, plan: PlanFile) -> None:
        self._plan = plan
        self._router: Router = open_router(plan.router, self._host, old=plan.releases.old.upstream)
        self._marks = _Marks(plan.state / f"watch-{plan.launch.application}.json")

    def now(self) -> Seen:
        """All checkpoints that can be looked at from outside. One that could not look has failed."""
        plan = self._plan
        self._entries = entries_of(plan)
        self._status = status_of(self._entries)
        self._percent: int | None = None
        release, router = self._who_is_let_in()
        found = [router]
        if release is not None:
            found.insert(0, health(f"http://{release.upstream}", release.health, public_url=self._router.url))
        found += [
            timed("size", "Database size", self._size),
            timed("connections", "Connections", self._connections),
            *(timed(log.kind.name, log.kind.title, partial(self._log, log)) for log in watched(plan)),
        ]
        facts = newest_fact(self._entries, "capture")
        if self._status == "launched" and not no_way_back(self._entries) and facts and facts["mode"] != "none":
            found.append(timed("capture", "Capture", partial(self._capture, facts)))
        found += self._unkept()
        return Seen(None if release is None else release.version, tuple(found), self._percent)

    def _unkept(self) -> list[Checkpoint]:
        """A disk that takes nothing ends no watch: this one knows how far the logs were read; a later one would not."""
        try:
            self._marks.keep()
        except OSError as error:
            said = storage_error(error, begun=bool(self._entries))
            why = f"how far the error logs were read is not kept for another `safepoint watch`: {said.message}"
            return [Checkpoint("state", "State folder", "fail", detail=why, remedy=said.remedy)]
        return []

    def _who_is_let_in(self) -> tuple[Release | None, Checkpoint]:
        """By the router; where it cannot say to whom it leads, by how the launch ended."""
        releases = self._plan.releases
        ended = releases.new if self._status == "launched" else releases.old
        seen: list[Release | None] = []

        def look() -> Checkpoint:
            state = self._router.state()
            if state.mode == "closed":
                seen.append(None)
                return Checkpoint("router", "Router", "fail", detail="the site is closed", remedy="`safepoint status`.")
            named = (one for one in (releases.old, releases.new) if one.upstream == state.upstream)
            seen.append(next(named, ended))
            self._percent = state.percent
            return router_checkpoint.look(self._router, RouterState(state.mode, state.upstream))

        found = timed("router", "Router", look)
        return (seen[0] if seen else ended), found

    def _size(self) -> Checkpoint:
        baseline = (newest_fact(self._entries, "baseline") or {}).get("size")
        with connect(self._database()) as connection:
            return database.size(connection, baseline=baseline, growth=self._plan.checkpoints.size_growth)

    def _connections(self) -> Checkpoint:
        with connect(self._database()) as connection:
            return database.connections(connection, share=self._plan.checkpoints.connections_share)

    def _log(self, log: Watched) -> Checkpoint:
        host = self._host(log.host)
        since = self._marks.of(log.fact)
        found = logs.mark(host, log.path) if since is None else logs.read(host, since, log.pattern)
        self._marks.set(log.fact, found)
        judged = logs.judge_log(found, limit=self._plan.checkpoints.error_lines, kind=log.kind)
        return judged if since else replace(judged, detail=f"{log.path} is read from here on")

    def _capture(self, facts: Mapping[str, Any]) -> Checkpoint:
        """Only looked at: taking it off the server is the business of `safepoint follow`."""
        known = capture.CaptureFacts.from_json(dict(facts))
        folder = self._plan.state / "launches" / self._plan.launch_id / "spool"
        return captured.look(self._plan, self._database(), known, durable_end(folder).transactions)

    def _database(self) -> Target:
        """The live one: after a rollback that of the twin, which may stand on another server."""
        pair = standing_pair(self._plan, self._plan.launch_id, newest_fact(self._entries, "twin"))
        return pair.swapped_in if self._status == "rolled back" else pair.live

    def _host(self, name: str) -> Any:
        return open_host(name, self._plan.host(name), self._plan.folder)


class _Marks:
    """How far the error logs were read by the look before, also by one of another day."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            known = json.loads(path.read_text())
            self._known = {fact: logs.LogMark.from_json(data) for fact, data in known.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            self._known = {}

    def of(self, fact: str) -> logs.LogMark | None:
        """The mark, with nothing found up to it."""
        known = self._known.get(fact)
        return None if known is None else replace(known.from_here(), gap=False)

    def set(self, fact: str, mark: logs.LogMark) -> None:
        """From here on the next look reads."""
        self._known[fact] = mark

    def keep(self) -> None:
        """Write them down.

        Raises:
            OSError: the state folder cannot be written.
        """
        make_private(self._path.parent)
        write_private(self._path, json.dumps({fact: mark.as_json() for fact, mark in self._known.items()}))
