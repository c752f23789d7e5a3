"""Rows that are larger than PostgreSQL can have in one piece of memory, or in one piece of JSON."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from replay_ground import ground

from safepoint.errors import CaptureLost
from safepoint.postgres.target import Target
from safepoint.wayback.affected.written import list_written

BEFORE = """
create table document (id int primary key, title text, body bytea);
create table note (id int primary key, what text);
insert into document values (1, 'first', 'b')
"""
MIGRATION = "alter table document add scan bytea"
BLOB = "convert_to(repeat('x', {0}), 'UTF8')"


@pytest.mark.slow
def test_one_that_nobody_can_decode_ends_the_capture_and_holds_nothing_up(home: Target, tmp_path: Path) -> None:
    with ground(home, tmp_path, BEFORE, MIGRATION, how="logical") as made:
        for number in range(1, 40):
            made.write(f"insert into note values ({number}, 'before')")
        made.write(f"insert into document values (2, 'scanned', {BLOB.format(560_000_000)})")
        made.write("insert into note values (90, 'after')")
        for _ in range(2):  # and it says so again
            with pytest.raises(CaptureLost, match="larger than PostgreSQL can decode"):
                made.drain()
        outcome = made.replay()
        assert outcome.transactions == outcome.carried == 39
        assert made.old("select count(*), max(id) from note") == [(39, 39)]
        out = made.folder / "affected.csv"
        listed = list_written(made.live, made.spool, out, lost_since=made.facts.start_xid)
        assert listed.rows == 39 + 2
        with out.open(encoding="utf-8") as file:
            last = [(line["table"], line["values"][:60]) for line in list(csv.DictReader(file))[-2:]]
        assert "560000000 bytes" in last[0][1] and "after" in last[1][1], last
