"""`safepoint launch`: carry out the plan, or go on where a dead conductor stopped."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from safepoint.cli.ending import last_words, tell_left
from safepoint.cli.saying import echo, say
from safepoint.errors import ExitCode, PlanFileError, Refused

if TYPE_CHECKING:
    from safepoint.config import PlanFile
    from safepoint.launch.conductor import Conductor
    from safepoint.launch.ledger import Entry
    from safepoint.launch.plan import Plan

PlanOption = Annotated[Path, typer.Option("--plan", help="The plan file.")]

EXIT_OF_STATUS = {
    "launched": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "aborted": ExitCode.ROLLED_BACK,
    "rolled back": ExitCode.ROLLED_BACK,
}


def launch(
    plan: PlanOption = Path("launch.toml"),
    now: Annotated[bool, typer.Option("--now", help="Wait for no moment of the timetable.")] = False,
    at: Annotated[str | None, typer.Option("--at", help="When traffic stops: 'YYYY-MM-DD HH:MM', plan's zone.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Begin a launch that was aborted anew.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End with code 4 where a person must decide.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="One line an event instead of a live view.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Answer the end as JSON.")] = False,
) -> None:
    """Carry out the launch, or go on where it was."""
    from safepoint.launch.begin import prepare_launch
    from safepoint.launch.last_read import to_go_on

    try:
        plan_file, the_plan = prepare_launch(plan, hurry=now, at=at, again=again)
    except PlanFileError as error:
        raise to_go_on(error, plan) if error.subject == str(plan) else error from None
    plain = plain or json_
    status = conduct(
        plan_file,
        the_plan,
        "launch",
        lambda c: c.launch(again=again),
        plain=plain,
        no_wait=no_wait,
        quiet=json_,
    )
    end(plan_file, the_plan, status, json_=json_)


def conduct(
    plan_file: PlanFile,
    the_plan: Plan,
    word: str,
    work: Callable[[Conductor], str],
    *,
    plain: bool = False,
    no_wait: bool = False,
    quiet: bool = False,
) -> str:
    """Be the conductor for one piece of work, with the live timeline; Ctrl-C leaves, and the launch can go on later.

    Args:
        word: the command that was typed.

    Raises:
        Refused: another conductor is at work.
    """
    from safepoint.cli.timeline import Timeline
    from safepoint.launch.begin import entries_of, open_question
    from safepoint.launch.conductor import Conductor
    from safepoint.launch.edited import Edits

    history = entries_of(plan_file)
    timeline = Timeline(the_plan, plain=plain, quiet=quiet, history=history)
    asked = _Asked(stands=open_question(history) is not None)

    def listen(entry: Entry) -> None:
        timeline.on_entry(entry)
        asked.on_entry(entry)

    conductor = Conductor(
        plan_file, the_plan, tell=timeline.on_progress, listeners=(listen,), command=f"safepoint {word}"
    )
    answer: list[str] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            with conductor:
                answer.append(work(conductor))
        except BaseException as error:  # handed over to the main thread, which raises it
            failure.append(error)

    with timeline:
        thread = threading.Thread(target=run, name="conductor", daemon=True)
        thread.start()
        edits = Edits(plan_file, conductor.folder)
        code = _attend(thread, conductor, asked if no_wait else None, lambda: timeline.on_edited(edits.news()))
    if code is not None:
        _leave(plan_file, conductor, code, quiet=quiet)
    if failure:
        raise failure[0]
    return answer[0]


def _leave(plan_file: PlanFile, conductor: Conductor, code: ExitCode, *, quiet: bool) -> NoReturn:
    """End this process, also where its last words cannot be said: a terminal that is gone must not make of it a
    conductor that stays, takes every order, and carries out nothing.
    """
    try:
        conductor.leave(3)  # seconds for a running command to be ended
        if (error := conductor.refusal or conductor.broken) is not None:
            say(error)
        if conductor.refusal is None and not (error and quiet):  # JSON is one answer
            tell_left(plan_file, code, json_=quiet)
        sys.stdout.flush()
    finally:
        # The engine's threads hold a step that must not be recorded: leave at once, as after a kill.
        os._exit(int(code))


class _Asked:
    """Whether a person must decide now: asked in this run, or before it and not answered since."""

    PATIENCE = 1.0
    """Seconds after resuming within which an answer that was given meanwhile is taken up."""

    def __init__(self, *, stands: bool) -> None:
        self._open = False
        self._stands, self._since = stands, float("inf")

    def on_entry(self, entry: Entry) -> None:
        """A line of the ledger."""
        if entry.kind == "ask":
            self._open = True
        elif entry.kind == "resumed":
            self._since = time.monotonic()
        else:
            self._stands = False

    def __bool__(self) -> bool:
        return self._open or (self._stands and time.monotonic() - self._since > self.PATIENCE)


def _attend(
    thread: threading.Thread, conductor: Conductor, asked: _Asked | None, look: Callable[[], None]
) -> ExitCode | None:
    """Wait for the work's end; the code to leave with where it is left before.

    Args:
        look: is called again and again meanwhile.
    """
    leave: list[ExitCode] = []
    signal.signal(signal.SIGTERM, lambda *_: leave.append(ExitCode.INTERRUPTED))
    signal.signal(signal.SIGINT, lambda *_: leave.append(ExitCode.INTERRUPTED))
    # A terminal that closed (a link that broke) is no order: the site may be closed, and any other terminal can give
    # one. Not SIG_IGN, which the releases that are started would inherit.
    signal.signal(signal.SIGHUP, lambda *_: None)
    # Ctrl-Z: a conductor that stands still holds its lock, and orders would be given to it in vain.
    signal.signal(signal.SIGTSTP, lambda *_: None)
    while thread.is_alive():
        thread.join(0.1)
        look()
        if asked is not None and asked and _for_a_person(conductor):
            leave.append(ExitCode.NEEDS_PERSON)
        if conductor.refusal is not None:
            leave.append(ExitCode.NO_GO)
        if conductor.broken is not None:
            leave.append(ExitCode.FAILED)
        if leave:
            return leave[0]
    return None


def _for_a_person(conductor: Conductor) -> bool:
    """Whether the question is open still, and is none that the conductor answers itself once a server is back."""
    from safepoint.launch.begin import open_question
    from safepoint.launch.coming_back import awaited

    entries = conductor.ledger.entries
    return open_question(entries) is not None and awaited(entries) is None


def end(plan_file: PlanFile, the_plan: Plan, status: str, *, json_: bool) -> NoReturn:
    """Say how what was conducted ended, and end with its exit code.

    Raises:
        typer.Exit: always.
    """
    from safepoint.launch.begin import last_reason, no_go

    reason = last_reason(plan_file)
    if json_:
        import json

        answer: dict[str, Any] = {"launch": the_plan.launch_id, "status": status, "reason": reason}
        echo(json.dumps(answer))
    elif status != "launched":
        last_words(plan_file)
    code = EXIT_OF_STATUS.get(status, ExitCode.FAILED)
    if no_go(plan_file) and (status == "failed" or (status == "aborted" and not _was_closed(plan_file))):
        code = ExitCode.NO_GO
    raise typer.Exit(int(code))


def _was_closed(plan_file: PlanFile) -> bool:
    """Whether the newest try kept anybody out: where it did not, a no-go took nothing back that people saw."""
    from safepoint.launch.begin import entries_of
    from safepoint.launch.report.model import build, present
    from safepoint.launch.report.ways import was_closed

    entries = entries_of(plan_file)
    return was_closed(present(build(entries), entries))


def refuse_without_launch(plan_file: PlanFile) -> None:
    """Orders need a launch that was begun.

    Raises:
        Refused: it was not.
    """
    from safepoint.launch.begin import entries_of
    from safepoint.launch.elsewhere import refuse_elsewhere
    from safepoint.launch.lock import held
    from safepoint.launch.others import other_launch

    if entries_of(plan_file):
        return

    if held(plan_file.conductor_lock, plan_file.launch_id):  # its guard on the server is not another folder's
        raise Refused(
            f"The launch {plan_file.launch_id} is just beginning: its conductor has written nothing yet.",
            subject=plan_file.launch_id,
            remedy="Nothing live was touched. Give the order again in a moment.",
        )
    other = other_launch(plan_file)
    if other is None:
        refuse_elsewhere(plan_file, [])  # without an answer this folder alone can say
    raise Refused(
        f"The launch {plan_file.launch_id} has not begun." + (f" Another one has: {other}." if other else ""),
        subject=plan_file.launch_id,
        remedy=other.remedy(plan_file) if other else "Begin it with `safepoint launch`.",
    )
