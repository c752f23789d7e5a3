"""Restoring over the live database: the names are swapped where nothing hinders it, and the former one is kept."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from awkward import run
from psycopg import sql
from snapped_shop import ask, names

from safepoint.backup.manifest import read_manifest, write_manifest
from safepoint.backup.prints import TablePrint
from safepoint.backup.unfinished import hold
from safepoint.config import PlanFile
from safepoint.errors import DatabaseError, ProofFailed, Refused
from safepoint.launch.ledger import Ledger
from safepoint.launch.snapshots.restoring import restore_into, restore_over
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import Progress


def test_what_a_killed_restore_over_the_live_one_left_goes_with_the_next_and_one_that_is_made_now_stays(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name bears the moment, so the next restore over the live one takes another name."""
    monkeypatch.setattr("safepoint.backup.unfinished._LETTING_GO", 0.5)
    target, folder = snapped
    left, used, made, chosen = (f"shop_restored_20260101t00000{number}" for number in range(4))
    for name in (left, used, made, chosen):
        run(
            target.on("postgres"),
            f"create database {name}",
            f"comment on database {name} is 'made by Safepoint: unfinished restore of shop-1'",
        )
    run(target.on("postgres"), f"comment on database {chosen} is 'made by Safepoint: restored from shop-1 at noon'")
    run(target.on("postgres"), "create database shop_mine")
    run(target.on("postgres"), "comment on database shop_mine is 'made by Safepoint: unfinished restore of shop-1'")
    kept = {used, made, chosen, "shop_mine"}
    with connect(target.on(used)), connect(target.on("postgres")) as maker:
        assert hold(maker, made)
        with pytest.raises(Refused, match="by another process"):
            restore_into(snapped_plan, folder, made)
        done = restore_over(snapped_plan, folder)
    for statement in done.undo:
        run(target.on("postgres"), "select pg_terminate_backend(pid) from pg_stat_activity where datname like 'shop%'")
        run(target.on("postgres"), statement)
    assert names(target) & {left, *kept} == kept
    assert any(left in note and "is gone" in note for note in done.placed.notes)


def test_over_the_live_one_the_names_are_swapped_and_the_former_is_kept(
    snapped: tuple[Target, Path], snapped_plan: PlanFile
) -> None:
    target, folder = snapped
    stop, failures = threading.Event(), []

    def serve() -> None:
        while not stop.is_set():
            try:
                ask(target, "select count(*) from account")
            except (DatabaseError, psycopg.Error) as error:
                failures.append(error)

    run(target, "delete from sales.line", "insert into account (name) values ('written after the snapshot')")
    client = threading.Thread(target=serve)
    client.start()
    try:
        done = restore_over(snapped_plan, folder)
    finally:
        stop.set()
        client.join()
    try:
        assert ask(target, "select count(*) from sales.line") == [(300,)]
        assert ask(target, "select count(*) from account") == [(300,)]
        assert ask(target.on(done.kept_as), "select count(*) from account") == [(301,)]
        assert done.seconds_out < 5
        assert ask(target, "show work_mem") == [("9MB",)]
    finally:
        for statement in done.undo:
            with connect(target.on("postgres")) as connection:
                connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname like 'shop%'")
                connection.execute(sql.SQL(statement))  # type: ignore[arg-type]
        run(
            target,
            "delete from account where name like 'written%'",
            "insert into sales.line select n, n, date '2026-01-01' + n from generate_series(1, 300) n",
        )
    assert ask(target, "select count(*) from account") == [(300,)]


def test_one_that_differs_does_not_take_the_live_one_s_place_and_says_what_it_is(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, tmp_path: Path
) -> None:
    target, folder = snapped
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    manifest = read_manifest(copy)
    printed = manifest.fingerprint
    other = replace(printed, tables={**printed.tables, "public.account": TablePrint(300, "0" * 32)})
    write_manifest(copy, replace(manifest, fingerprint=other))
    (live,) = ask(target, "select oid from pg_database where datname = 'shop'")
    with pytest.raises(ProofFailed, match=r"table public\.account: expected 300 rows, content 0000"):
        restore_over(snapped_plan, copy)
    assert ask(target, "select oid from pg_database where datname = 'shop'") == [live]
    (beside,) = [name for name in names(target) if "restored" in name]
    ((comment,),) = ask(
        target, f"select shobj_description(oid, 'pg_database') from pg_database where datname = '{beside}'"
    )
    assert "NOT equal" in str(comment)


def test_a_second_restore_over_the_live_one_is_refused_while_the_first_goes_on(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take the place of the first, and of what people had written into that by then."""
    monkeypatch.setattr("safepoint.backup.unfinished._LETTING_GO", 0.5)
    target, folder = snapped
    before, refusals = names(target), list[Refused]()

    def second(progress: Progress) -> None:
        if progress.what == "restore" and not refusals:
            with pytest.raises(Refused, match="is being restored right now, by another process") as refused:
                restore_over(snapped_plan, folder)
            refusals.append(refused.value)

    done = restore_over(snapped_plan, folder, report=second)
    assert len(refusals) == 1 and names(target) == {*before, done.kept_as}
    run(target.on("postgres"), "select pg_terminate_backend(pid) from pg_stat_activity where datname like 'shop%'")
    for statement in done.undo:
        run(target.on("postgres"), statement)


def test_over_the_live_one_is_refused_while_a_launch_may_go_back(
    snapped: tuple[Target, Path], snapped_plan: PlanFile
) -> None:
    before = names(snapped[0])
    path = snapped_plan.state / "launches" / "shop-2.0-20260301" / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append("run", "run:1", {"run": 1})
    with pytest.raises(Refused, match="under way"):
        restore_over(snapped_plan, snapped[1])
    path.write_text("damaged\n")
    with pytest.raises(Refused, match="unreadable"):
        restore_over(snapped_plan, snapped[1])
    assert names(snapped[0]) == before


def test_a_snapshot_of_another_database_does_not_take_the_live_one_s_place(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, tmp_path: Path
) -> None:
    """As one of a store that several applications share."""
    before = names(snapped[0])
    folder = Path(shutil.copytree(snapped[1], tmp_path / "crm-1"))
    (folder / "proof.json").unlink(missing_ok=True)
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, source=replace(manifest.source, database="crm")))
    with pytest.raises(Refused, match="another database") as caught:
        restore_over(snapped_plan, folder)
    assert "crm" in (caught.value.found or "") and "--into" in (caught.value.remedy or "")
    assert names(snapped[0]) == before
    assert restore_into(snapped_plan, folder, "shop_from_crm").rows > 0


def test_over_the_live_one_is_refused_while_something_holds_it_open(
    snapped: tuple[Target, Path], snapped_plan: PlanFile
) -> None:
    target, folder = snapped
    run(target, "begin; insert into account (name) values ('x'); prepare transaction 'held'")
    try:
        with pytest.raises(Refused, match="hold the live database"):
            restore_over(snapped_plan, folder)
    finally:
        run(target, "rollback prepared 'held'")
    assert not [name for name in names(target) if "restored" in name]
