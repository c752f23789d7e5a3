"""A schema for each tenant: each has content types and permissions of its own, under numbers of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask, ground

from safepoint.postgres.target import Target
from safepoint.wayback.trial.roundtrip import round_trip

TENANT = """
create schema {0}; set search_path = {0};
create table django_content_type (id int primary key, app_label text, model text, unique (app_label, model));
create table auth_permission (id int primary key, codename text, content_type_id int not null
    references django_content_type deferrable initially deferred);
create table granted (id int primary key, what text,
    permission_id int references auth_permission deferrable initially deferred,
    content_type_id int references django_content_type deferrable initially deferred);
insert into django_content_type values ({1}, 'shop', 'line'), ({2}, 'shop', 'item');
insert into auth_permission values ({1}, 'add_line', {1}), ({2}, 'add_item', {2});
insert into granted values (1, 'line', {1}, {1}), (2, 'item', {2}, {2});
reset search_path;
"""
BEFORE = TENANT.format("one", 1, 2) + TENANT.format("two", 2, 1) + TENANT.format("three", 7, 8)
# Django numbers them anew in one schema, and adds some in each.
CHANGE = """
delete from two.granted; delete from two.auth_permission; delete from two.django_content_type;
insert into two.django_content_type values (11, 'shop', 'item'), (12, 'shop', 'line');
insert into two.auth_permission values (21, 'add_item', 11), (22, 'add_line', 12);
insert into two.granted values (1, 'line', 22, 12), (2, 'item', 21, 11);
insert into one.django_content_type values (9, 'shop', 'tag');
insert into three.django_content_type values (9, 'shop', 'mark');
"""


def test_each_tenants_content_types_are_matched_with_its_own(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, CHANGE) as made:
        assert round_trip(made.twin, made.live, made.mapping()).whole
        made.write("insert into one.granted values (3, 'line', 1, 1), (4, 'item', 2, 2)")
        made.write("insert into two.granted values (3, 'line', 22, 12), (4, 'item', 21, 11)")
        made.write("insert into three.granted values (3, 'line', 7, 7), (4, 'item', 8, 8)")
        assert made.carry().put_aside == 0
        for name, line, item in (("one", 1, 2), ("two", 2, 1), ("three", 7, 8)):
            rows = made.old(f"select what, permission_id, content_type_id from {name}.granted order by id")
            assert rows == [("line", line, line), ("item", item, item)] * 2, name
        made.write("insert into three.granted values (5, 'mark', null, 9)")
        assert [(one.table, one.kind) for one in made.carry().aside] == [("three.granted", "foreign key")]


MADE = """
insert into {0}.django_content_type values ({1}, 'shop', 'tag'), ({2}, 'shop', 'mark');
create table {0}.mark (id int primary key, about int not null references {0}.django_content_type, at text);
"""


@pytest.mark.parametrize("named_alike", [False, True])
def test_each_tenants_stash_is_named_again_by_its_own_content_types(
    database: Target, tmp_path: Path, named_alike: bool
) -> None:
    first = MADE.format("one", 33, 34) + MADE.format("two", 34, 33)
    second = MADE.format("one", 53, 54) + MADE.format("two", *((53, 54) if named_alike else (64, 63)))
    writes = ("insert into one.mark values (1, 34, 'mark')", "insert into two.mark values (1, 34, 'tag')")
    with (
        rolled_back(database, tmp_path, *writes, before=BEFORE, migration=first) as (made, _),
        launched_again(made, migration=second) as again,
    ):
        assert attached(made, again).left == 0
        for name in ("one", "two"):
            named = f"select at = model from {name}.mark join {name}.django_content_type t on t.id = about"
            assert ask(again, named) == [(True,)], name
