"""Content types and permissions at a replay: rows that refer to them are matched by what those name."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import ground, operations

from safepoint.django.operations import Operations, StateColumn, StateTable
from safepoint.postgres.target import Target
from safepoint.wayback.trial.roundtrip import doubtful, round_trip


def test_content_types_are_matched_by_what_they_name(database: Target, tmp_path: Path) -> None:
    before = """
    create table django_content_type (id serial primary key, app_label text, model text, unique (app_label, model));
    create table django_admin_log (id serial primary key, what text,
        content_type_id int references django_content_type deferrable initially deferred);
    insert into django_content_type (app_label, model) values ('shop', 'line'), ('shop', 'item');
    """
    migration = """
    delete from django_content_type; update django_admin_log set content_type_id = null;
    insert into django_content_type values (1, 'shop', 'item'), (2, 'shop', 'posting'), (3, 'shop', 'tag');
    """
    found = operations(("model-renamed", "line", "posting", "shop.posting", None))
    with ground(database, tmp_path, before, migration, found) as made:
        made.write(
            "insert into django_admin_log (what, content_type_id) values ('i', 1), ('p', 2), ('t', 3), ('n', null)"
        )
        outcome = made.carry()
        assert made.old("select what, content_type_id from django_admin_log order by 1") == [
            ("i", 2),
            ("n", None),
            ("p", 1),
        ]
        assert [(one.kind, one.key) for one in outcome.aside] == [("foreign key", {"id": "3"})]


TYPED = """
create table django_content_type (id serial primary key, app_label text, model text, unique (app_label, model));
create table flow (content_type_id int primary key references django_content_type deferrable initially deferred,
    what text);
insert into django_content_type (app_label, model) values ('shop', 'line'), ('shop', 'item'), ('shop', 'mark');
insert into flow values (1, 'l'), (2, 'i');
"""


def test_rows_whose_key_is_a_content_type_are_carried_where_it_has_the_same_number(
    database: Target, tmp_path: Path
) -> None:
    migration = """
    update django_content_type set model = 'posting' where id = 1;
    insert into django_content_type values (9, 'shop', 'tag');
    """
    found = operations(("model-renamed", "line", "posting", "shop.posting", None))
    with ground(database, tmp_path, TYPED, migration, found) as made:
        assert doubtful(made.mapping(), round_trip(made.twin, made.live, made.mapping())) == ()
        made.write("update flow set what = 'p' where content_type_id = 1; delete from flow where content_type_id = 2")
        made.write("insert into flow values (3, 'm'), (9, 't')")
        outcome = made.carry()
        assert made.old("select * from flow order by 1") == [(1, "p"), (3, "m")]
        assert [(one.table, one.kind) for one in outcome.aside] == [("public.flow", "foreign key")]


def test_rows_whose_key_is_a_content_type_of_another_number_are_not_carried(database: Target, tmp_path: Path) -> None:
    migration = """
    delete from flow; delete from django_content_type;
    insert into django_content_type values (1, 'shop', 'item'), (2, 'shop', 'line'), (3, 'shop', 'mark');
    insert into flow values (2, 'l'), (1, 'i');
    """
    with ground(database, tmp_path, TYPED, migration) as made:
        told = doubtful(made.mapping(), round_trip(made.twin, made.live, made.mapping()))
        assert [one[:53] for one in told] == ["flow: 2 rows are missing after the migration, 2 are n"]
        made.write("insert into flow values (3, 'm')")
        made.carry()
        assert made.old("select * from flow order by 1") == [(1, "l"), (2, "i"), (3, "m")]


@pytest.mark.usefixtures("looking_up")
def test_content_types_that_no_constraint_leads_to_are_matched_by_what_the_models_say(
    database: Target, tmp_path: Path
) -> None:
    """`db_constraint = False`: an id of the new database would be that of another model in the old one, or of none."""
    before = """
    create table django_content_type (id serial primary key, app_label text, model text, unique (app_label, model));
    create table note (id serial primary key, what text, content_type_id int not null);
    insert into django_content_type (app_label, model) values ('shop', 'line'), ('shop', 'item');
    insert into note (what, content_type_id) values ('of nothing', 77);
    """
    change = """
    alter table note add more text; delete from django_content_type;
    insert into django_content_type values (1, 'shop', 'item'), (2, 'shop', 'line'), (3, 'shop', 'tag');
    """

    def column(references: str | None = None) -> StateColumn:
        return StateColumn("integer", False, references is None, False, references, None)

    states = {
        "django_content_type": StateTable("contenttypes.contenttype", {"id": column()}),
        "note": StateTable("shop.note", {"content_type_id": column("contenttypes.contenttype")}),
    }
    with ground(database, tmp_path, before, change, Operations((), (), states, states)) as made:
        made.write("insert into note (what, content_type_id) values ('i', 1), ('l', 2), ('t', 3), ('n', 88)")
        outcome = made.carry()
        assert made.old("select what, content_type_id from note order by id") == [
            ("of nothing", 77),
            ("i", 2),
            ("l", 1),
            ("n", 88),
        ]
        assert [one.reason for one in outcome.aside] == ["what content_type_id names is not there"]


def test_content_types_and_permissions_in_a_schema_that_only_the_application_searches_are_found(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create schema app; set search_path = app;
    create table django_content_type (id serial primary key, app_label text, model text, unique (app_label, model));
    create table auth_permission (id serial primary key, codename text, content_type_id int not null
        references django_content_type deferrable initially deferred);
    create table granted (id serial primary key,
        permission_id int references auth_permission deferrable initially deferred,
        content_type_id int references django_content_type deferrable initially deferred);
    insert into django_content_type (app_label, model) values ('shop', 'line'), ('shop', 'item');
    insert into auth_permission (codename, content_type_id) values ('add_line', 1), ('add_item', 2);
    insert into granted (permission_id, content_type_id) values (1, 2);
    reset search_path;
    """
    migration = """
    delete from app.granted; delete from app.auth_permission; delete from app.django_content_type;
    insert into app.django_content_type values (11, 'shop', 'item'), (12, 'shop', 'line');
    insert into app.auth_permission values (21, 'add_item', 11), (22, 'add_line', 12);
    insert into app.granted values (1, 22, 11);
    """
    with ground(database, tmp_path, before, migration) as made:
        # Both tables are numbered anew, as after a launch; what refers to them comes back as it was.
        assert {one.table: one.whole for one in round_trip(made.twin, made.live, made.mapping()).tables}["app.granted"]
        made.write("insert into app.granted values (7, 21, 12)")
        assert made.carry().put_aside == 0
        assert made.old("select * from app.granted order by id") == [(1, 1, 2), (7, 2, 1)]
