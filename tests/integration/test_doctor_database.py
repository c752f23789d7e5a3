"""The doctor on the database: what stands in it, who may do what there, and what stands in front of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pooler import pooler
from postgres_servers import drop_database
from psycopg import sql
from ready_shop import NOW, Shop, at_database, found, guarded_database

from safepoint.config import TwinServer
from safepoint.launch.doctor import database as doctor_database
from safepoint.launch.doctor.disk_room import room
from safepoint.launch.error_logs import database_log
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


def test_what_the_way_back_treats_specially_is_named(ready: Shop, tmp_path: Path) -> None:
    with connect(ready.target) as connection:
        connection.execute("create table keyless (a int); create unlogged table quick (a int primary key)")
        connection.execute("create publication everything for all tables")
        row = connection.execute("select lo_create(0)").fetchone()
        try:
            findings = tuple(at_database(ready.plan(tmp_path)))
        finally:
            connection.execute("drop table keyless, quick; drop publication everything")
            connection.execute("select lo_unlink(%s)", row)
    assert "public.keyless" in found(findings, "keys", "").message
    assert "public.quick" in found(findings, "unlogged", "").message
    assert "1 large objects" in found(findings, "large-objects", "").message
    assert "The publication everything" in found(findings, "replication", "FOR TABLES IN SCHEMA").message


def test_what_an_earlier_rollback_left_is_nothing_to_mend(
    ready: Shop, tmp_path: Path, new_database: Callable[[Server], Target], server: Server
) -> None:
    kept = new_database(server).dbname
    with connect(ready.target) as connection:
        connection.execute(f"alter database {kept} owner to {ready.role}".encode())
        other = found(tuple(at_database(ready.plan(tmp_path))), "roles", f"also works in {kept}")
        connection.execute(f"comment on database {kept} is 'kept by Safepoint for launch shop-1: migrated'".encode())
        connection.execute(
            "create schema safepoint_stash_shop; create table safepoint_stash_shop.stash (relation text)"
        )
        connection.execute("comment on schema safepoint_stash_shop is 'made by Safepoint for launch shop-1: stash'")
        try:
            findings = tuple(at_database(ready.plan(tmp_path)))
        finally:
            connection.execute("drop schema safepoint_stash_shop cascade")
    assert other.verdict == "warning" and not any("also works in" in one.message for one in findings)
    assert found(findings, "keys", "").verdict == "ok"


def test_a_schema_that_is_named_like_ours_and_is_not_is_a_failure(ready: Shop, tmp_path: Path) -> None:
    with connect(ready.target) as connection:
        connection.execute("create schema safepoint_sales; create schema safepoint_kept; create schema safepoints")
        connection.execute("comment on schema safepoint_kept is 'made by Safepoint for launch shop-1: stash'")
        try:
            findings = tuple(at_database(ready.plan(tmp_path)))
        finally:
            connection.execute("drop schema safepoint_sales; drop schema safepoint_kept; drop schema safepoints")
    told = found(findings, "schemas", "safepoint_sales")
    assert told.verdict == "failure" and "safepoint_kept" not in told.message and "safepoints" not in told.message


def test_an_encoding_that_holds_any_bytes_is_a_warning(ready: Shop, tmp_path: Path) -> None:
    bytewise = ready.target.on(f"{ready.target.dbname}_bytes")
    with connect(ready.target) as connection:
        made_as = "template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C'"
        connection.execute(sql.SQL(f"create database {bytewise.dbname} {made_as}"))
    try:
        findings = tuple(at_database(ready.plan(tmp_path, name=bytewise.dbname)))
    finally:
        drop_database(bytewise)
    told = found(findings, "encoding", "text that is not UTF-8 cannot be captured")
    assert told.verdict == "warning" and told.remedy


def test_prepared_and_idle_transactions_are_seen_with_the_words_that_end_them(
    ready: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_database, "_IDLE_SECONDS", 0.0)
    with connect(ready.target) as connection, connect(ready.target, autocommit=False) as idle:
        idle.execute("select 1")
        connection.execute("begin; create table half (a int); prepare transaction 'forgotten'")
        try:
            findings = tuple(at_database(ready.plan(tmp_path)))
        finally:
            connection.execute("rollback prepared 'forgotten'")
        session = found(findings, "idle", f"Session {idle.info.backend_pid}")
        idle.rollback()
    prepared = found(findings, "prepared", "forgotten")
    assert prepared.verdict == "failure" and prepared.remedy and "ROLLBACK PREPARED 'forgotten'" in prepared.remedy
    assert session.verdict == "warning" and session.remedy and "pg_terminate_backend" in session.remedy


def test_a_login_without_rights_is_told_each_missing_one(ready: Shop, tmp_path: Path) -> None:
    name = f"poor_{time.monotonic_ns()}"
    with connect(ready.target) as admin:
        admin.execute(sql.SQL("create role {} login password 'x'").format(sql.Identifier(name)))
        try:
            login = ready.target.login(name, "x")
            plan = ready.plan(tmp_path, user=name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SHOP_DB_PASSWORD", str(login.password))
                findings = tuple(at_database(plan))
        finally:
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
    granted = ("pg_signal_backend", "pg_read_all_stats", "pg_read_all_data", "GRANT its owner")
    for words in ("CREATEDB", "CREATEROLE", *granted):
        assert found(findings, "rights", words).verdict == "failure", words
    assert found(findings, "rights", "REPLICATION").verdict == "warning"
    assert found(findings, "roles", "WITH ADMIN OPTION").verdict == "failure"


def test_what_the_capture_will_not_see_is_told_before_the_launch(ready: Shop, tmp_path: Path) -> None:
    name = f"guest_{time.monotonic_ns()}"
    with connect(ready.target) as admin:
        admin.execute(sql.SQL("create role {} login replication password 'x'").format(sql.Identifier(name)))
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SHOP_DB_PASSWORD", "x")
                findings = tuple(at_database(ready.plan(tmp_path, user=name)))
        finally:
            admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
    told = found(findings, "capture", "the conductor's role does not own it")
    assert told.verdict == "warning" and "public.shop_item" in told.message
    assert found(findings, "capture", "made after the launch").verdict == "warning"
    assert [one.verdict for one in at_database(ready.plan(tmp_path)) if one.check == "capture"] == ["ok"]


def test_a_superuser_as_the_applications_role_is_a_warning(ready: Shop, tmp_path: Path) -> None:
    findings = tuple(at_database(ready.plan(tmp_path, role=ready.target.user)))
    assert found(findings, "roles", "is a superuser").verdict == "warning"
    assert found(findings, "rights", "application's role too").verdict == "warning"


def test_a_connection_pooler_in_the_place_of_the_server_is_a_failure_that_says_what_to_name(
    ready: Shop, tmp_path: Path
) -> None:
    with pooler(ready.target) as pooled:
        refused = found(
            guarded_database(ready.plan(tmp_path, port=pooled.port)), "database", "unsupported startup parameter"
        )
        assert refused.verdict == "failure" and "PgBouncer" in str(refused.remedy)
    with pooler(ready.target, ignores=True) as pooled:
        told = found(at_database(ready.plan(tmp_path, port=pooled.port)), "server", "a connection pooler")
        assert told.verdict == "failure" and f"port = {ready.target.port}" in str(told.remedy)
    assert found(at_database(ready.plan(tmp_path)), "server", "PostgreSQL").verdict == "ok"


def test_the_servers_own_log_is_looked_for_where_the_plan_names_it(ready: Shop, tmp_path: Path, server: Server) -> None:
    def told(path: Path | str) -> list[tuple[str, str]]:
        plan = ready.plan(tmp_path, lambda text: text.replace("[database]", f'[database]\nerror_log = "{path}"'))
        return [(one.verdict, one.check) for one in database_log(plan, NOW)]

    assert told(server.log) == [("ok", "database-log")]
    assert told("/nowhere/postgresql.log") == [("failure", "database-log")]
    (unset,) = database_log(ready.plan(tmp_path), NOW)
    assert unset.verdict == "warning" and "database.error_log" in unset.message


def test_no_room_for_a_copy_is_no_failure_where_the_twin_is_to_stand_on_another_server(
    ready: Shop, tmp_path: Path
) -> None:
    plan = ready.plan(tmp_path)
    with connect(ready.target) as connection:
        facts = replace(survey(connection), database_bytes=10**15)
    assert found(room(plan, facts), "disk-server", "are needed for the copy").verdict == "failure"
    there = TwinServer(host="far", user="postgres")
    far = plan.model_copy(update={"wayback": plan.wayback.model_copy(update={"server": there})})
    told = found(room(far, facts), "disk-server", "after all")
    assert told.verdict == "warning" and told.remedy


def test_a_pg_dump_older_than_the_server_is_a_failure(ready: Shop, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 13.4'\n")
    (tools / "pg_dump").chmod(0o755)

    def edit(text: str) -> str:
        text = text.replace("[application]", f'tools_host = "there"\ntools = "{tools}"\n[application]')
        return text + '\n[hosts.there]\nkind = "here"\n'

    dump = found(at_database(ready.plan(tmp_path, edit)), "pg_dump", "older than the server")
    assert dump.verdict == "failure" and dump.remedy and "PostgreSQL 17" in dump.remedy
