"""Restoring a part of a snapshot: the tables and schemas that are named, with their rows and keys, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward import run, snap
from snapped_shop import ask, names

from safepoint.backup.fingerprint import take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.config import PlanFile
from safepoint.errors import Refused
from safepoint.launch.snapshots.restoring import restore_into
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

ONLY = {
    "account": {"public.account"},
    "sales.entry": {"sales.entry"},
    "sales": {"sales.entry", "sales.line", "sales.log_2026"},
    "sales.log": {"sales.log_2026"},
    'Odd "one"': {'"Odd ""one"""."the table"'},
    "the table": {'"Odd ""one"""."the table"'},
}


@pytest.mark.parametrize("word", ONLY)
def test_a_part_comes_alone_with_its_rows_and_keys(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, word: str
) -> None:
    target, folder = snapped
    placed = restore_into(snapped_plan, folder, "shop_part", only=(word,))
    found = take(target.on("shop_part"))
    expected = read_manifest(folder).fingerprint
    assert {name for name, table in found.tables.items() if table.rows} == ONLY[word]
    assert set(found.tables) == ONLY[word]
    assert all(found.tables[name] == expected.tables[name] for name in ONLY[word])
    assert placed.tables == len(ONLY[word])
    keys = [name for name in found.structure.get("constraint", {}) if "fkey" in name]
    assert keys == (["line_entry_fkey on sales.line"] if word == "sales" else [])
    if "entry" in word:
        assert "sales.entry_amount_idx" in found.structure["index"]


VOTES = """
    create schema "POLLS";
    create table "POLLS"."POLL" ("ID" int primary key, what text);
    create table vote (id int primary key, poll int, who text, constraint "one vote on a poll" unique (poll, who));
    alter table vote add constraint "vote on poll" foreign key (poll) references "POLLS"."POLL";
    insert into "POLLS"."POLL" values (1, 'a'), (2, 'b');
    insert into vote values (1, 1, 'x'), (2, 2, 'y');
    create table other as select 1 as a;
    create materialized view counted as select count(*) from vote;
"""


def test_a_part_comes_alone_whatever_its_schema_and_its_constraints_are_called(
    database: Target, server: Server, tmp_path: Path
) -> None:
    run(database, VOTES, 'create view "POLLS".opened as select * from "POLLS"."POLL"')
    folder = snap(database, server, tmp_path / "snapshots")
    copy = server.target.on("shop_votes")
    try:
        placed = place(folder, server.target, copy.dbname, only=("POLLS", "vote"))
        assert placed.rows == 4
        assert any("views were left out" in note and '"POLLS".opened' in note for note in placed.notes)
        assert ask(copy, "select conname from pg_constraint where conname like '%on%poll' order by 1") == [
            ("one vote on a poll",),
            ("vote on poll",),
        ]
        assert ask(copy, "select to_regclass('other')") == [(None,)]
    finally:
        run(server.target, "drop database if exists shop_votes")


def test_a_table_of_contents_of_any_length_is_read_whole(
    database: Target, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a million large objects have some 20 MB of it on PostgreSQL 15; of a command's answer the end is kept."""
    run(database, VOTES, *(f"create table t{n} as select {n} as a" for n in range(50)))
    folder = snap(database, server, tmp_path / "snapshots")
    copy = server.target.on("shop_votes")
    monkeypatch.setattr("safepoint.hosts.streams.KEEP_BYTES", 1000)
    try:
        assert place(folder, server.target, copy.dbname, only=("POLLS",)).rows == 2
        run(server.target, "drop database shop_votes")
        assert place(folder, server.target, copy.dbname).rows == 55
        assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 55
    finally:
        run(server.target, "drop database if exists shop_votes")


def test_a_part_that_is_not_there_is_refused(snapped: tuple[Target, Path], snapped_plan: PlanFile) -> None:
    with pytest.raises(Refused, match="nothing_of_it"):
        restore_into(snapped_plan, snapped[1], "shop_part", only=("nothing_of_it",))
    assert "shop_part" not in names(snapped[0])
