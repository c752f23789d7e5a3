"""A checker in the style of a bank test: writers with unique tokens and balanced entries, blows, and the books.

A person is simulated who answers every question as the message advises: `retry`, else `go`, else the way back. At the
end every acknowledged token must be in the database or told as not carried, none twice, the books balanced, exactly one
release open and taking entries, and nothing of Safepoint left in the servers.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
from blows import RETIRING, STANDING, Blow, Play
from broken_link import BrokenLink, broken_link
from other_server import other_server, prepare, section
from reckoning import Books
from scene import SAFEPOINT, TRACEBACK, Scene
from small_disk import small_disk
from stage import Stage
from striking import Grounds, strike

from safepoint.config import load
from safepoint.django.address import at_address
from safepoint.launch.begin import open_question, status_of
from safepoint.launch.ledger import Entry
from safepoint.postgres.servers import Server

PATIENCE = 400.0
"""Seconds for one command with everything that follows from the blows; a busy machine takes its time."""
DISK_MB = 400
# A stash may be looked at until its launch is retired.
OURS = """
SELECT nspname FROM pg_namespace WHERE starts_with(nspname, 'safepoint') AND NOT starts_with(nspname, 'safepoint_stash')
"""


def plan_of(play: Play, other: Server | None, disk: Path | None, stage: Stage) -> Mapping[str, str]:
    """What of the demo's plan is replaced, and by what; under "" what is added."""
    words = ["\n[wayback]", f'follow = "{"live" if play.follows or play.twin != "copied" else "spool"}"']
    if play.twin == "level":
        words.append('twin = "logical"')
    more = "\n".join(words) + "\n" + ("" if other is None else section(other))
    state = {} if disk is None else {f'state = "{stage.folder}/state"': f'state = "{disk}"'}
    return {"": more, **state}


class Bank:
    """One site with its writers, one launch and its course through the blows, and the books afterwards."""

    def __init__(
        self, stage: Stage, play: Play, link: BrokenLink, other: Server | None = None, disk: Path | None = None
    ) -> None:
        self.stage, self.play, self.scene = stage, play, Scene(stage, proven=True)
        self._grounds = Grounds(stage, link, other, disk)
        self._plan = {**plan_of(play, other, disk, stage), f"port = {stage.server.target.port}": f"port = {link.port}"}
        self.said: list[str] = []
        self._places: set[str] = set()
        self._follower: subprocess.Popen[bytes] | None = None
        self._beside: list[subprocess.Popen[bytes]] = []
        self._read: tuple[int, list[Entry]] = (-1, [])
        self._answered = -1
        self._noted: list[str] = []

    # -- the run -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Launch, let people write, and go the play's course; whatever the blows make of it, bring it to an end."""
        self._new_launch()
        if self.play.course == "again":
            self._a_former_launch()
        self._to_its_end("launch", "--now")
        if self._status() == "launched":
            if self.play.course == "again" and (there := self._marked()) != 9:
                self._noted.append(f"of 9 stashed values {there} came back")
            self._stand_by()
            if self.play.course == "retired":
                self._retire()
            else:
                self._to_its_end("rollback")
        self._see_the_end_of_what_runs_beside()

    def _new_launch(self) -> None:
        def change(text: str) -> str:
            for old, new in self._plan.items():
                assert old in text
                text = text.replace(old, new, 1) if old else text + new
            return text

        self.scene.new_launch(change)
        self._read, self._answered = (-1, []), -1

    def _a_former_launch(self) -> None:
        """Launched and rolled back without a blow; what the old release has no place for waits for the next one."""
        blows, self.play = self.play, Play("again", self.play.twin, ())
        self._to_its_end("launch", "--now")
        self.stage.query(
            "UPDATE ledger_journalentry SET currency = 'USD' WHERE mod(id, 2) = 0 AND id < 20 RETURNING id"
        )
        self._to_its_end("rollback")
        assert self._status() == "rolled back", self.story()
        self.play = blows
        self._new_launch()

    def _marked(self) -> int:
        return len(self.stage.query("SELECT id FROM ledger_journalentry WHERE currency = 'USD' AND id < 20"))

    def _stand_by(self) -> None:
        """People write, and the capture is followed."""
        self._places.add(STANDING)
        awaited = any(blow.step == STANDING and blow.fell is None for blow in self.play.blows)
        until = time.monotonic() + (3.5 if awaited else 0.7)
        while time.monotonic() < until:
            if self.play.follows and (self._follower is None or self._follower.poll() is not None):
                self._follower = self._command("follow")
            self._look(None, STANDING)
            time.sleep(0.02)

    def _retire(self) -> None:
        self._places.add(RETIRING)
        deadline = time.monotonic() + PATIENCE
        while self._attend(self._command("retire", "--now"), RETIRING) != 0:
            assert time.monotonic() < deadline, self.story()

    def _to_its_end(self, *words: str) -> None:
        deadline, failures = time.monotonic() + PATIENCE, 0
        while True:
            code = self._attend(self._command(*words, "--plain"))
            while self._beside:  # whoever gave an order, and may conduct now
                code = self._attend(self._beside.pop())
            status = self._status()
            if status in ("rolled back", "aborted") or (status == "launched" and words[0] == "launch"):
                return
            failures += status == "failed" and code in (1, 3)
            if failures > 3:
                words = ("abort",)
            assert time.monotonic() < deadline, self.story()

    # -- commands ------------------------------------------------------------------------------------------------

    def _command(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.stage.folder / "conducted.log").open("ab") as log:
            return subprocess.Popen(
                [SAFEPOINT, *words, "--plan", str(self.stage.plan_path)],
                env={**os.environ, **self.stage.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _attend(self, process: subprocess.Popen[bytes], place: str | None = None) -> int:
        """See a command to its end, with all that falls and is asked meanwhile; its exit code."""
        deadline = time.monotonic() + PATIENCE
        try:
            while process.poll() is None:
                self._look(process, place)
                assert time.monotonic() < deadline, self.story()
                time.sleep(0.02)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return process.returncode

    @property
    def _entries(self) -> list[Entry]:
        """Read again only where there is more of it: it is looked at all the time."""
        path = self.stage.launch_folder / "ledger.jsonl"
        size = path.stat().st_size if path.exists() else 0
        if size != self._read[0]:
            self._read = (size, self.scene.entries)
        return self._read[1]

    def _look(self, conductor: subprocess.Popen[bytes] | None, place: str | None) -> None:
        """What falls now falls; what is asked now is answered."""
        entries = self._entries
        begun = {entry.step for entry in entries if entry.kind == "step.begun" and entry.step} | self._places
        for blow in self.play.blows:
            if blow.is_due(begun, time.monotonic()):
                self._fall(blow, conductor, place)
        if len(entries) > self._answered and (question := open_question(entries)) is not None:
            self._answered = len(entries)
            self._answer(question["choices"], sum(entry.kind == "ask" for entry in entries))

    def _fall(self, blow: Blow, conductor: subprocess.Popen[bytes] | None, place: str | None) -> None:
        struck = self._follower if blow.kind in ("follower", "dozing") else conductor
        if blow.kind in ("return", "abort"):  # by a person whose conductor has just died
            blow.fell = place or self._under_way()
            if conductor is not None:
                strike("conductor", self._grounds, conductor)
            self._beside.append(self._command(blow.kind, "--plain"))
        elif struck is not None or blow.kind not in ("conductor", "paused", "follower", "dozing"):
            blow.fell = place or self._under_way()
            strike(blow.kind, self._grounds, struck)

    def _under_way(self) -> str:
        """The step that is carried out now, or was last."""
        return next((e.step for e in reversed(self.scene.entries) if e.kind == "step.begun" and e.step), "begin")

    def _answer(self, choices: list[str], asked: int) -> None:
        """As a person would: try again, several times; where nothing else is left, end it."""
        last = "rollback" if "rollback" in choices else "abort"
        word = "retry" if "retry" in choices and asked < 8 else "go" if "go" in choices else last
        self.said.append(word)
        # Where the conductor died just now the answer makes another one of this command: it may go the same way.
        with suppress(subprocess.TimeoutExpired):
            self.scene.run(word)

    def _see_the_end_of_what_runs_beside(self) -> None:
        """A follower makes way by itself."""
        if self._follower is not None:
            try:
                self._follower.wait(60)
            except subprocess.TimeoutExpired:
                self._follower.kill()
                self._follower.wait()
                self._noted.append("who follows does not end")

    # -- the books -----------------------------------------------------------------------------------------------

    def _status(self) -> str | None:
        return status_of(self.scene.entries)

    def faults(self) -> list[str]:
        """What does not add up. Empty is what it should be."""
        found, other = list(self._noted), self._grounds.other
        retired = self.play.course == "retired" and self._status() == "launched"
        if other is not None:
            found += self._left_there(other)
        found += Books(self.stage, new=retired).faults()
        if (release := self.scene.release()) != ("2.0" if retired else "1.0"):
            found.append(f"the release that is open: {release}")
        if not retired and (status := self._status()) not in ("rolled back", "aborted"):
            found.append(f"status {status}")
        if schemas := self.stage.query(OURS):
            found.append(f"schemas of Safepoint's in the live database: {schemas}")
        left = self.scene.left()
        return found + [one for one in left if not (retired and one.startswith(("not 2.0's", "at work")))]

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

    def story(self) -> str:
        """What happened, for a run that found something."""
        keys = [f"{entry.kind} {entry.step or ''}" for entry in self.scene.entries]
        log = self.stage.folder / "conducted.log"
        return "\n".join([repr(self.play), f"said {self.said}", *keys, log.read_text(errors="replace")[-6000:]])


def play_out(folder: Path, play: Play, *, lines: int = 500, rate: float = 10) -> None:
    """A whole run, with so many entries a second by each of three writers; fails with its story."""
    settings = {"wal_level": "replica"} if play.by_triggers else None
    with ExitStack() as stack:
        stage = stack.enter_context(Stage(folder / "stage", lines=lines, settings=settings))
        other = stack.enter_context(other_server(folder / "other")) if play.twin == "elsewhere" else None
        if other is not None:
            prepare(stage, other)
        full = any(blow.kind == "disk" for blow in play.blows)
        disk = stack.enter_context(small_disk(folder / "disk", DISK_MB)) if full else None
        link = stack.enter_context(broken_link(stage.server.target.port))
        bank = Bank(stage, play, link, other, disk)
        writers = stage.writers(count=3, rate=rate)
        bank.run()
        before, deadline = writers.tally().acknowledged, time.monotonic() + 20
        while (tally := writers.tally()).acknowledged == before and time.monotonic() < deadline:
            time.sleep(0.1)
        writers.stop()
        stage.plan = load(stage.plan_path)
        faults = bank.faults() + ([] if tally.acknowledged > before else ["the site takes no entry any more"])
        assert faults == [], "\n".join([*faults, bank.story()])
        assert TRACEBACK not in (stage.folder / "conducted.log").read_text(errors="replace"), bank.story()
