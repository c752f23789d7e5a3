"""Rows that are larger than PostgreSQL can have in one piece of memory, or in one piece of JSON."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from replay_ground import BOTH, ground, lines

from safepoint.errors import CaptureLost
from safepoint.postgres.target import Target
from safepoint.wayback.affected.written import list_written
from safepoint.wayback.capture.capture import How
from safepoint.wayback.replay import staged, too_large

BEFORE = """
create table document (id int primary key, title text constraint short check (length(title) < 10), body bytea);
create table note (id int primary key, what text);
create table page (no int, body bytea, constraint counted check (no > 0));
insert into document values (1, 'first', 'b')
"""
MIGRATION = """
alter table document add scan bytea, drop constraint short;
alter table page drop constraint counted;
create table annex (id int primary key, body bytea);
"""
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


@BOTH
def test_one_that_is_too_large_for_the_stash_is_told_and_the_others_are_carried(
    database: Target, tmp_path: Path, how: How, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged, "MOST", staged.MOST // 100)
    monkeypatch.setattr(too_large, "MOST", too_large.MOST // 100)
    size = 1_400_000
    blob = BLOB.format(size)
    with ground(database, tmp_path, BEFORE, MIGRATION, how=how) as made:
        made.write("insert into note values (1, 'before')")
        made.write(f"insert into document values (2, 'scanned', 'b', {blob})")
        made.write(f"insert into document values (3, 'written', {blob}, 'small')")
        made.write("update document set scan = 'small' where id = 1")
        made.write(f"insert into document values (4, 'of a long title', {blob}, 'small')")
        made.write(f"insert into annex values (1, {blob}), (2, 'small')")
        made.write(f"insert into page values (0, {blob}), (1, {blob})")
        made.write("insert into note values (2, 'after')")
        outcome = made.carry()
        assert made.old("select array_agg(what order by id) from note") == [(["before", "after"],)]
        rows = "select id, title, md5(body) from document where id < 4 order by id"
        assert made.old(rows) == made.new(rows)
        assert made.old("select no, octet_length(body) from page") == [(1, size)]
        aside = {(one["relation"], one["kind"], one["key"].get("id")) for one in lines(outcome, "put_aside")}
        assert aside == {
            ("public.document", "value", "4"),
            ("public.annex", "size", "1"),
            ("public.page", "value", None),
        }
        told = [(one["key"], one["reason"][:15]) for one in lines(outcome, "dangling")]
        assert told == [({"id": "2"}, "scan: too large")]
        stashed = {(one["relation"], one["key"]["id"]) for one in lines(outcome, "stash")}
        assert stashed == {("public.document", "1"), ("public.document", "3"), ("public.annex", "2")}


@pytest.mark.slow
def test_the_same_of_a_size_that_no_json_can_hold(database: Target, tmp_path: Path) -> None:
    blob = BLOB.format(140_000_000)
    with ground(database, tmp_path, BEFORE, MIGRATION, how="logical") as made:
        made.write(f"insert into document values (2, 'scanned', {blob}, {blob})")
        made.write("insert into note values (2, 'after')")
        outcome = made.carry()
        assert outcome.carried == 2 and outcome.put_aside == 0
        assert made.old("select id, octet_length(body) from document order by id") == [(1, 1), (2, 140_000_000)]
        assert [one["key"] for one in lines(outcome, "dangling")] == [{"id": "2"}]
        assert lines(outcome, "stash") == []
