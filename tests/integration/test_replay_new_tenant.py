"""A tenant that is made after the launch has a schema of its own, which the old release's database has not."""

from __future__ import annotations

from pathlib import Path

import pytest
from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask, ground

from safepoint.django.operations import Operations
from safepoint.postgres.target import Target

TENANT = """
create schema {0};
create table {0}.django_migrations (id int primary key, app text, name text);
create table {0}.book (id int primary key, title text);
insert into public.client values ({1}, '{0}', 'its name');
"""
BEFORE = """
create table public.django_migrations (id int primary key, app text, name text);
create table public.client (id int primary key, schema_name varchar(63) not null unique, name text);
create table public.domain (id int primary key, client_id int not null references public.client, name text);
insert into public.client values (9, 'not_made_yet', 'a tenant whose schema is still to be made');
"""


def test_a_tenant_made_since_is_put_aside_with_what_is_its_own_and_the_others_are_carried(
    database: Target, tmp_path: Path
) -> None:
    before = BEFORE + TENANT.format("one", 1) + TENANT.format("two", 2)
    with ground(
        database, tmp_path, before, "alter table one.book add isbn text; alter table two.book add isbn text"
    ) as made:
        made.write("create schema three")
        made.write("insert into public.client values (3, 'three', 'made since')")
        made.write("insert into public.domain values (1, 1, 'one.example'), (3, 3, 'three.example')")
        made.write("update public.client set name = 'another' where id in (1, 9)")
        done = made.carry()
        assert [(one.table, one.kind) for one in done.aside] == [
            ("public.client", "value"),
            ("public.domain", "foreign key"),
        ]
        assert "no schema of that name" in done.aside[0].reason
        assert made.old("select id, name from public.client order by id") == [
            (1, "another"),
            (2, "its name"),
            (9, "another"),
        ]
        assert made.old("select id from public.domain") == [(1,)]


@pytest.mark.parametrize("brought", [False, True])
def test_the_next_launch_attaches_such_a_tenant_where_somebody_brought_its_schema(
    database: Target, tmp_path: Path, brought: bool
) -> None:
    before = BEFORE + TENANT.format("one", 1) + TENANT.format("two", 2)
    writes = (
        "create schema three",
        "insert into public.client values (3, 'three', 'made since')",
        "insert into public.domain values (3, 3, 'three.example')",
    )
    found = Operations((), (), {}, {})
    migration = "alter table one.book add isbn text; alter table two.book add isbn text"
    since = ("create schema three",) if brought else ()
    with (
        rolled_back(database, tmp_path, *writes, before=before, migration=migration, found=found) as (made, _),
        launched_again(made, *since, migration=migration) as again,
    ):
        done = attached(made, again)
        assert done.left == (0 if brought else 2)
        for table in ("client", "domain"):
            assert ask(again, f"select count(*) from public.{table} where id = 3") == [(int(brought),)], table
