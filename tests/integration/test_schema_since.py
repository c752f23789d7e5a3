"""A rollback when somebody changed the schema after the launch: only what that is about is not carried."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pytest
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, Ground, ground, lines

from safepoint.errors import Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import Gathering, Telling, catalogue_of
from safepoint.wayback.affected.fates import Fates
from safepoint.wayback.affected.written import list_written
from safepoint.wayback.capture.capture import How
from safepoint.wayback.door import entering
from safepoint.wayback.mapping.mapping import WayBack, changed_rules
from safepoint.wayback.replay.manner import Manner
from safepoint.wayback.replay.outcome import Outcome
from safepoint.wayback.replay.replay import READ_ONLY, carry, replay
from safepoint.wayback.stash.stash import keep_stash

VISITS = """
create table visit (id int, day date, primary key (id, day)) partition by range (day);
create table visit_1 partition of visit for values from ('2026-01-01') to ('2026-02-01');
create table leftover (id int primary key);
create table archive (id int primary key) partition by range (id);
create table archive_1 partition of archive for values from (0) to (10);
"""
ENTER = "insert into customer (name) values ('new')"
BY_LOG_AND_TRIGGERS = pytest.mark.parametrize("how", ["logical", "triggers"])


def ahead(made: Ground, proven: WayBack) -> Outcome:
    """What is there, carried as while the site is open."""
    made.drain()
    with (
        entering(made.twin, "postgres") as twin,
        connect(made.live, options=READ_ONLY) as source,
    ):
        return carry(twin, source, made.spool, proven, Manner(only_whole=True), launch_id=LAUNCH)


def rest(made: Ground, proven: WayBack) -> Outcome:
    """All that is left, as once the site is closed."""
    made.drain()
    return replay(made.twin, made.live, made.spool, proven, launch_id=LAUNCH, out=made.folder / "out")


def told(made: Ground, proven: WayBack, partitions: Mapping[str, str] | None = None) -> list[Mapping[str, str]]:
    """The lines of the list, with their fates."""
    out = made.folder / "affected.csv"
    with Gathering(made.folder) as gathering:
        fates = Fates(gathering.store, proven, catalogue_of(made.live), None, partitions)
        fates.load(made.folder / "out" / "put-aside.jsonl")
        list_written(made.live, made.spool, out, told=Telling(fates, gathering, {}))
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


@BY_LOG_AND_TRIGGERS
def test_a_table_and_a_partition_that_were_made_since_keep_nothing_else_from_being_carried(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, SHOP + VISITS, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write(
            "create schema tenant",
            "create table tenant.note (id int primary key, what text)",
            "create table tenant.django_migrations (id int primary key, name text)",
            "create index on customer (name)",
        )
        assert changed_rules(proven, made.mapping()) == ()
        made.write(ENTER, "insert into tenant.note values (1, 'first')")
        made.write("insert into tenant.django_migrations values (1, '0001_initial')")
        assert ahead(made, proven).now == 2
        made.write("alter table tenant.note add more text")
        made.write("update tenant.note set what = 'last', more = 'm' where id = 1", ENTER)
        made.write("create table visit_2 partition of visit for values from ('2026-02-01') to ('2026-03-01')")
        made.write("insert into visit values (1, '2026-01-05')", "insert into visit values (2, '2026-02-05')")
        assert changed_rules(proven, made.mapping()) == ()
        outcome = rest(made, proven)
        assert made.old("select count(*) from customer where name = 'new'") == [(2,)]
        assert made.old("select id from visit order by id") == [(1,), (2,)]
        assert outcome.put_aside == 0
        # The last state of each row.
        stashed = {(one["relation"], one["values"].get("what")) for one in lines(outcome, "stash")}
        assert stashed >= {("tenant.note", "last"), ("tenant.django_migrations", None)}
        assert ("tenant.note", "first") not in stashed
        fates = [(row["table"], row["fate"]) for row in told(made, proven)]
        assert fates == [
            ("customer", "carried"),
            ("tenant.note", "stashed"),
            ("tenant.django_migrations", "stashed"),
            ("tenant.note", "stashed"),
            ("customer", "carried"),
            ("visit_1", "carried"),
            ("visit_2", "carried"),
        ]
        kept = keep_stash(
            tmp_path / "state",
            LAUNCH,
            "2.0",
            Path(outcome.files["stash"]),
            made.live,
            proven,
            spool=made.spool,
            owner="shop/shop",
        )
        assert kept is not None and kept.tables["tenant.note"].whole and kept.tables["tenant.note"].rows == 1


@BY_LOG_AND_TRIGGERS
def test_a_table_that_was_dropped_since_is_the_rollbacks_end_only_where_it_was_written_to(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, SHOP + VISITS, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("insert into coupon (code) values ('gone')", ENTER)
        made.write("drop table leftover, coupon")
        assert changed_rules(proven, made.mapping()) == ()
        outcome = rest(made, proven)
        assert outcome.put_aside == 0 and made.old("select count(*) from customer where name = 'new'") == [(1,)]
        assert [(row["table"], row["fate"]) for row in told(made, proven)] == [
            ("coupon", "not carried"),
            ("customer", "carried"),
        ]
        made.write("insert into archive values (1)", ENTER)
        made.write("drop table archive")
        # Without its rows half a transaction would be carried, and nobody could tell by which rule.
        with pytest.raises(Refused, match="archive"):
            rest(made, proven)
        assert made.old("select count(*) from customer where name = 'new'") == [(1,)]


PARTED = """
create table visit (id int, day int, what text, primary key (id, day)) partition by range (day);
create table visit_1 partition of visit for values from (0) to (10);
create table visit_2 partition of visit for values from (10) to (20);
insert into visit values (1, 1, 'old'), (2, 11, 'old'), (3, 2, 'old');
"""


@pytest.mark.parametrize(
    "since",
    ["drop table visit_1", "alter table visit detach partition visit_1", "alter table visit_1 rename to visit_first"],
    ids=["dropped", "detached", "renamed"],
)
@BY_LOG_AND_TRIGGERS
def test_what_was_written_to_a_partition_that_is_none_any_more_is_carried_into_the_twins(
    database: Target, tmp_path: Path, how: How, since: str
) -> None:
    with ground(database, tmp_path, SHOP + PARTED, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write(ENTER, "insert into visit values (4, 3, 'new')", "delete from visit where id = 3")
        assert ahead(made, proven).now == 1
        made.write("update visit set what = 'new'")
        made.write(since)  # as a job does every night
        assert changed_rules(proven, made.mapping()) == ()
        outcome = rest(made, proven)
        assert (outcome.carried, outcome.put_aside, outcome.stashed) == (2, 0, 0)
        assert made.old("select id, what from visit order by 1") == [(1, "new"), (2, "new"), (4, "new")]
        assert {row["fate"] for row in told(made, proven, outcome.partitions)} == {"carried"}
        again = rest(made, proven)
        assert again.already and again.partitions == outcome.partitions


@BY_LOG_AND_TRIGGERS
def test_a_transaction_whose_rows_are_not_all_told_as_carried_does_not_count_as_such(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("create table passing (id int primary key)")
        made.write("insert into passing values (1)", ENTER)
        made.write("insert into passing values (2)")
        made.write("truncate purchase_line", "truncate passing")
        made.write(ENTER)
        made.write("drop table passing")
        outcome = rest(made, proven)
        assert (outcome.transactions, outcome.carried, outcome.partly, outcome.not_carried) == (4, 1, 2, 1)
        states = [(one["state"], one["xid"]) for one in lines(outcome, "transactions")]
        assert [state for state, _ in states] == ["partly", "not carried", "partly"]
        assert [row["fate"] for row in told(made, proven)].count("not carried") == 3


def test_a_change_that_a_rule_is_about_is_named(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP + VISITS, RELAX, RELAXED) as made:
        proven = made.mapping()
        made.write("alter table customer drop mail, add vat text", "alter table purchase rename body to words")
        assert changed_rules(proven, made.mapping()) == ("public.customer", "public.purchase")


@BY_LOG_AND_TRIGGERS
def test_a_column_that_was_added_since_is_stashed_and_keeps_nothing_from_being_carried(
    database: Target, tmp_path: Path, how: How
) -> None:
    """As a release that mends something does, a day after the launch."""
    keyless = "create table rate (day int, rate int); insert into rate values (1, 1), (2, 2)"
    with ground(database, tmp_path, SHOP + keyless, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        names = "(7, 'gone'), (8, 'early'), (11, 'gone'), (12, 'gone')"
        made.write(f"insert into customer (id, name) values {names}", "delete from customer where id = 11")
        made.write("update customer set name = 'before' where id = 1", "update rate set rate = 10 where day = 1")
        assert ahead(made, proven).now == 2
        made.write("update customer set name = 'twice' where id = 1", "delete from customer where id = 12")
        made.write("insert into customer (id, name) values (9, 'between')", "update rate set rate = 20 where day = 2")
        made.write(
            "alter table customer add vat text default 'none'",
            "alter table purchase add vip boolean not null default false",
            "alter table rate add source text",
        )
        made.write("update customer set vat = 'DE2' where id = 2", "delete from customer where id = 7")
        made.write("insert into customer (id, name, vat) values (10, 'late', 'DE10')")
        made.write("update customer set id = 30, vat = 'DE30' where id = 8")
        made.write("update purchase set vip = true, body = body where id = 1", "delete from purchase_line where id = 5")
        made.write("insert into rate values (3, 3, 's')", "update rate set source = 't', rate = 11 where day = 1")
        assert changed_rules(proven, made.mapping()) == ()
        outcome = rest(made, proven)
        assert outcome.put_aside == 0, outcome.aside
        for query in (
            "select id, name from customer order by id",
            "select id, customer_id, body from purchase order by id",
            "select id from purchase_line order by id",
            "select day, rate from rate order by 1",
        ):
            assert made.old(query) == made.new(query), query
        stashed = {
            (one["relation"], one["key"]["id"]): one["values"].get("vat", one["values"].get("vip"))
            for one in lines(outcome, "stash")
        }
        assert stashed["public.customer", "2"] == "DE2" and stashed["public.customer", "10"] == "DE10"
        assert stashed["public.customer", "30"] == "DE30" and stashed["public.purchase", "1"] == "t"
        assert stashed["public.customer", "1"] == stashed["public.customer", "9"] == "none"
        fates = {(row["table"], row["key"], row["action"]): row["fate"] for row in told(made, proven)}
        assert fates["customer", "id=10", "insert"] == fates["purchase", "id=1", "update"] == "carried in part"
        assert fates["customer", "id=9", "insert"] == "carried"
        kept = keep_stash(
            tmp_path / "state",
            LAUNCH,
            "2.0",
            Path(outcome.files["stash"]),
            made.live,
            proven,
            spool=made.spool,
            owner="shop/shop",
        )
        assert kept is not None and kept.tables["public.customer"].home == ("id", "name", "mail")
        again = rest(made, proven)
        assert again.already
