"""Who is affected, where each tenant's schema has users of its own (django-tenants): ada here is not ada there."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from safepoint.postgres.connections import connect
from safepoint.postgres.pgoutput import Relation
from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import Gathering, UserTable, write_letters
from safepoint.wayback.affected.letters import Words
from safepoint.wayback.affected.lines import Row
from safepoint.wayback.affected.owners import Owners
from safepoint.wayback.capture.changes import Change, Transaction

TENANT = """
create schema {0};
create table {0}.django_migrations (id int primary key);
create table {0}.auth_user (id int primary key, username text, email text);
create table {0}.invoice (id int primary key, by_id int references {0}.auth_user);
create table {0}.line (id int primary key, invoice_id int references {0}.invoice);
create table {0}.setting (name text primary key, value text);
insert into {0}.auth_user values (1, 'ada', 'ada@{0}.org'), (2, 'bob', 'bob@{0}.org');
insert into {0}.invoice values (7, {1});
"""
SHARED = """
create table django_migrations (id int primary key);
create table tenant (id int primary key, schema_name text unique);
create table auth_user (id int primary key, username text, email text);
insert into auth_user values (1, 'root', 'root@x.org');
create table note (id int primary key, by_id int references auth_user);
"""
GIVEN = {"setting": "CASE row_.value WHEN 'mine' THEN 2 END"}


def change(table: str, **values: str) -> Change:
    schema, name = table.split(".")
    return Change(Transaction(1, 1, None), Relation(1, schema, name, "d", ()), "insert", values, {}, {})


@pytest.mark.parametrize("shared", [True, False], ids=["some-shared", "none-shared"])
def test_each_tenants_rows_lead_to_its_own_users(database: Target, tmp_path: Path, shared: bool) -> None:
    with connect(database) as connection:
        connection.execute(SHARED if shared else "create table django_migrations (id int primary key)")
        connection.execute(TENANT.format("acme", 1) + TENANT.format("bolt", 2))
        owners = Owners(connection, "auth_user", "username", GIVEN)
        rows = [
            change("acme.invoice", id="8", by_id="1"),
            change("bolt.invoice", id="8", by_id="1"),
            change("acme.line", id="1", invoice_id="7"),
            change("bolt.line", id="1", invoice_id="7"),
            change("bolt.auth_user", id="3", username="eve"),
            change("acme.auth_user", id="2"),
            change("acme.setting", name="x", value="mine"),
            change("bolt.setting", name="x", value="nobody's"),
        ]
        rows += [change("public.note", id="1", by_id="1")] if shared else []
        found = owners.of(rows)
    told = ["acme: ada", "bolt: ada", "acme: ada", "bolt: bob", "bolt: eve", "acme: bob", "acme: bob", None]
    assert found == told + (["public: root"] if shared else []) and owners.faults == []
    with Gathering(tmp_path) as gathering:
        for user, row in zip(found, rows, strict=True):
            gathering.add(
                Row("2026-03-01", 1, "0/1", row.table, "insert", "8", user or "", "", False, "", "not carried", "lost")
            )
        write_letters(gathering, database, UserTable(), Words("shop", "1.0", "2.0"), tmp_path / "letters.csv", shown=5)
    with (tmp_path / "letters.csv").open(encoding="utf-8", newline="") as file:
        mails = {line["user"]: line["email"] for line in csv.DictReader(file)}
    assert mails["acme: ada"] == "ada@acme.org" and mails["bolt: ada"] == "ada@bolt.org"
