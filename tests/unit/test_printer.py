"""A terminal that takes nothing more: the launch goes on, and what was told is shown once it takes lines again."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from stories import PLAN, launched

from safepoint.cli.printer import Printer
from safepoint.cli.terminal import Terminal
from safepoint.cli.timeline import Timeline
from safepoint.launch.plan import Plan


def test_a_launch_does_not_wait_for_a_terminal_that_takes_nothing(tmp_path: Path) -> None:
    story = launched(tmp_path / "ledger.jsonl")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filler = 0
    try:
        while True:
            filler += os.write(writer, b"." * 1024)
    except BlockingIOError:
        os.set_blocking(writer, True)
    with os.fdopen(writer, "w", encoding="utf-8") as file:
        timeline = Timeline(Plan.from_json(PLAN), console=Terminal(file=file, width=80), plain=True)
        told = threading.Event()

        def conduct() -> None:
            with timeline:
                for entry in story.entries:
                    timeline.on_entry(entry)
                told.set()
                shown.wait(20)

        shown = threading.Event()
        conductor = threading.Thread(target=conduct, daemon=True)
        conductor.start()
        went_on = told.wait(5)
        text = b""
        while len(text) < filler or b"launched" not in text:
            text += os.read(reader, 65536)
        shown.set()
        conductor.join(10)
    os.close(reader)
    assert went_on and not timeline.faults


def test_what_nobody_takes_is_left_out_and_keeps_nobody() -> None:
    taken: list[int] = []
    holding, stuck = threading.Event(), threading.Event()

    def write(line: int) -> None:
        holding.set()
        stuck.wait(20)
        taken.append(line)

    printer, began = Printer(write), time.monotonic()
    printer(0)
    assert holding.wait(5)  # else it takes its first line later, and there is room for one of the others in between
    for number in range(1, 20_000):
        printer(number)
    assert time.monotonic() - began < 5
    stuck.set()
    printer.close()
    assert taken == list(range(10_001))
