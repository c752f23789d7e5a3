"""The rules of the old schema, asked of what is carried: unique, exclusion and foreign keys, checks, partitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from launched_twice import attached, launched_again, rolled_back
from postgres_servers import Servers, drop_database, fresh_database, has_postgres
from replay_ground import RELAX, RELAXED, SHOP, ground, reasons

from safepoint.errors import SafepointError
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.replay import applying, holding


@pytest.mark.parametrize(
    ("rule", "dropped"),
    [
        (
            "alter table form add constraint ruled check ((data ->> 'n')::int > 0)",
            "alter table form drop constraint ruled",
        ),
        ("create unique index ruled on form (((data ->> 'n')::int))", "drop index ruled"),
        ("create unique index ruled on form (id) where (data ->> 'n')::int > 0", "drop index ruled"),
    ],
    ids=["check", "unique", "partial"],
)
def test_a_rule_that_cannot_be_worked_out_for_a_row_puts_that_one_aside(
    database: Target, tmp_path: Path, rule: str, dropped: str
) -> None:
    """The release drops it: so a value may be there that its expression has no answer for."""
    before = "create table form (id int primary key, data jsonb); insert into form values (1, '{\"n\": 1}');"
    with ground(database, tmp_path, SHOP + before + rule, f"{RELAX}{dropped}", RELAXED) as made:
        made.write("""insert into form values (2, '{"n": "two"}'), (3, '{"n": 3}')""")
        made.write(
            """update form set data = '{"n": "one"}' where id = 1""", "insert into form values (4, '{\"n\": 4}')"
        )
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [("form", "value", "1"), ("form", "value", "2")]
        assert all(one.reason.startswith("invalid input syntax for type integer") for one in outcome.aside)
        assert made.old("select id, data ->> 'n' from form order by 1") == [(1, "1"), (3, "3"), (4, "4")]


KEPT_RULES = """
alter table customer alter name type varchar(200);
alter table purchase drop legacy;
update customer set mail = 'moved@x' where id = 1;
insert into customer (id, name) values (50, 'made by the migration');
"""


@pytest.mark.usefixtures("looking_up")
def test_rules_that_the_new_schema_keeps_are_asked_where_the_twin_differs_all_the_same(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migration changed rows in a way that nobody said: what was written on top of it does not fit the twin."""
    settled: list[bool] = []
    settle = holding.settle

    def noted(*words: Any) -> int:
        settled.append(words[4:] == () or words[4] is None)
        return settle(*words)

    for room in (applying, holding):
        monkeypatch.setattr(room, "settle", noted)
    with ground(database, tmp_path, SHOP, KEPT_RULES, RELAXED) as made:
        made.write(
            "insert into customer (name, mail) values ('fits', 'fits@x')", "delete from purchase_line where id = 1"
        )
        assert made.carry().put_aside == 0 and settled == [False]
        made.write("insert into customer (name, mail) values ('again', 'c1@x')")
        made.write("insert into purchase (customer_id, total) values (50, 1), (2, 2), (7, 3)")
        made.write("insert into purchase_line (purchase_id, what) values (6, 'follows'), (7, 'carried'), (8, 'too')")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [
            ("customer", "unique", "7"),
            ("purchase", "foreign key", "6"),
            ("purchase", "foreign key", "8"),
            ("purchase_line", "foreign key", "6"),
            ("purchase_line", "foreign key", "8"),
        ]
        assert True in settled
        assert made.old("select purchase_id, what from purchase_line where purchase_id > 5") == [(7, "carried")]
        assert made.old("select id, mail from customer where id > 5") == [(6, "fits@x")]


def test_a_deferrable_key_is_asked_about_for_no_index_refuses_its_rows(database: Target, tmp_path: Path) -> None:
    before = SHOP + "alter table customer drop constraint customer_mail_key, add unique (mail) deferrable;"
    with ground(database, tmp_path, before, KEPT_RULES, RELAXED) as made:
        made.write("insert into customer (name, mail) values ('again', 'c1@x'), ('fits', 'fits@x')")
        outcome = made.carry()
        assert reasons(outcome) == [("customer", "unique", "6")]
        assert made.old("select id, mail from customer where id > 5") == [(7, "fits@x")]


def test_an_update_that_an_exclusion_refuses_is_put_aside_and_two_rows_may_exchange_theirs(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create extension btree_gist;
    create table booking (id int primary key, room int, during int4range,
        constraint apart exclude using gist (room with =, during with &&));
    insert into booking values (1, 1, '[1,5)'), (2, 1, '[5,9)'), (3, 2, '[1,5)'), (4, 2, '[5,9)'), (5, 3, '[1,5)');
    """
    with ground(database, tmp_path, before, "alter table booking drop constraint apart") as made:
        made.write("update booking set during = '[4,6)' where id = 1")
        made.write(
            "update booking set during = '[20,30)' where id = 3",
            "update booking set during = '[1,5)' where id = 4",
            "update booking set during = '[5,9)' where id = 3",
        )
        # An update in place, and a row that comes into its way.
        made.write("update booking set during = '[2,5)' where id = 5", "insert into booking values (6, 3, '[1,3)')")
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [("booking", "value", "1"), ("booking", "value", "6")]
        assert made.old("select id, lower(during) from booking order by id") == [(1, 1), (2, 5), (3, 5), (4, 1), (5, 2)]


PARTS = """
create table parent (id int primary key);
create table part (id int, kind text, n int, code text, parent int, primary key (id, kind)) partition by list (kind);
create table "Part.a" partition of part for values in ('a');
create table part_b partition of part for values in ('b');
create unique index part_a_id on "Part.a" (id);
create table child (id int primary key, part int constraint leads references "Part.a" (id));
insert into parent values (1), (2);
insert into part values (1, 'a', 1, 'x', 1), (2, 'a', 2, 'y', 2), (3, 'b', 3, 'x', 9), (4, 'a', 1, 'w', 1);
insert into child values (1, 4);
alter table "Part.a" add constraint small check (n < 10), add constraint known foreign key (parent) references parent;
create unique index part_a_code on "Part.a" (code);
"""
PARTS_RELAXED = """
alter table "Part.a" drop constraint small, drop constraint known;
alter table child drop constraint leads;
drop index part_a_code;
"""


def test_rules_of_a_partition_alone_are_asked_of_its_rows_alone(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, PARTS, PARTS_RELAXED) as made:
        made.write(
            "update part set n = 100 where id = 1",
            "update part set code = 'x' where id = 2",
            "update part set n = 100, code = 'z', parent = 8 where id = 3",
            "delete from part where id = 4",
            "insert into part values (5, 'a', 50, 'q', null), (6, 'a', 5, 'x', 1), (7, 'b', 70, 'x', 7)",
            "insert into part values (8, 'a', 1, 'ok', 2), (9, 'a', 1, 'r', 77)",
            "insert into child values (2, 8), (3, 7), (4, null)",
        )
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [
            ("child", "foreign key", "3"),
            ("part", "foreign key", "4"),
            ("part", "foreign key", "9"),
            *(("part", "value", key) for key in ("1", "2", "5", "6")),
        ]
        assert made.old("select id, n, code from part where id in (3, 7, 8) order by id") == [
            (3, 100, "z"),
            (7, 70, "x"),
            (8, 1, "ok"),
        ]
        assert made.old("select id from child order by id") == [(1,), (2,), (4,)]


def test_a_foreign_key_that_matches_in_full_holds_of_its_columns_all_or_none(database: Target, tmp_path: Path) -> None:
    before = """
    create table place (shelf int, "Slot" int, primary key (shelf, "Slot"));
    create table box (id int primary key, shelf int, "Slot" int,
        constraint box_place foreign key (shelf, "Slot") references place match full);
    insert into place values (1, 1);
    """
    relaxed = 'alter table box drop constraint box_place, add foreign key (shelf, "Slot") references place'
    with ground(database, tmp_path, before, relaxed) as made:
        made.write("insert into box values (1, 1, 1), (2, null, null), (3, 1, null)")
        outcome = made.carry()
        assert reasons(outcome) == [("box", "value", "3")]
        assert made.old("select id from box order by id") == [(1,), (2,)]


@pytest.mark.skipif(not has_postgres(18), reason="needs PostgreSQL 18")
def test_a_constraint_that_is_not_enforced_puts_nothing_aside(servers: Servers, tmp_path: Path) -> None:
    database = fresh_database(servers(18))
    before = """
    create table parent (id int primary key);
    create table child (id int primary key, n int constraint small check (n < 10) not enforced,
        parent int constraint told references parent not enforced);
    """
    try:
        with ground(database, tmp_path, before, "alter table child add note text") as made:
            made.write("insert into child values (1, 100, 7)")
            outcome = made.carry()
            assert outcome.put_aside == 0
            assert made.old("select * from child") == [(1, 100, 7)]
    finally:
        drop_database(database)


def test_a_deferrable_key_without_overlaps_is_asked_about_as_an_exclusion_is(servers: Servers, tmp_path: Path) -> None:
    before = """
    create extension btree_gist;
    create table stay (id int primary key, room int, at daterange,
        constraint one_guest unique (room, at without overlaps) deferrable initially deferred);
    insert into stay values (1, 1, '[2026-01-01,2026-02-01)');
    """
    database = fresh_database(servers(18))
    try:
        with ground(database, tmp_path, before, "alter table stay drop constraint one_guest") as made:
            made.write("insert into stay values (2, 1, '[2026-01-15,2026-03-01)'), (3, 1, '[2026-02-01,2026-02-02)')")
            assert reasons(made.carry()) == [("stay", "unique", "2")]
            assert made.old("select id from stay order by id") == [(1,), (3,)]
    finally:
        drop_database(database)


TEMPORAL = """
create extension btree_gist;
create table room (id int, at daterange, name text, primary key (id, at without overlaps));
create table stay (no int primary key, room int, at daterange,
    constraint has_room foreign key (room, period at) references room (id, period at));
insert into room values (1, '[2026-01-01,2026-02-01)', 'a'), (1, '[2026-02-01,2026-03-01)', 'b'),
    (2, '[2026-01-01,2026-03-01)', 'c');
insert into stay values (1, 1, '[2026-01-20,2026-02-10)'), (2, 2, '[2026-01-05,2026-01-06)');
"""


def test_a_foreign_key_over_a_period_holds_where_parents_cover_it_together(servers: Servers, tmp_path: Path) -> None:
    database = fresh_database(servers(18))
    try:
        with ground(database, tmp_path, TEMPORAL, "alter table stay drop constraint has_room") as made:
            made.write("update room set at = '[2026-02-01,2026-04-01)' where name = 'b'")
            made.write("insert into stay values (3, 1, '[2026-01-30,2026-03-20)'), (4, 1, '[2026-03-30,2026-05-01)')")
            made.write("insert into room values (3, '[2026-01-01,2026-02-01)', 'd')")
            made.write(
                "insert into stay values (5, 3, '[2026-01-02,2026-01-03)'), (6, null, '[2026-01-01,2026-01-02)')"
            )
            made.write("delete from room where id = 2", "delete from room where id = 1 and name = 'z'")
            outcome = made.carry()
            assert {(table, kind) for table, kind, _ in reasons(outcome)} == {
                ("stay", "foreign key"),
                ("room", "foreign key"),
            }
            assert made.old("select no from stay order by no") == [(1,), (2,), (3,), (5,), (6,)]
            assert made.old("select name from room order by name") == [("a",), ("b",), ("c",), ("d",)]
            with connect(made.twin) as connection:  # all of it holds: a dump of it can be restored
                connection.execute("alter table stay drop constraint has_room")
                again = "foreign key (room, period at) references room (id, period at)"
                connection.execute(f"alter table stay add {again}".encode())
    finally:
        drop_database(database)


def test_a_stash_is_attached_where_parents_cover_a_period_together(servers: Servers, tmp_path: Path) -> None:
    change = """
    alter table stay add note text;
    create table visit (no int primary key, room int, at daterange, foreign key (room, period at) references room);
    """
    writes = (
        "update stay set note = 'late' where no = 1",
        "insert into visit values (1, 1, '[2026-01-30,2026-02-02)')",
    )
    database = fresh_database(servers(18))
    try:
        with (
            rolled_back(database, tmp_path, *writes, before=TEMPORAL, migration=change) as (made, _),
            launched_again(made, migration=change) as again,
        ):
            done = attached(made, again)
            assert (done.left, done.values, done.rows) == (0, 1, 1)
    finally:
        drop_database(database)


def test_a_deferrable_exclusion_is_asked_about_for_no_trigger_looks_again(database: Target, tmp_path: Path) -> None:
    before = """
    create extension btree_gist;
    create table booking (id int primary key, room int, during int4range, cancelled bool not null default false,
        constraint apart exclude using gist (room with =, during with &&) where (not cancelled)
        deferrable initially deferred);
    insert into booking values (1, 1, '[1,5)'), (2, 2, '[1,5)'), (3, 3, '[1,5)'), (4, 4, '[1,5)');
    """
    with ground(database, tmp_path, before, "alter table booking drop constraint apart") as made:
        made.write(
            # Taken by a row that stays; by one that was changed; free where the row that was there moved or is gone.
            "insert into booking values (10, 1, '[4,8)', false), (11, 1, '[8,9)', false), (12, 1, '[4,8)', true)",
            "insert into booking values (13, null, '[1,5)')",
            "update booking set during = '[1,7)' where id = 2",
            "insert into booking values (20, 2, '[6,9)')",
            "update booking set room = 9 where id = 3",
            "insert into booking values (30, 3, '[1,5)')",
            "delete from booking where id = 4",
            "insert into booking values (40, 4, '[1,5)')",
            # The second overlaps the first, the third only the second, which does not come.
            "insert into booking values (50, 5, '[1,4)'), (51, 5, '[3,7)'), (52, 5, '[6,9)')",
        )
        outcome = made.carry()
        assert sorted(reasons(outcome)) == [("booking", "unique", key) for key in ("10", "20", "51")]
        there = [row[0] for row in made.old("select id from booking order by id")]
        assert there == [1, 2, 3, 11, 12, 13, 30, 40, 50, 52]


def test_what_no_query_looks_for_is_found_by_trying(database: Target, tmp_path: Path) -> None:
    before = """
    create table booking (id int primary key, during int4range, exclude using gist (during with &&));
    create table part (id int primary key, what text) partition by range (id);
    create table part_1 partition of part for values from (0) to (100);
    insert into booking values (1, '[1,5)');
    """
    migration = """
    alter table booking drop constraint booking_during_excl;
    create table part_2 partition of part for values from (100) to (200);
    """
    with ground(database, tmp_path, before, migration) as made:
        made.write("insert into booking values (2, '[3,8)'), (3, '[8,9)')")
        made.write("insert into part select n, 'p' from generate_series(90, 110) n", "delete from part where id = 91")
        outcome = made.carry()
        assert made.old("select id from booking order by 1") == [(1,), (3,)]
        assert made.old("select count(*), max(id) from part") == [(9, 99)]
        table = {one.table: one.put_aside for one in outcome.tables}
        assert table == {"public.booking": 1, "public.part": 11}


def test_a_foreign_key_that_does_not_hold_after_all_ends_the_replay_and_changes_nothing(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triggers are silent: what the questions before should have missed, the last one finds."""
    before = """
    create table parent (id int primary key);
    create table child (id int primary key, parent int constraint told references parent);
    insert into parent values (1);
    """
    with ground(database, tmp_path, before, "alter table child drop constraint told") as made:
        made.write("insert into child values (1, 1)", "insert into child values (2, 7)")
        monkeypatch.setattr(
            holding, "_orphans", lambda child, *_: f"UPDATE {child.change} SET verdict = '' WHERE false"
        )
        with pytest.raises(SafepointError, match=r"child\.told: 1 rows without a parent"):
            made.carry()
        assert made.old("select * from child") == []
        monkeypatch.undo()
        assert reasons(made.carry()) == [("child", "foreign key", "2")]
        assert made.old("select * from child") == [(1, 1)]
