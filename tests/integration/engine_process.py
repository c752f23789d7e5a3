"""A conductor of its own process for `test_engine`: carries out a small plan on the real engine, and may kill itself.

`python engine_process.py FOLDER [KILL]`; KILL is `WORK:ABOUT:before` or `WORK:ABOUT:after`, an instant around the
effect of that work. Effects are lines of `effects` in the folder; what steps come to stands in `verdicts.json`, and
under `seconds` how long one takes (`asked` then has how many statements the engine's database was given meanwhile).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import event

from safepoint.launch import course
from safepoint.launch.engine import Engine

WORKFLOW = "accounting-2.0:1"
PLAN = [
    {"id": "snapshot", "on_failure": "stop"},
    {"id": "migrate", "on_failure": "undo"},
    {"id": "watch", "on_failure": "ask"},
]
WAY_BACK = [{"id": "back-swap", "on_failure": "ask"}, {"id": "back-open", "on_failure": "ask"}]


class World:
    """The works of a course, with effects in a file that outlives the process."""

    def __init__(self, folder: Path, kill: str) -> None:
        self.folder, self.kill = folder, kill
        verdicts = folder / "verdicts.json"
        self.verdicts = json.loads(verdicts.read_text()) if verdicts.exists() else {}
        self.asked = 0
        event.listen(Database, "before_cursor_execute", self._count)

    def _count(self, *_execution: object) -> None:
        self.asked += 1

    def work(self, name: str, *arguments: Any) -> Any:
        about = str(arguments[1]) if len(arguments) > 1 else ""
        self._die(f"{name}:{about}:before")
        attempt = arguments[2] if name == "step" else ""
        with (self.folder / "effects").open("a") as file:
            file.write(f"{name} {about} {attempt}".strip() + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._die(f"{name}:{about}:after")
        return self._answer(name, about, arguments)

    def _answer(self, name: str, about: str, arguments: tuple[Any, ...]) -> Any:
        if name == "step":
            if seconds := self.verdicts.get("seconds", {}).get(about):
                before = self.asked
                time.sleep(seconds)
                (self.folder / "asked").write_text(str(self.asked - before))
            verdict = self.verdicts.get(f"{about}:{arguments[2]}", "pass")
            return {"verdict": verdict, "summary": f"{about} {verdict}"}
        answers = {"plan": PLAN, "remaining": 0.0, "way back": WAY_BACK, "status after": "rolled back", "end": about}
        return answers.get(name)

    def _die(self, point: str) -> None:
        if point == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)


NAMES = ("plan", "remaining", "step", "ask", "decided", "order", "way back", "status after", "end")


def main(folder: Path, kill: str) -> None:
    world = World(folder, kill)
    works = {name: (lambda *arguments, name=name: world.work(name, *arguments)) for name in NAMES}
    with Engine(folder / "engine", works, {"launch": course.launch}) as engine:
        engine.start(WORKFLOW, "launch", 1)
        engine.start(WORKFLOW, "launch", 1)  # beginning what has begun is nothing
        print("started", flush=True)
        deadline = time.monotonic() + 30
        while (ended := engine.ended(WORKFLOW)) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        print(ended, engine.pending(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
