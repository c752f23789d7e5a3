"""Where a mapper is computed: by what it reads, in the twin or in the migrated database; or nowhere, which is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, LAUNCH, Ground, ground, operations, reasons, whole

from safepoint.errors import Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How, arm, disarm
from safepoint.wayback.replay.manner import Manner, NotWhole, Policy
from safepoint.wayback.replay.replay import READ_ONLY, carry, entering
from safepoint.wayback.trial.roundtrip import doubtful, round_trip
from safepoint.wayback.trial.trial import try_replay

BEFORE = """
create table customer (id int primary key, name varchar(9));
create table kind (id int primary key, label text);
create table item (id int primary key, code text, owner_name text, kind text);
insert into customer select n, 'c' || n from generate_series(1, 3) n;
insert into kind select n, 'k' || n from generate_series(1, 3) n;
insert into item select n, 'i' || n, 'c' || n, 'k' || n from generate_series(1, 3) n;
"""
CHANGE = """
alter table item add customer_id int references customer, add kind_id int references kind;
update item set customer_id = id, kind_id = id;
alter table item drop owner_name, drop kind;
"""
CHANGES = operations(
    ("column-removed", "item", "item", "owner_name", None), ("column-removed", "item", "item", "kind", None)
)
NAME = "(select c.name from customer c where c.id = new.customer_id)"
KIND = "(select k.label from kind k where k.id = new.kind_id)"
MAPPERS = {"item": {"owner_name": NAME, "kind": KIND}}
OWNERS = "select owner_name from item order by id"


def doubts(made: Ground) -> tuple[str, ...]:
    return doubtful(made.mapping(), round_trip(made.twin, made.live, made.mapping()))


@BOTH
def test_a_table_that_both_schemas_have_is_read_as_the_new_release_left_it(
    database: Target, tmp_path: Path, how: How
) -> None:
    """The twin's own is as it was at the safe point while a replay computes what a row becomes."""
    with ground(database, tmp_path, BEFORE, CHANGE, CHANGES, MAPPERS, how) as made:
        assert doubts(made) == ()
        made.write("insert into customer values (4, 'c4')", "insert into item values (4, 'i4', 4, 2)")
        made.write("update customer set name = 'new' where id = 1", "update item set customer_id = 3 where id = 2")
        whole(made, made.carry())
        assert made.old(OWNERS) == [("new",), ("c3",), ("c3",), ("c4",)]
        assert made.old("select kind from item where id = 4") == [("k2",)]


VIEWED = f"""
{CHANGE}
create view named as select c.id, upper(c.name) as name from customer c;
create function name_of(int) returns text language plpgsql as $$ begin
    return (select lower(n.name) from named n where n.id = $1); end $$;
create table archive () inherits (customer);
create materialized view seen as select * from customer;
"""


@pytest.mark.parametrize(
    ("mapper", "found"),
    [
        ("(select lower(n.name) from named n where n.id = new.customer_id)", "anna"),
        ("name_of(new.customer_id)", "anna"),
        ("(select max(c.name) from public.customer c where c.id in (new.customer_id, new.id + 100))", "zoe"),
        ("(select c.name from seen c where c.id = new.customer_id)", "anna"),
    ],
    ids=["view", "function", "heir", "materialized"],
)
def test_what_is_read_is_found_behind_views_functions_and_heirs(
    database: Target, tmp_path: Path, mapper: str, found: str
) -> None:
    mappers = {"item": {"owner_name": mapper, "kind": KIND}}
    with ground(database, tmp_path, BEFORE, VIEWED, CHANGES, mappers) as made:
        assert doubts(made) == ()
        made.write("update customer set name = 'anna' where id = 1", "refresh materialized view seen")
        made.write("insert into archive values (101, 'zoe')")
        assert made.carry().put_aside == 0
        assert made.old("select owner_name from item where id = 1") == [(found,)]


def test_a_table_that_only_the_old_schema_has_is_the_twins_own(database: Target, tmp_path: Path) -> None:
    before = BEFORE.replace("insert into kind", "insert into kind values (9, 'k9'); insert into kind")
    gone = operations(
        ("column-removed", "item", "item", "owner_name", None),
        ("column-removed", "item", "item", "kind", None),
        ("table-deleted", "kind", "kind", None, None),
    )
    change = f"{CHANGE} alter table item drop constraint item_kind_id_fkey; drop table kind"
    with ground(database, tmp_path, before, change, gone, MAPPERS) as made:
        assert doubts(made) == ()
        made.write("update item set kind_id = 9 where id = 2", "update customer set name = 'new' where id = 3")
        assert made.carry().put_aside == 0
        assert made.old("select owner_name, kind from item order by id") == [("c1", "k1"), ("c2", "k9"), ("new", "k3")]


@pytest.mark.parametrize(
    ("mapper", "change", "said"),
    [
        (f"old.owner_name || {NAME}", CHANGE, "`old` is known in the form coalesce(old.owner_name, ...) alone"),
        (NAME, f"{CHANGE} alter table customer rename to client", 'relation "customer" does not exist'),
        ("(select c.name from nobody c)", CHANGE, 'owner_name: relation "nobody" does not exist'),
        ("old.owner_name || (select max(t) from fresh)", f"{CHANGE} create table fresh (t text)", "`old` is known in"),
    ],
    ids=["the twin's row", "renamed", "nowhere", "a new table and the twin's row"],
)
def test_what_no_database_can_compute_is_told_by_the_round_trip_and_carries_nothing(
    database: Target, tmp_path: Path, mapper: str, change: str, said: str
) -> None:
    changes = CHANGES
    if "rename" in change:
        changes = operations(
            ("column-removed", "item", "item", "owner_name", None),
            ("column-removed", "item", "item", "kind", None),
            ("table-renamed", "customer", "client", None, None),
        )
    mappers = {"item": {"owner_name": mapper, "kind": KIND}}
    with ground(database, tmp_path, BEFORE, change, changes, mappers) as made:
        (doubt,) = doubts(made)
        assert said in doubt, doubt
        made.write("update item set code = 'x' where id = 1")
        with pytest.raises(Refused, match="cannot be computed") as refused:
            made.carry()
        assert said in str(refused.value.found)
        assert made.old("select code from item where id = 1") == [("i1",)]


def test_rows_without_a_key_are_not_read_for(database: Target, tmp_path: Path) -> None:
    before = BEFORE.replace("create table item (id int primary key", "create table item (id int")
    with ground(database, tmp_path, before, CHANGE, CHANGES, MAPPERS) as made:
        (doubt,) = doubts(made)
        assert "owner_name cannot be read from public.customer, for rows without a key are not found there" in doubt


def follow(made: Ground, policy: Policy = "row") -> None:
    """A batch of a follower: whole, or not at all."""
    made.drain()
    with entering(made.twin, "postgres") as twin, connect(made.live, options=READ_ONLY) as source:
        carry(twin, source, made.spool, made.mapping(), Manner(policy, only_whole=True), launch_id=LAUNCH)


@BOTH
def test_a_follower_leaves_what_is_read_to_the_last_replay(database: Target, tmp_path: Path, how: How) -> None:
    """While people write, nobody knows which rows a change reaches, and what comes later is in the values already."""
    with ground(database, tmp_path, BEFORE, CHANGE, CHANGES, MAPPERS, how) as made:
        made.write("insert into item values (4, 'i4', 1, 1)")
        with pytest.raises(NotWhole, match="reads was written to"):
            follow(made, "transaction")  # the value may be one of a transaction that is put aside later
        follow(made)
        assert made.old("select owner_name from item where id = 4") == [("c1",)]
        made.write("update customer set name = 'new' where id = 1")
        with pytest.raises(NotWhole, match="reads was written to"):
            follow(made)
        assert made.old("select name from customer where id = 1") == [("c1",)]
        whole(made, made.carry())
        assert made.old(OWNERS) == [("new",), ("c2",), ("c3",), ("new",)]


@BOTH
def test_no_value_is_what_a_transaction_wrote_that_is_put_aside(database: Target, tmp_path: Path, how: How) -> None:
    before = f"{BEFORE}; alter table kind add check (label <> 'bad')"
    change = f"{CHANGE} alter table kind drop constraint kind_label_check"
    with ground(database, tmp_path, before, change, CHANGES, MAPPERS, how) as made:
        made.write("update customer set name = 'half' where id = 1", "insert into kind values (4, 'bad')")
        made.write("update item set code = 'one' where id = 1", "update item set code = 'two' where id = 2")
        outcome = made.carry(policy="transaction")
        assert made.old("select id, name from customer where id = 1") == [(1, "c1")]
        # The value of the first is what the first transaction made of it; that of the second nobody's.
        assert made.old("select code, owner_name from item order by id") == [("i1", "c1"), ("i2", "c2"), ("i3", "c3")]
        assert ("item", "transaction", "1") in reasons(outcome) and not made.old("select from kind where id = 4")


@BOTH
def test_a_rehearsed_rollback_writes_to_what_mappers_read(database: Target, tmp_path: Path, how: How) -> None:
    """To a table that the launch made, too: what is done there alone must change the old rows."""
    before = (
        "create table item (id int primary key, tags text); insert into item select n, 't' from generate_series(1, 9) n"
    )
    change = """
        create table tag (id serial primary key, item_id int references item on delete cascade, name text);
        insert into tag (item_id, name) select id, tags from item;
        alter table item drop tags;
    """
    tags = "(select string_agg(t.name, ',' order by t.id) from tag t where t.item_id = new.id)"
    found = operations(("column-removed", "item", "item", "tags", None))
    with ground(database, tmp_path, before, change, found, {"item": {"tags": tags}}) as made:
        disarm(made.live, made.facts)
        facts = arm(made.live, "rehearsal", how)
        trial = try_replay(made.twin, made.live, made.mapping(), made.folder / "trial", facts)
        assert (trial.verdict, trial.reasons, trial.aside) == ("equal", (), 0)
        assert trial.writes["insert"] == trial.writes["update"] == trial.writes["delete"] == 2
        assert made.old("select count(distinct tags) > 1 from item") == [(True,)]
