"""Rollbacks with 100,000 transactions written since the launch: how long the site is closed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from results import Result
from stage import Stage  # the demo's own module

from safepoint.launch.begin import entries_of
from safepoint.launch.report import build
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

SAFEPOINT = Path(sys.executable).parent / "safepoint"
TRANSACTIONS = 100_000
SESSIONS = 4
LINES = 20_000

# One transaction: an entry of release 2.0 with two postings that balance.
POST = """
WITH entry AS (
    INSERT INTO ledger_journalentry (reference, user_id, booked_on, memo, currency, posted_at)
    SELECT gen_random_uuid(), (SELECT min(id) FROM auth_user), current_date, 'bench', 'EUR', now() RETURNING id)
INSERT INTO ledger_posting (entry_id, account_id, amount_cents, note)
SELECT entry.id, account.id, cents, '' FROM entry,
    (SELECT min(id) AS id FROM ledger_account) account, (VALUES (100), (-100)) amounts (cents)
"""


def _plan(text: str, follow: str) -> str:
    text = text.replace("[wayback.tables", f'[wayback]\nfollow = "{follow}"\n\n[wayback.tables', 1)
    return text.replace("[checkpoints.login]", '[checkpoints.login]\nbrowser = "http"')


def post(live: Target, transactions: int = TRANSACTIONS) -> None:
    """Write them over several sessions, each transaction by itself."""
    each = transactions // SESSIONS
    statement = f"DO $$ BEGIN FOR n IN 1..{each} LOOP {POST}; COMMIT; END LOOP; END $$"

    def some() -> None:
        with connect(live, options="-c synchronous_commit=off") as connection:
            connection.execute(statement.encode())

    with ThreadPoolExecutor(max_workers=SESSIONS) as pool:
        for session in [pool.submit(some) for _ in range(SESSIONS)]:
            session.result()  # a session that failed ends the measurement


def rollback(name: str, follow: str, limit: float, *words: str) -> list[Result]:
    """Launch, write, roll back; the site's downtime as the report has it. `words` are options of the rollback."""
    with tempfile.TemporaryDirectory(prefix="safepoint-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with Stage(Path(folder) / "stage", lines=LINES, change=lambda text: _plan(text, follow)) as stage:
            stage.safepoint("launch", "--now", "--plain", capture=True, timeout=600)
            seconds, detail = write_and_roll_back(stage, follow, *words)
    return [Result(name, seconds, "s", limit, detail)]


def write_and_roll_back(stage: Stage, follow: str, *words: str) -> tuple[float, str]:
    """Write to a launched site, and roll it back: seconds in which it was closed, and what they were spent on.

    With `follow` "spool" what was written is spooled before, as a timer does; with "live" it is applied already.
    """
    follower = _follower(stage) if follow == "live" else None
    post(stage.server.target.on(stage.plan.database.name))
    if follower is not None:
        _until_level(stage)
    else:
        stage.safepoint("follow", "--once", capture=True)
    clock = time.monotonic()
    done = stage.safepoint("rollback", "--plain", *words, capture=True, timeout=600)
    whole = time.monotonic() - clock
    if follower is not None:
        follower.wait(30)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    report = build(entries_of(stage.plan))
    carried = report["rollback"]["carried"]
    if carried < TRANSACTIONS:
        raise SystemExit(f"only {carried} of {TRANSACTIONS} transactions were carried: nothing is measured")
    found = {row["id"]: row["evidence"] for row in report["steps"] if row["id"] in ("back-ahead", "back-carry")}
    carrying, ahead = found["back-carry"]["phases"], found["back-ahead"]["applied"]
    steps = {row["id"]: row["seconds"] for row in report["steps"] if row["id"].startswith("back-")}
    longest = sorted(((seconds or 0, step) for step, seconds in steps.items()), reverse=True)[:5]
    detail = (
        f"{carried:,} transactions carried back, {ahead:,} of them before the site was closed; the whole command took "
        f"{whole:.1f} s; longest: "
        + ", ".join(f"{step} {seconds:.1f} s" for seconds, step in longest)
        + f"; of the carrying: {', '.join(f'{phase} {seconds:.1f}' for phase, seconds in carrying.items())}"
    )
    return round(float(report["rollback"]["downtime_seconds"]), 2), detail


def _follower(stage: Stage) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [SAFEPOINT, "follow", "--plan", stage.plan_path],
        env={**os.environ, **stage.environment},
        stdout=(stage.folder / "follow.log").open("wb"),
        stderr=subprocess.STDOUT,
    )


def _until_level(stage: Stage) -> None:
    """Until the follower says nothing new for a while."""
    log, before, quiet = stage.folder / "follow.log", -1, 0
    while quiet < 8:
        time.sleep(1)
        size = log.stat().st_size
        quiet = quiet + 1 if size == before else 0
        before = size


MEASURES = {
    "rollback_seconds_100k": lambda: rollback("rollback_seconds_100k", "spool", 10),
    "rollback_seconds_100k_stop_first": lambda: rollback(
        "rollback_seconds_100k_stop_first", "spool", 10, "--stop-first"
    ),
    "rollback_seconds_live": lambda: rollback("rollback_seconds_live", "live", 2),
}
