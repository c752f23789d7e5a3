"""A checker in the style of a bank test: writers with unique tokens and balanced entries, one blow, and the books.

A blow is the conductor killed, PostgreSQL stopped at once (or the twin's own server, where it has one), or the
conductor's link to it cut, at a random instant of one named step. A person is simulated who answers every question as
the message advises: `retry`, else `go`, else `abort`. At the end every acknowledged token must be in the database or in
the report, none twice, the books balanced, exactly one release open, and nothing of Safepoint left in the servers.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psycopg
from broken_link import BrokenLink, broken_link
from other_server import other_server, prepare, section
from scene import SAFEPOINT, TRACEBACK, Scene
from stage import Stage

from safepoint.config import load
from safepoint.launch.begin import open_question, status_of
from safepoint.launch.ledger import Entry
from safepoint.launch.pairs import at_address
from safepoint.postgres.servers import Server

Kind = Literal["conductor", "server", "link", "other"]
KINDS: tuple[Kind, ...] = ("conductor", "server", "link")
FAR_KINDS: tuple[Kind, ...] = (*KINDS, "other")

AHEAD = {
    "final-snapshot": 0.5,
    "twin": 0.3,
    "prove-quiet": 0.1,
    "migrate": 2.5,
    "migrate-check": 0.3,
    "arm": 0.1,
    "unfence": 0.1,
    "checkpoints": 0.4,
    "watch": 0.5,
}
"""The steps of a launch that a blow may fall in, with about how many seconds each takes on this stage."""

LEVEL = {"seed-twin": 3.0, "twin": 0.4, "migrate": 2.5, "watch": 0.5, "back-carry": 0.4, "back-swap": 0.05}
"""The steps in which a twin that is kept level, and followed live, goes another way than a copied one."""

FAR = {**LEVEL, "back-between": 0.1, "back-start-old": 0.3, "back-check": 0.7, "back-forget": 0.05}
"""Those in which a twin on another server does."""

BEHIND = {
    "back-ahead": 0.3,
    "back-fence": 0.2,
    "back-list": 0.2,
    "back-carry": 0.4,
    "back-swap": 0.05,
    "back-start-old": 0.3,
}
"""Those of a rollback."""

PATIENCE = 240.0
"""Seconds for one command with everything that follows from the blow; a busy machine takes its time."""


@dataclass
class Blow:
    """What happens, in which step, how many seconds after its begin; and whether it has happened."""

    kind: Kind
    step: str
    after: float
    fallen: bool = False
    due: float | None = field(default=None, repr=False)

    def is_due(self, entries: list[Entry], now: float) -> bool:
        """Whether it falls now: the step was seen to begin `after` seconds ago."""
        if self.fallen:
            return False
        if self.due is None and any(entry.kind == "step.begun" and entry.step == self.step for entry in entries):
            self.due = now + self.after
        return self.due is not None and now >= self.due


def draw_blow(draw: random.Random, kind: Kind | None = None, steps: dict[str, float] | None = None) -> Blow:
    """A random blow."""
    where = steps or {**AHEAD, **BEHIND}
    step = draw.choice(sorted(where))
    return Blow(kind or draw.choice(KINDS), step, draw.uniform(0, 1.2 * where[step]))


class Bank:
    """One site with its writers, one launch and its rollback through one blow, and the books afterwards."""

    def __init__(
        self, stage: Stage, link: BrokenLink, blow: Blow, change: Callable[[str], str], other: Server | None = None
    ) -> None:
        self.stage, self.blow, self._link, self._other = stage, blow, link, other
        self.scene = Scene(stage, proven=True)
        port = f"port = {stage.server.target.port}"
        self.scene.new_launch(lambda text: change(text).replace(port, f"port = {link.port}", 1))
        self.said: list[str] = []

    def run(self) -> None:
        """Launch, let people write, roll back; whatever the blow makes of it, bring it to an end."""
        self._to_its_end(["launch", "--now"])
        if self._status() == "launched":
            time.sleep(0.7)
            self._to_its_end(["rollback"])

    def faults(self) -> list[str]:
        """What does not add up. Empty is what it should be."""
        stage, found = self.stage, []
        if self._other is not None:
            found += self._left_there(self._other)
        acknowledged, present, listed = stage.acknowledged(), stage.present(), stage.listed()
        if lost := acknowledged - present - listed:
            found.append(f"acknowledged, and neither there nor listed: {sorted(lost)}")
        if twice := stage.query("SELECT reference FROM ledger_journalentry GROUP BY 1 HAVING count(*) > 1"):
            found.append(f"there twice: {twice}")
        unbalanced = "SELECT entry_id FROM ledger_journalline GROUP BY 1 HAVING sum(debit) <> sum(credit)"
        if rows := stage.query(unbalanced):
            found.append(f"books that do not balance: {rows}")
        if (release := self.scene.release()) != "1.0":
            found.append(f"the release that is open: {release}")
        if (status := self._status()) not in ("rolled back", "aborted"):
            found.append(f"status {status}")
        return found + self.scene.left()

    def _left_there(self, other: Server) -> list[str]:
        """What Safepoint left on the twin's server. Where the site has gone there, its books are asked for there."""
        with psycopg.connect(**other.target.conninfo()) as connection:  # type: ignore[arg-type]
            names = {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}
            left = connection.execute(
                "SELECT slot_name FROM pg_replication_slots UNION ALL SELECT rolname FROM pg_roles "
                "WHERE rolname LIKE 'safepoint%' OR (rolname = 'accounting' AND NOT rolcanlogin)"
            ).fetchall()
        if "accounting" in names:
            self.stage.environment["DATABASE_URL"] = at_address(
                self.stage.environment["DATABASE_URL"], other.target.address
            )
            if self._status() != "rolled back":
                return ["the live database is on the other server, and the launch was not rolled back"]
        odd = sorted(names - {"accounting", "postgres", "template0", "template1"})
        return [f"there: {what}" for what in (odd, left) if what]

    def _status(self) -> str | None:
        return status_of(self.scene.entries)

    def _to_its_end(self, words: list[str]) -> None:
        deadline, failures = time.monotonic() + PATIENCE, 0
        while True:
            code = self._conduct(words, deadline)
            status = self._status()
            if code == 0 or status in ("rolled back", "aborted") or (status == "launched" and words[0] == "launch"):
                return
            if code == 1 and status == "failed":
                failures += 1
            if failures > 3:
                words = ["abort"]
            assert time.monotonic() < deadline, self.story()

    def _conduct(self, words: list[str], deadline: float) -> int:
        process = subprocess.Popen(
            [SAFEPOINT, *words, "--plain", "--plan", str(self.stage.plan_path)],
            env={**os.environ, **self.stage.environment},
            stdout=(log := (self.stage.folder / "conducted.log").open("ab")),
            stderr=subprocess.STDOUT,
        )
        answered = -1
        try:
            while process.poll() is None:
                entries = self.scene.entries
                if self.blow.is_due(entries, time.monotonic()):
                    self._strike(process)
                if len(entries) > answered and (question := open_question(entries)) is not None:
                    answered = len(entries)
                    self._answer(question["choices"], sum(entry.kind == "ask" for entry in entries))
                assert time.monotonic() < deadline, self.story()
                time.sleep(0.02)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            log.close()
        return process.returncode

    def _strike(self, process: subprocess.Popen[bytes]) -> None:
        self.blow.fallen = True
        if self.blow.kind == "conductor":
            process.send_signal(signal.SIGKILL)
        elif self.blow.kind == "link":
            self._link.cut()
        else:
            struck = self._other if self.blow.kind == "other" and self._other is not None else self.stage.server
            struck.stop("immediate")
            time.sleep(0.3)
            struck.start()

    def _answer(self, choices: list[str], asked: int) -> None:
        """As a person would: try again, several times; where nothing else is left, end it."""
        word = "retry" if "retry" in choices and asked < 8 else "go" if "go" in choices else "abort"
        self.said.append(word)
        self.scene.run(word)

    def story(self) -> str:
        """What happened, for a run that found something."""
        keys = [f"{entry.kind} {entry.step or ''}" for entry in self.scene.entries]
        log = self.stage.folder / "conducted.log"
        return "\n".join([repr(self.blow), f"said {self.said}", *keys, log.read_text(errors="replace")[-4000:]])


def same(text: str) -> str:
    """The demo's plan."""
    return text


def level(text: str) -> str:
    """With a twin that is kept level before the window, and followed live after it."""
    return text + '\n[wayback]\ntwin = "logical"\nfollow = "live"\n'


def far(text: str, server: Server) -> str:
    """With a twin on another server."""
    return f'{text}\n[wayback]\nfollow = "live"\n{section(server)}'


def play_far(folder: Path, blow: Blow, *, rate: float = 10) -> None:
    """As `play`, with the twin on another server."""
    with Stage(folder / "stage", lines=500) as stage, other_server(folder / "other") as other:
        prepare(stage, other)
        _play(stage, blow, lambda text: far(text, other), rate, other)


def play(folder: Path, blow: Blow, *, change: Callable[[str], str] = same, lines: int = 500, rate: float = 10) -> None:
    """A whole run, with so many entries a second by each of three writers; fails with its story."""
    with Stage(folder / "stage", lines=lines) as stage:
        _play(stage, blow, change, rate, None)


def _play(stage: Stage, blow: Blow, change: Callable[[str], str], rate: float, other: Server | None) -> None:
    with broken_link(stage.server.target.port) as link:
        bank = Bank(stage, link, blow, change, other)
        writers = stage.writers(count=3, rate=rate)
        bank.run()
        time.sleep(0.3)
        tally = writers.stop()
        stage.plan = load(stage.plan_path)
        faults = bank.faults()
        assert faults == [], "\n".join([*faults, bank.story()])
        assert tally.acknowledged > 0, bank.story()
        assert TRACEBACK not in (stage.folder / "conducted.log").read_text(errors="replace"), bank.story()
