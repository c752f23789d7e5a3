"""The live timeline of a launch: what runs, how long, how far, what it proved, and what a person must type now.

It listens to the ledger and to the steps' progress. It never raises into the conductor: a timeline that cannot
show something says so at the end, and the launch goes on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from safepoint.cli.printer import Printer
from safepoint.cli.terminal import Terminal
from safepoint.cli.timeline_lines import Marks, event_line, marks_for, progress_text, question_lines
from safepoint.cli.timeline_state import State
from safepoint.cli.timeline_view import frame
from safepoint.config.durations import format_duration

if TYPE_CHECKING:
    from safepoint.launch.ledger import Entry
    from safepoint.launch.plan import Plan
    from safepoint.launch.step import PlannedStep
    from safepoint.progress import Progress

REFRESH = 8  # frames a second: fast enough to look alive, a few percent of one core
QUIET = 10.0  # seconds between two progress lines of one step, off a terminal
SILENT = 60.0  # seconds of a step that says nothing, after which it is told to go on, off a terminal


class Timeline:
    """Shows a launch while it is carried out. A context; give `on_entry` and `on_progress` to the conductor.

    On a terminal it draws in place; off a terminal, with `NO_COLOR`, or with `plain`, it prints a line an event;
    with `quiet` it shows nothing (the output belongs to JSON). `history` is what the ledger holds already, where a
    launch goes on that another conductor began.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        plain: bool = False,
        quiet: bool = False,
        history: Sequence[Entry] = (),
        console: Terminal | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Terminal()
        self._quiet = quiet
        self.plain = plain or quiet or not self._console.is_terminal or bool(os.environ.get("NO_COLOR"))
        self.faults: list[str] = []
        self._state = State(plan)
        self._zone = ZoneInfo(plan.timezone)
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._marks: Marks = marks_for(self._console.encoding)
        self._told: dict[str, float] = {}
        self._live: Live | None = None
        self._printer: Printer[Text] | None = None
        self._over = threading.Event()
        for entry in history:
            self._state.take(entry, monotonic() - (datetime.now(UTC) - entry.when).total_seconds())

    def __enter__(self) -> Timeline:
        if not self.plain:
            self._live = Live(
                console=self._console,
                get_renderable=self._frame,
                refresh_per_second=REFRESH,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        elif not self._quiet:
            self._printer = Printer(self._print)  # the conductor gives the lines, and must not wait for a terminal
            threading.Thread(target=self._look_for_silent_steps, name="silent steps", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live is not None:
            with self._lock:
                self._state.over = True  # the last frame stays on the screen, so it is the whole plan
            try:
                self._live.stop()
            except (OSError, ValueError) as fault:
                self._fault(fault)
        if self._printer is not None:
            self._printer.close()
            self._printer = None
        if self.faults and not self.plain:
            self._say(Text(f"The timeline could not show everything: {self.faults[0]}", style="yellow"))

    def on_entry(self, entry: Entry) -> None:
        """A line was written to the ledger."""
        try:
            with self._lock:
                self._state.take(entry, self._monotonic())
                if self.plain:
                    self._tell(entry)
        except Exception as fault:  # showing must never end a launch
            self._fault(fault)

    def on_progress(self, step: PlannedStep, progress: Progress) -> None:
        """A step said how far it is."""
        try:
            with self._lock:
                now = self._monotonic()
                self._state.progress(step.id, progress, now)
                if self.plain and now - self._told.get(step.id, self._state.begun_at(step.id, now)) >= QUIET:
                    self._told[step.id] = now
                    text = progress_text(self._state.moving(step.id), now, bar=0, ascii_only=self._marks.ascii_only)
                    self._line(datetime.now(UTC), self._marks.running, f"{step.id:<15} {text}")
        except Exception as fault:  # showing must never end a launch
            self._fault(fault)

    def tell_of_silent_steps(self) -> None:
        """Off a terminal, where no time runs on the screen: a line for each step of which a minute says nothing."""
        with self._lock:
            now = self._monotonic()
            for line in self._state.lines.values():
                if line.verdict != "running" or line.begun is None:
                    continue
                if now - max(line.begun, self._told.get(line.id, line.begun)) >= SILENT:
                    self._told[line.id] = now
                    text = f"{line.id:<15} goes on, {format_duration(now - line.begun)} so far"
                    self._line(datetime.now(UTC), self._marks.running, text)

    def _look_for_silent_steps(self) -> None:
        while not self._over.wait(5.0):
            try:
                self.tell_of_silent_steps()
            except Exception as fault:  # showing must never end a launch
                self._fault(fault)

    def on_edited(self, said: str) -> None:
        """What somebody edited in the plan file meanwhile; empty where there is nothing new."""
        if not said:
            return
        with self._lock:
            self._state.notes.append(said)
            if self.plain:
                self._line(datetime.now(UTC), self._marks.doubt, said)

    def _tell(self, entry: Entry) -> None:
        told = event_line(entry, self._state, self._marks)
        if told is None:
            return
        mark, text = told
        self._line(entry.when, mark, text)
        if entry.kind == "step.done" and (waits := self._state.awaited(entry.when)) is not None:
            step, seconds = waits
            until = (entry.when + timedelta(seconds=seconds)).astimezone(self._zone)
            self._line(entry.when, self._marks.to_come, f"{step.id:<15} waits for {until:%Y-%m-%d %H:%M}")
        if entry.kind == "ask":
            for line in question_lines(self._state.question or {}, self._state.plan_file):
                self._say(Text(f"{'':24}{line}"))

    def _line(self, at: datetime, mark: str, text: str) -> None:
        elapsed = max(0, int((at - (self._state.since or at)).total_seconds()))
        clock = f"{at.astimezone(self._zone):%H:%M:%S} +{elapsed // 3600}:{elapsed // 60 % 60:02d}:{elapsed % 60:02d}"
        self._say(Text(f"{clock}  {mark} {text}".rstrip()))

    def _say(self, text: Text) -> None:
        if self._printer is not None:
            self._printer(text)
        elif not self._quiet:
            self._print(text)

    def _print(self, text: Text) -> None:
        try:
            self._console.print(text, soft_wrap=True)
        except (OSError, ValueError) as fault:  # a closed pipe, or an encoding that lacks a sign
            self._fault(fault)

    def _frame(self) -> RenderableType:
        try:
            with self._lock:
                size = self._console.size
                height = 10_000 if self._state.over else size.height - 1
                return frame(self._state, size.width, height, self._monotonic(), datetime.now(UTC), self._marks)
        except Exception as fault:  # it runs in Rich's own thread, which must not die
            self._fault(fault)
            return Text(f"The timeline cannot be drawn: {fault}. `safepoint status` tells where the launch is.")

    def _fault(self, fault: Exception) -> None:
        if len(self.faults) < 20:
            self.faults.append(f"{type(fault).__name__}: {fault}")
