"""Sequences at a replay: no number is given out again, whoever drew it and whatever the sequence is called now."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from replay_ground import SHOP, ground, operations

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.replay.merging import left_sequences


def test_no_id_is_given_out_again(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, "alter table purchase_line rename to line") as made:
        found = operations(("table-renamed", "purchase_line", "line", None, None))
        made.operations = found
        made.write("insert into line (purchase_id, what) values (1, 'x')", "delete from line where id = 6")
        made.write("select nextval('customer_id_seq') from generate_series(1, 40)")
        with connect(made.twin) as connection:
            connection.execute("select setval('purchase_id_seq', 1000)")
        outcome = made.carry()
        assert outcome.sequences == {"public.customer_id_seq": 45, "public.purchase_line_id_seq": 6}
        assert made.old("select nextval('purchase_line_id_seq'), nextval('purchase_id_seq')") == [(7, 1001)]


def test_ids_that_nobody_committed_are_not_given_out_again_where_nothing_is_left_to_carry(
    database: Target, tmp_path: Path
) -> None:
    """Most is carried ahead; what was drawn since, and not committed, may stand in a mail or in another system."""
    with ground(database, tmp_path, SHOP, "select 1") as made:
        made.write("insert into customer (name) values ('x')")
        assert made.carry().sequences == {"public.customer_id_seq": 6}
        made.write("select nextval('customer_id_seq') from generate_series(1, 4)")
        outcome = made.carry()
        assert outcome.already and outcome.sequences == {"public.customer_id_seq": 10}
        assert made.old("select nextval('customer_id_seq')") == [(11,)]


def test_a_sequence_that_cannot_go_as_far_as_the_new_one_did_ends_at_its_last_number(
    database: Target, tmp_path: Path
) -> None:
    """A SmallAutoField became an AutoField: rows up to the smaller one's end are carried, and have their numbers."""
    before = "create table bill (id smallserial primary key); insert into bill values (default)"
    change = "alter table bill alter id type int; alter sequence bill_id_seq as int"
    with ground(database, tmp_path, before, change) as made:
        made.operations = operations(("column-altered", "bill", "bill", "id", None))
        made.write("select setval('bill_id_seq', 32765)", "insert into bill select from generate_series(1, 4)")
        outcome = made.carry()
        assert outcome.put_aside == 2 and outcome.sequences == {"public.bill_id_seq": 32767}
        with pytest.raises(psycopg.errors.SequenceGeneratorLimitExceeded):
            made.old("select nextval('bill_id_seq')")


def test_a_sequence_that_two_tables_had_together_goes_on_behind_both_of_theirs(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create table bill (id serial primary key);
    create table offer (id int primary key default nextval('bill_id_seq'));
    """
    change = "create sequence offer_id_seq; alter table offer alter id set default nextval('offer_id_seq')"
    with ground(database, tmp_path, before, change) as made:
        made.write("insert into bill select from generate_series(1, 7)", "insert into offer default values")
        assert made.carry().sequences == {"public.bill_id_seq": 7}
        made.write("insert into offer select from generate_series(1, 9)")
        assert made.carry().sequences == {"public.bill_id_seq": 10}


def test_a_sequence_that_only_code_asks_and_that_has_another_name_now_is_told(database: Target, tmp_path: Path) -> None:
    before = "create sequence letter_no; create sequence stays; create table gone (id serial, no int default 1)"
    change = "alter sequence letter_no rename to dispatch_no; drop table gone"
    with (
        ground(database, tmp_path, SHOP + before, change) as made,
        connect(made.twin) as old,
        connect(made.live) as new,
    ):
        assert left_sequences(old, new, read_catalogue(old)) == ("public.letter_no",)


def test_a_sequence_that_no_column_owns_is_found_again_by_the_default_that_names_it(
    database: Target, tmp_path: Path
) -> None:
    before = """
    create schema "Odd one"; create sequence "Odd one"."Numbers";
    create table invoice (id int primary key default nextval('"Odd one"."Numbers"'), what text);
    insert into invoice (what) values ('a'), ('b');
    """
    change = """alter sequence "Odd one"."Numbers" rename to "Given out";
    alter sequence "Odd one"."Given out" set schema public"""
    with ground(database, tmp_path, before, change) as made:
        made.write("insert into invoice (what) values ('c'), ('d')")
        assert made.carry().sequences == {'"Odd one"."Numbers"': 4}
        assert made.old("insert into invoice (what) values ('e') returning id") == [(5,)]
