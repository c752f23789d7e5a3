"""Life goes on after a launch: tables and partitions are made, and a rollback carries what it is not about."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from scene import POST, brisk, evidence, kill_at
from stage import Stage


def as_superuser(stage: Stage, *statements: str) -> None:
    with psycopg.connect(**stage.server.target.on("accounting").conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
        for statement in statements:
            connection.execute(statement.encode())


def post(stage: Stage, times: int) -> None:
    with psycopg.connect(stage.environment["DATABASE_URL"], autocommit=True) as connection:
        for _ in range(times):
            connection.execute(POST)


BEFORE = (
    "CREATE TABLE visit (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE visit_1 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
    "CREATE TABLE leftover (id int)",
    "CREATE UNLOGGED TABLE counter (id int)",
    "GRANT SELECT ON visit, leftover TO PUBLIC",
)
SINCE = (
    "INSERT INTO counter VALUES (1)",
    "CREATE UNLOGGED TABLE passing (id int)",
    "CREATE TABLE export_march AS SELECT n AS id, 'row ' || n AS what FROM generate_series(1, 3) n",
    "CREATE SCHEMA tenant",
    "CREATE TABLE tenant.note (id int PRIMARY KEY, what text)",
    "INSERT INTO tenant.note VALUES (1, 'first')",
    "DROP TABLE leftover",
)
AFTER_THE_RETURN = (
    "CREATE TABLE visit_2 (LIKE visit INCLUDING ALL)",
    "INSERT INTO visit_2 VALUES (1, '2026-02-01')",
    "ALTER TABLE visit ATTACH PARTITION visit_2 FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
    "INSERT INTO visit VALUES (2, '2026-01-02'), (2, '2026-02-02')",
    "UPDATE tenant.note SET what = 'last'",
)


@pytest.mark.slow
def test_a_table_and_a_partition_that_are_made_after_the_launch_cost_a_rollback_nothing_else(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(lines=500, change=brisk)
    as_superuser(stage, *BEFORE)
    launched = stage.safepoint("launch", "--now", "--plain", capture=True)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert "public.counter is not captured" in evidence(stage, "arm")["summary"]
    as_superuser(stage, *SINCE)
    post(stage, 20)
    kill_at(stage, "back-ahead:applied", "rollback")
    assert stage.safepoint("return", "--plain", capture=True).returncode == 0
    as_superuser(stage, *AFTER_THE_RETURN)
    post(stage, 5)
    done = stage.safepoint("rollback", "--plain", capture=True)
    assert done.returncode == 0, done.stdout + done.stderr
    carried = evidence(stage, "back-carry")
    assert carried["transactions"] - carried["now"] >= 22, carried  # while the site was open
    assert stage.query("SELECT count(*) FROM ledger_journalentry WHERE memo = 'by hand'") == [(25,)]
    days = ["2026-01-02", "2026-02-01", "2026-02-02"]
    assert [day for _, day in stage.query("SELECT id, day::text FROM visit ORDER BY day")] == days
    assert "public.visit_2" in carried["made"] and "the partitions public.visit_2" in carried["summary"]
    assert_each_row_is_listed_with_its_fate(stage)
    assert_what_nobody_could_capture_is_told(stage)
    assert_the_new_tables_are_stashed(stage)


def assert_each_row_is_listed_with_its_fate(stage: Stage) -> None:
    with (stage.launch_folder / "affected.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"].startswith(("visit", "tenant", "export"))]
    assert Counter((row["table"], row["fate"]) for row in rows) == {
        ("export_march", "stashed"): 3,
        ("tenant.note", "stashed"): 2,
        ("visit_1", "carried"): 1,
        ("visit_2", "carried"): 2,
    }


def assert_what_nobody_could_capture_is_told(stage: Stage) -> None:
    """With the list, in the report, and to who reads the page."""
    listing = evidence(stage, "back-list")
    page = (stage.launch_folder / "affected.html").read_text()
    assert not listing["complete"] and stage.safepoint("report", capture=True).returncode == 0
    report = (stage.launch_folder / "report.html").read_text()
    for table in ("public.counter", "public.passing"):
        assert all(table in text for text in (str(listing["notes"]), listing["summary"], page, report)), table


def assert_the_new_tables_are_stashed(stage: Stage) -> None:
    folder = evidence(stage, "back-stash")["folder"]
    with Path(folder, "stash.jsonl").open() as file:
        stashed = [json.loads(line) for line in file]
    assert [one["values"]["what"] for one in stashed if one["relation"] == "tenant.note"] == ["last"]
    assert len([one for one in stashed if one["relation"] == "public.export_march"]) == 3
