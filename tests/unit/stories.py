"""Ledgers that tell whole launches, for the tests of the report, the timeline and the status."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from safepoint.config import PlanFile
from safepoint.launch.background import Background
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import Entry, Ledger
from safepoint.launch.plan import make_plan

WAY_BACK = (
    ("back-ahead", "carry-ahead", "Carry what is there already", 0.5, "31 transactions carried into the twin"),
    ("back-stop-traffic", "stop-traffic", "Close the site: 503 with Retry-After", 0.21, "the router answers 503"),
    ("back-stop-new", "stop-release", "Stop 2.0", 0.4, "2.0 is stopped"),
    ("back-fence", "fence", "Stop writes at the database", 0.13, "4 sessions ended, nobody may write"),
    ("back-list", "list-written", "List what was written since the safe point", 0.32, "31 transactions of 4 users"),
    ("back-swap", "swap", "Swap the twin in", 0.08, "accounting is the twin; the migrated one is kept"),
    ("back-start-old", "start-release", "Start 1.0", 0.9, "1.0 answers on 127.0.0.1:8101"),
    ("back-open", "open-traffic", "Open the site on 1.0", 0.12, "the site answers with 1.0"),
)
STEPS = (
    ("survey", "survey", "Look at everything the launch needs", "prepare", "2026-02-28T18:00:00+01:00"),
    ("snapshot", "snapshot", "Pre-launch snapshot", "prepare", None),
    ("proof", "proof", "Prove it: restore and compare every row", "prepare", None),
    ("store", "store", "Store it offsite and read it back", "prepare", None),
    ("freeze", "freeze", "Freeze the code of 1.0 and 2.0", "freeze", "2026-03-01T08:00:00+01:00"),
    ("final-snapshot", "snapshot", "Final snapshot", "freeze", None),
    ("final-proof", "proof", "Prove it: restore and compare every row", "freeze", None),
    ("gate-stop", "gate-stop", "Go for the window?", "stop", "2026-03-01T09:00:00+01:00"),
    ("stop-traffic", "stop-traffic", "Close the site: 503 with Retry-After", "stop", None),
    ("fence", "fence", "Stop writes at the database", "stop", None),
    ("twin", "twin", "Safe point: make the twin", "stop", None),
    ("migrate", "migrate", "Migrate", "migrate", "2026-03-01T09:00:00+01:00"),
    ("arm", "arm", "Arm the capture of what comes after", "migrate", None),
    ("checkpoints", "checkpoints", "Run the checkpoints", "migrate", None),
    ("gate-canary", "gate-canary", "Go for the canary?", "green", "2026-03-01T09:00:00+01:00"),
    ("canary", "canary", "Canary: 10 % of clients on 2.0", "green", None),
    ("green", "open-traffic", "Green: everyone on 2.0", "green", None),
    ("watch", "watch", "Watch", "watch", "2026-03-01T10:00:00+01:00"),
)


def planned_step(row: tuple[str, str, str, str, str | None]) -> dict[str, Any]:
    """A step of the plan as JSON."""
    step_id, verb, title, phase, at = row
    return {
        "id": step_id,
        "verb": verb,
        "title": title,
        "phase": phase,
        "at": at,
        "params": {"release": "new"} if verb == "open-traffic" else {},
        "commands": ["python src/manage.py migrate --noinput"] if verb == "migrate" else [],
        "on_failure": "undo",
        "gate": step_id.startswith("gate-"),
    }


PLAN: dict[str, Any] = {
    "launch_id": "accounting-2.0-20260301",
    "application": "accounting",
    "old": "1.0",
    "new": "2.0",
    "timezone": "Europe/Berlin",
    "hurry": False,
    "steps": [planned_step(row) for row in STEPS],
}

PLAN_FILE = """
[launch]
application = "accounting"
date = {date}
timezone = "{zone}"

[database]
name = "accounting"
user = "postgres"
password_env = "SAFEPOINT_DB_PASSWORD"
application_roles = ["accountingdb"]

[releases.old]
version = "1.0"
start = ["start-old"]
stop = ["stop-old"]
upstream = "127.0.0.1:8101"

[releases.new]
version = "2.0"
start = ["start-new"]
stop = ["stop-new"]
upstream = "127.0.0.1:8102"
{more}

[router]
kind = "caddy"
url = "http://127.0.0.1:8100"

[[stores]]
name = "offsite"
url = "file:offsite"
"""
"""A plan file with what a launch cannot do without; to be filled with `date`, `zone` and `more`."""

CHECKPOINTS = [
    {"name": "size", "title": "Database size", "verdict": "pass", "baseline": 51_200_000, "value": 58_400_000,
     "limit": 64_000_000, "unit": "bytes", "detail": "14 % more than before the migration"},
    {"name": "login", "title": "Test user login", "verdict": "pass", "baseline": None, "value": "posted entry 4711",
     "limit": None, "unit": "", "detail": "in Chromium, 2 pages"},
]  # fmt: skip


class Story:
    """Writes a launch into a ledger, one event after another, on a clock of its own."""

    def __init__(self, path: Path, plan: Mapping[str, Any] = PLAN) -> None:
        self.now = datetime(2026, 2, 28, 17, 0, tzinfo=UTC)
        self.ledger = Ledger(path, clock=lambda: self.now)
        self.plan = plan
        self.run = 1
        self.titles = {step["id"]: (step["title"], step["phase"]) for step in plan["steps"]}
        self.ledger.append(
            "launch",
            "launch",
            {"plan": plan, "by": "ada@ops", "machine": "ops", "safepoint": "0.1.0", "plan_file": "launch.toml"},
        )

    @property
    def entries(self) -> list[Entry]:
        return self.ledger.entries

    def wait(self, seconds: float) -> Story:
        self.now += timedelta(seconds=seconds)
        return self

    def begin(self, course: str = "launch") -> Story:
        self.run = 1 + sum(entry.kind == "run" for entry in self.entries)
        data = {"run": self.run, "course": course, "by": "ada@ops", "machine": "ops", "pid": 4242}
        self.ledger.append("run", f"run:{self.run}", data)
        return self

    def begun(self, step: str, attempt: int = 1) -> Story:
        title, phase = self.titles[step]
        data = {"run": self.run, "attempt": attempt, "title": title, "phase": phase}
        self.ledger.append("step.begun", f"{self.run}:{step}:{attempt}:begun", data, step=step)
        return self

    def done(self, step: str, seconds: float, summary: str = "done", attempt: int = 1, **facts: Any) -> Story:
        self.begun(step, attempt).wait(seconds)
        evidence = {"summary": summary, "verdict": "pass", **facts}
        data = {"run": self.run, "attempt": attempt, "seconds": seconds, "already": False, "evidence": evidence}
        self.ledger.append("step.done", f"{self.run}:{step}:{attempt}:done", data, step=step)
        return self.wait(0.02)

    def failed(self, step: str, seconds: float, verdict: str, summary: str, attempt: int = 1, **error: Any) -> Story:
        self.begun(step, attempt).wait(seconds)
        data = {"run": self.run, "attempt": attempt, "seconds": seconds, "verdict": verdict, "summary": summary}
        if error:
            data["error"] = {"error": "DatabaseError", "message": summary, **error}
        self.ledger.append("step.failed", f"{self.run}:{step}:{attempt}:failed", data, step=step)
        return self

    def ask(self, step: str, question: str, *choices: str, attempt: int = 1) -> Story:
        data = {"run": self.run, "question": question, "choices": list(choices), "attempt": attempt}
        self.ledger.append("ask", f"{self.run}:{step}:{attempt}:ask", data, step=step)
        return self

    def order(self, step: str, word: str, fate: str = "taken", by: str = "grace@laptop") -> Story:
        data = {"order": word, "by": by, "fate": fate}
        self.ledger.append("order", f"order:{len(self.entries)}", data, step=step)
        return self

    def decided(self, step: str, by: str = "grace@laptop", attempt: int = 1) -> Story:
        self.ledger.append("decided", f"{self.run}:{step}:{attempt}:decided", {"run": self.run, "by": by}, step=step)
        return self

    def resumed(self) -> Story:
        times = 1 + sum(entry.kind == "resumed" for entry in self.entries)
        data = {"run": self.run, "by": "ada@ops", "machine": "ops", "pid": 4300, "after": "the former conductor died"}
        self.ledger.append("resumed", f"resumed:{self.run}:{times}", data)
        return self

    def way_back(self, reason: str) -> Story:
        steps = [planned_step((i, verb, title, "rollback", None)) for i, verb, title, _, _ in WAY_BACK]
        for step in steps:
            step["params"] = {"release": "old"} if step["verb"] == "open-traffic" else {}
            self.titles[step["id"]] = (step["title"], "rollback")
        data = {"run": self.run, "reason": reason, "by": "grace@laptop", "steps": steps}
        self.ledger.append("wayback", f"wayback:{self.run}", data)
        return self

    def end(self, status: str, reason: str = "") -> Story:
        data = {"run": self.run, "status": status, "reason": reason}
        self.ledger.append("end", f"end:{self.run}", data)
        return self


def prepared(path: Path) -> Story:
    """The day before, and the freeze."""
    story = Story(path).begin()
    story.done("survey", 1.4, "18 checks, 0 warnings; 49 MB of data, PostgreSQL 17.10", size=51_200_000)
    story.done("snapshot", 3.1, "412,004 rows in 24 tables, 9 MB compressed", bytes=9_441_280, rows=412_004)
    story.done("proof", 4.2, "restored and equal: 412,004 rows in 24 tables", rows=412_004, tables=24)
    story.done("store", 0.6, "in offsite: read back and equal", stores=[{"name": "offsite", "bytes": 9_441_280}])
    story.now = datetime(2026, 3, 1, 7, 0, tzinfo=UTC)
    story.done("freeze", 0.7, "old 1f0a, new 9bc2; Django 5.2", old="1f0a", new="9bc2", django="5.2.4")
    story.done("final-snapshot", 3.2, "412,377 rows in 24 tables, 9 MB compressed", bytes=9_449_980, rows=412_377)
    return story.done("final-proof", 4.3, "restored and equal: 412,377 rows in 24 tables", rows=412_377, tables=24)


def migrated(path: Path) -> Story:
    """As far as the migration, verified."""
    story = prepared(path)
    story.now = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
    story.done("gate-stop", 0.1, "go: proven, stored, 12 min old, code unchanged")
    story.done("stop-traffic", 0.2, "the router answers 503 with Retry-After: 60")
    story.done("fence", 0.15, "5 sessions ended; nobody but the conductor may write")
    story.done("twin", 0.9, "safe point 0/5A3C1F8, twin of 49 MB", lsn="0/5A3C1F8")
    story.done("migrate", 6.3, "11 migrations applied", migrations=["ledger.0007_amounts", "ledger.0008_index"])
    return story.done("arm", 0.2, "capture armed at 0/6100A20")


def launched(path: Path) -> Story:
    """A launch with nothing wrong."""
    story = migrated(path)
    story.done("checkpoints", 1.1, "2 of 2 pass", checkpoints=CHECKPOINTS)
    story.done("gate-canary", 0.01, "go: 2 of 2 checkpoints pass")
    story.done("canary", 5.0, "2 looks, all pass", checkpoints=CHECKPOINTS)
    story.done("green", 0.15, "everyone is on 2.0")
    story.now = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
    return story.done("watch", 20.0, "4 looks, all pass", checkpoints=CHECKPOINTS).end("launched")


def rolled_back(path: Path) -> Story:
    """A launch in which the conductor died once, a gate was in doubt, and a person rolled back afterwards."""
    story = migrated(path)
    story.begun("checkpoints").wait(0.5).resumed().done("checkpoints", 1.1, "2 of 2 pass", checkpoints=CHECKPOINTS)
    story.failed("gate-canary", 0.01, "inconclusive", "in doubt: no login is configured")
    story.ask("gate-canary", "in doubt: no login is configured", "go", "abort").wait(14)
    story.order("gate-canary", "go").decided("gate-canary").wait(0.1)
    story.done("canary", 5.0, "2 looks, all pass", checkpoints=CHECKPOINTS)
    story.done("green", 0.15, "everyone is on 2.0").begun("watch").wait(9)
    story.order("watch", "rollback").way_back("rollback ordered by grace@laptop")
    for step, _, _, seconds, summary in WAY_BACK:
        facts: dict[str, Any] = {}
        if step == "back-list":
            facts = {"transactions": 31, "rows": 124, "users": 4, "carried": 0, "listed": 31, "file": "affected.csv"}
        story.done(step, seconds, summary, **facts)
    return story.end("rolled back", "rollback ordered by grace@laptop")


def ground_at(plan: PlanFile, story: Story, step: str) -> Ground:
    """The ground of one of a plan's steps, on a story's ledger."""
    return Ground(
        plan,
        plan.launch_id,
        story.ledger,
        make_plan(plan).step(step),
        background=Background(),
        interrupted=threading.Event(),
        tell=lambda _step, _progress: None,
        hurry=False,
    )
