"""`safepoint follow`: from the launch until it is retired, what is captured is taken off the server."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from safepoint.cli.launch import PlanOption, refuse_without_launch
from safepoint.cli.printer import Printer
from safepoint.cli.saying import echo, let_go
from safepoint.cli.standing_plan import standing_plan
from safepoint.errors import Refused

if TYPE_CHECKING:
    from safepoint.config import PlanFile
    from safepoint.launch.ledger import Entry
    from safepoint.launch.wayback.following import Look, Standby

_LOOK_SECONDS = 1.0


def follow(
    plan: PlanOption = Path("launch.toml"),
    once: Annotated[bool, typer.Option("--once", help="One round, for a timer (cron, systemd).")] = False,
    json_: Annotated[bool, typer.Option("--json", help="A line of JSON for each thing that is said.")] = False,
) -> None:
    """After a launch: keep the capture drained, and the twin level where `follow = "live"`, until it is retired.

    Otherwise the server keeps all its write-ahead log for the way back. It makes way for a rollback by itself.
    """
    plan_file = standing_plan(plan)
    refuse_without_launch(plan_file)
    standby = _standby(plan_file)
    with _only_one(plan_file):
        _go_on(plan_file, standby, once=once, json_=json_)


def _standby(plan_file: PlanFile) -> Standby:
    from safepoint.launch.begin import entries_of, status_of
    from safepoint.launch.wayback.following import standby_of

    entries = entries_of(plan_file)
    if not _stands_by(entries):
        status = status_of(entries)
        raise Refused(
            f"The launch {plan_file.launch_id} does not stand by for a way back.",
            subject=plan_file.launch_id,
            expected="a launch that was carried out and is not retired",
            found="retired" if status == "launched" else str(status or "it is under way"),
            remedy="See `safepoint status`." if status is not None else _follower_of(plan_file),
        )
    standby = standby_of(plan_file, plan_file.launch_id, entries)
    if standby is None:
        raise Refused(
            "Nothing is decoded from the server's log, so there is nothing to follow.",
            subject=plan_file.launch_id,
            remedy="See what `safepoint report` says about the capture.",
        )
    return standby


def _follower_of(plan_file: PlanFile) -> str:
    """Who takes the capture off the server while the launch is under way."""
    from safepoint.launch.lock import held

    if held(plan_file.conductor_lock, plan_file.launch_id):
        return "Its conductor sees to the capture; give the command again once it is launched."
    return "Nobody conducts it now, and nobody sees to the capture: `safepoint launch` goes on with it."


def _stands_by(entries: list[Entry]) -> bool:
    """Whether a way back is open, and nobody is on it."""
    from safepoint.launch.begin import no_way_back, status_of

    return status_of(entries) == "launched" and not no_way_back(entries)


def _only_one(plan_file: PlanFile) -> BinaryIO:
    """The lock of the one that follows, held until this file is closed."""
    import fcntl

    from safepoint.launch.begin import launch_folder
    from safepoint.launch.storage import make_private

    make_private(launch_folder(plan_file))  # an earlier version left it open to others
    file = (launch_folder(plan_file) / "follow.lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Refused(
            "This launch is being followed already, by another `safepoint follow`.",
            subject=plan_file.launch_id,
            remedy="Leave it at work; it ends with the launch's retirement.",
        ) from None
    except OSError as error:  # a share without locks, say: the system does not say of which file
        file.close()
        raise OSError(error.errno, error.strerror, file.name) from error
    return file


def _go_on(plan_file: PlanFile, standby: Standby, *, once: bool, json_: bool) -> None:
    from safepoint.errors import CaptureLost
    from safepoint.launch.wayback.following import follow as follow_on
    from safepoint.launch.wayback.following import spool_only
    from safepoint.wayback.replay.manner import NotWhole

    leave = _Leave(plan_file, once=once, json_=json_)
    signal.signal(signal.SIGTERM, lambda *_: leave.now())
    signal.signal(signal.SIGINT, lambda *_: leave.now())
    # As a launch, it outlives its terminal: without it the server keeps its whole log until somebody looks.
    signal.signal(signal.SIGHUP, lambda *_: None)
    with closing(leave):
        try:
            follow_on(standby, leave, leave.told, leave.hindered)
        except CaptureLost:
            if not leave.look():  # with the launch's way back, or its retirement, the capture goes, as it must
                raise
        except (NotWhole, Refused) as error:
            if leave.look():  # a rollback gave the name to another database meanwhile
                return
            leave.say(
                f"The twin is not followed any further: {error.message} What comes is spooled; a rollback carries it.",
                not_followed=error.message,
            )
            spool_only(standby, leave, leave.told, leave.hindered)


class _Leave:
    """When to end: told so, after one round, or when somebody conducts or nothing stands by any more: the launch was
    retired, or rolled back while we slept. It says what comes."""

    def __init__(self, plan_file: PlanFile, *, once: bool, json_: bool) -> None:
        self._plan_file, self._once, self._json = plan_file, once, json_
        self._over = False
        self._next = 0.0
        self._said = ""
        self._ledger = (0, 0)
        self._printer = Printer(self._print)

    def now(self) -> None:
        """End soon."""
        self._over = True

    def told(self, look: Look) -> None:
        """A round is over."""
        self._said = ""
        if look.spooled or (self._once and self._json):  # a script that asked once has an answer
            self.say(f"{look.spooled} transactions spooled, {look.applied} applied to the twin", **asdict(look))
        self._over = self._over or self._once

    def hindered(self, error: Exception) -> None:
        """A round was not possible: said once, and tried again; a timer hears of it, and tries again itself."""
        if self._once:
            raise error
        from safepoint.launch.storage import told

        if self.look():
            return
        said = told(error, begun=True).message if isinstance(error, OSError) else str(getattr(error, "message", error))
        if said != self._said:
            self.say(f"{said} It is tried again; the server keeps what was not spooled.", hindered=said)
        self._said = said

    def say(self, line: str, **facts: Any) -> None:
        """A line for people, or the same for a program; at once, for whoever reads along.

        Nobody waits for the reader: as long as a round did, the server would keep its log.
        """
        self._printer(json.dumps({"launch": self._plan_file.launch_id, **facts}) if self._json else line)

    def close(self) -> None:
        """Say what is left to be said."""
        self._printer.close()

    def _print(self, line: str) -> None:
        try:
            echo(line)
            sys.stdout.flush()
        except OSError:  # the terminal has gone
            let_go(1)

    def __call__(self) -> bool:
        return self.look() if time.monotonic() > self._next else self._over

    def look(self) -> bool:
        """Whether to end, as the ledger has it now: a second may have passed since it was asked last."""
        from safepoint.launch import lock

        if not self._over:
            self._next = time.monotonic() + _LOOK_SECONDS
            plan = self._plan_file
            with suppress(OSError):  # our disk is away, which is not that the launch is over; the round will say so
                if lock.held(plan.conductor_lock, plan.launch_id) or self._ended():
                    self._over = True  # asked by two threads, and by signals: never taken back
        return self._over

    def _ended(self) -> bool:
        """Whether nothing stands by any more. The ledger is read when it has changed: it has the mapping of all tables
        in it, and to check its chain each second takes as long with thousands of them.

        Raises:
            OSError: it cannot be read.
        """
        from safepoint.launch.begin import entries_of, launch_folder

        found = (launch_folder(self._plan_file) / "ledger.jsonl").stat()
        state = (found.st_size, found.st_mtime_ns)
        if state == self._ledger:
            return False
        entries = entries_of(self._plan_file)
        self._ledger = state
        return not _stands_by(entries)
