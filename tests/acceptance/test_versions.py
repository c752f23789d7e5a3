"""Whole launches and rollbacks on other versions of PostgreSQL, and on one that cannot decode its log."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable

import psycopg
import pytest
from scene import brisk, evidence
from stage import Stage

from safepoint.launch.begin import entries_of
from safepoint.postgres.binaries import installations


def launch_and_roll_back_under_traffic(stage: Stage) -> set[str]:
    """Launch, let people write, roll back; the tokens of the entries that are not in the database afterwards."""
    writers = stage.writers()
    launched = stage.safepoint("launch", "--now", "--plain", "--no-wait", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    time.sleep(1.0)
    rolled_back = stage.safepoint("rollback", "--plain", capture=True)
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    time.sleep(0.3)
    tally = writers.stop()
    assert tally.by_release["2.0"] > 0 and tally.by_release["1.0"] > 0
    assert stage.query("SHOW default_transaction_read_only") == [("off",)]
    return stage.acknowledged() - stage.present()


@pytest.mark.slow
@pytest.mark.parametrize("major", [15, 17, 18])  # on 18 with everything that a launch has: test_launch
def test_a_launch_and_a_rollback_account_for_every_entry(make_stage: Callable[..., Stage], major: int) -> None:
    if not any(found.major == major for found in installations()):
        pytest.skip(f"there is no PostgreSQL {major} on this machine (Debian: apt-get install postgresql-{major})")
    stage = make_stage(lines=1_000, major=major, change=brisk)
    assert launch_and_roll_back_under_traffic(stage) == set()
    assert evidence(stage, "survey")["server_version"].startswith(f"{major}.")
    assert evidence(stage, "arm")["mode"] == "logical"
    assert evidence(stage, "proof")["server_version"].startswith(f"{major}.")


@pytest.mark.slow
def test_a_server_that_cannot_decode_its_log_is_captured_by_triggers_and_keeps_every_entry(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=1_000, settings={"wal_level": "replica"}, change=brisk)
    with psycopg.connect(stage.environment["DATABASE_URL"]) as connection:
        connection.execute("CREATE MATERIALIZED VIEW people AS SELECT count(*) FROM auth_user")
    assert launch_and_roll_back_under_traffic(stage) == set()
    survey = json.dumps(evidence(stage, "survey")["findings"])
    assert "captured by triggers: wal_level is replica" in survey
    # The conductor's own copy moved the transaction ids, and nobody was asked because of it.
    assert "by its counter" in evidence(stage, "prove-quiet")["summary"]
    assert not [entry for entry in entries_of(stage.plan) if entry.kind == "ask"]
    armed = evidence(stage, "arm")
    assert armed["mode"] == "triggers" and "wal_level is replica" in armed["summary"]
    carried = evidence(stage, "back-carry")
    assert carried["carried"] > 0 and carried["listed"] == 0
    assert carried["summary"].endswith("as at the safe point: REFRESH MATERIALIZED VIEW public.people")
    with (stage.launch_folder / "affected.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and {row["user"] for row in rows} != {""}
    assert stage.query("SELECT to_regnamespace('safepoint_capture')::text") == [(None,)]


@pytest.mark.slow
def test_where_the_plan_allows_no_triggers_the_rows_themselves_are_listed_and_the_loss_is_said(
    make_stage: Callable[..., Stage],
) -> None:
    def logical(text: str) -> str:
        return brisk(text) + '\n[wayback]\nprove = false\ncapture = "logical"\n'

    stage = make_stage(lines=1_000, settings={"wal_level": "replica"}, change=logical)
    missing = launch_and_roll_back_under_traffic(stage)
    armed = evidence(stage, "arm")
    assert armed["mode"] == "none" and any("deleted rows" in promise for promise in armed["promises"])
    # Without a log the rows themselves are listed: each entry of 2.0 is among them, with its user.
    assert missing and missing <= stage.listed()
