"""Capture by triggers: what it notes is what the log would have said, and the application never notices."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from postgres_servers import drop_database, fresh_database
from psycopg import sql
from replay_ground import LAUNCH, SHOP, ask, ground
from trigger_ground import NOTHING, ODD, application_role, changes
from written_ground import BEFORE, MIGRATION, OPERATIONS, SAME, WRITES, check, write

from safepoint.errors import CaptureLost, Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm, drain, lag
from safepoint.wayback.capture.capture_mode import choose
from safepoint.wayback.capture.spool import durable_position, read_header
from safepoint.wayback.replay.replay import replay


@pytest.mark.parametrize("major", [18])
def test_both_captures_of_the_same_writes_lead_to_the_same_twin(
    servers: object, major: int, tmp_path_factory: object
) -> None:
    server: Server = servers(major)  # type: ignore[operator]

    @settings(
        max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
    )
    @given(WRITES, st.integers(0, 25))
    def carried(writes: list[tuple[int, int, int, bool]], cut: int) -> None:
        folder: Path = tmp_path_factory.mktemp("triggers")  # type: ignore[attr-defined]
        database = fresh_database(server)
        other = database.on(f"{database.dbname}_other")
        try:
            with ground(database, folder, BEFORE, MIGRATION, OPERATIONS, how="triggers") as made:
                with connect(database.on("postgres")) as connection:
                    words = {"new": sql.Identifier(other.dbname), "old": sql.Identifier(made.twin.dbname)}
                    connection.execute(sql.SQL("create database {new} template {old}").format(**words))
                logical = arm(database, "by-the-log", "logical")
                write(made, writes[:cut])
                made.carry()
                write(made, writes[cut:])
                outcome = made.carry()
                check(made)
                assert outcome.put_aside == 0, outcome.aside
                drain(database, logical, folder / "log")
                replay(other, database, folder / "log", made.mapping(), launch_id="by-the-log", out=folder / "log-out")
                for table, (_, found) in SAME.items():
                    query = f"select x::text from ({found}) x order by 1"
                    assert made.old(query) == ask(other, query), table
                disarm(database, logical)
            assert ask(database, NOTHING) == [(0,), (0,), (0,)]
        finally:
            drop_database(other)
            drop_database(database)

    carried()


ODD_SESSION = (
    "-c datestyle=German,DMY -c timezone=Asia/Tokyo -c extra_float_digits=-3 -c intervalstyle=postgres "
    "-c bytea_output=escape -c search_path=pg_temp"
)
ODD_WRITES = (
    "insert into public.keyless values ('2026-03-01 12:00:00+00', 0.1::float8 + 0.2, '\\x00ff', '1 day 2 hours', 12.5)",
    'insert into public.made (id, n, "Odd "" name") values (1, 2, E\'a\\\\b"c,d(e)\\n\')',
    "insert into public.part values (1, 'a'), (2, 'b')",
    "update public.part set kind = 'b' where id = 1",  # to another partition
    "truncate public.part_a",
    "truncate public.part",  # one of its partitions came later
    "insert into public.fast values (1)",
    "insert into public.nothing default values",
    "insert into public.later values (1)",
    "delete from public.keyless",
)


def test_the_application_writes_as_before_whatever_its_rights_settings_and_tables_are(
    any_database: Target, tmp_path: Path
) -> None:
    target = any_database
    with application_role(target) as role:
        application = target.login(role, "only-for-tests")
        with ground(target, tmp_path, ODD, "select 1", how="triggers") as made:
            assert made.facts.mode == "triggers" and made.facts.uncovered == ()
            with connect(target) as connection:
                connection.execute(f"grant all on all tables in schema public to {role}")
                connection.execute("create table part_b partition of part for values in ('b')")
                connection.execute("create table later (id int)")
                connection.execute(f"grant all on part_b, later to {role}")
                refused = "select has_schema_privilege(%s, 'safepoint_capture', 'usage')"
                assert connection.execute(refused, [role]).fetchone() == (False,)
            with psycopg.connect(**application.conninfo(), options=ODD_SESSION, autocommit=True) as writer:  # type: ignore[arg-type]
                for statement in ODD_WRITES:
                    writer.execute(statement)
            with connect(target) as connection:
                connection.execute("set session_replication_role = replica")
                connection.execute("update made set n = 3")
                connection.execute("alter table made add extra text")
            drained = drain(target, made.facts, made.spool)
            assert drained.unseen == () and drained.changed_tables == ("public.made",)
            assert_the_odd_writes_were_noted_exactly(changes(made))
            assert lag(target, made.facts).safe_bytes is None
        assert ask(target, NOTHING) == [(0,), (0,), (0,)]


def assert_the_odd_writes_were_noted_exactly(found: list[tuple[str, str, dict[str, object]]]) -> None:
    truncated = [one[:2] for one in found[7:] if one[1] == "truncate"]
    assert {table for table, _ in truncated} == {"public.part_a", "public.part_b"}
    exact = {
        "at": "2026-03-01 12:00:00+00",
        "size": "0.30000000000000004",
        "raw": "\\x00ff",
        "took": "P1DT2H",
        "price": "$12.50",
    }
    assert found[0] == ("public.keyless", "insert", exact)
    assert found[1] == ("public.made", "insert", {"id": "1", "n": "2", 'Odd " name': 'a\\b"c,d(e)\n'})
    assert [(table, action) for table, action, _ in found[2:]] == [
        ("public.part_a", "insert"),
        ("public.part_b", "insert"),
        ("public.part_a", "delete"),
        ("public.part_b", "insert"),
        ("public.part_a", "truncate"),
        *truncated,
        ("public.fast", "insert"),
        ("public.nothing", "insert"),
        ("public.later", "insert"),
        ("public.keyless", "delete"),
        ("public.made", "update"),
    ]


def test_a_transaction_that_is_open_across_drains_is_not_skipped_and_stands_in_order(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, "select 1", how="triggers") as made:
        slow = psycopg.connect(**database.conninfo())  # type: ignore[arg-type]
        slow.execute("update customer set name = 'slow' where id = 1")
        made.write("update customer set name = 'quick' where id = 2", "insert into customer (name) values ('six')")
        made.drain()
        assert [row["name"] for _, _, row in changes(made)] == ["quick", "six"]
        made.write("update customer set name = 'quick again' where id = 2")
        slow.execute("update customer set name = 'slow too' where id = 3")
        made.drain()
        slow.commit()
        # Whoever waited for its lock comes after it.
        made.write("update customer set name = 'after the slow one' where id = 1")
        outcome = made.carry()
        assert outcome.transactions == 4 and outcome.carried == 4
        assert made.old("select name from customer where id <= 3 order by id") == [
            ("after the slow one",),
            ("quick again",),
            ("slow too",),
        ]
        slow.close()
        # What is in the spool has left the database, and a spool without its note of the place is read to its end.
        assert made.new("select count(*) from safepoint_capture.changes") == [(0,)]
        made.spool.with_name("spool.pos").unlink()
        assert durable_position(made.spool, read_header(made.spool)[1]).transactions == 4
        assert made.carry().already


def test_a_trigger_of_the_application_that_changes_other_rows_of_the_same_statement_is_followed(
    any_database: Target, tmp_path: Path
) -> None:
    before = """
    create table node (id int primary key, place int, touched int not null default 0);
    insert into node select n, n from generate_series(1, 6) n;
    """
    migration = """
    create function shift() returns trigger language plpgsql as $$ begin
        if pg_trigger_depth() < 3 then
            update node set touched = touched + 1, place = place + 10 where id <> new.id and id % 2 = new.id % 2;
        end if;
        return null; end $$;
    create trigger a_first after update on node for each row when (pg_trigger_depth() < 2) execute function shift();
    """
    with ground(any_database, tmp_path, before, migration, how="triggers") as made:
        made.write("update node set place = place + 1", "update node set place = -place where id in (1, 3)")
        made.write("insert into node values (7, 7)", "update node set place = 0 where id in (5, 7)")
        late = made.new("select count(*) from safepoint_capture.changes where late is not null")
        assert late[0][0] > 0
        made.carry()
        query = "select id, place, touched from node order by id"
        assert made.old(query) == made.new(query)


def test_a_drain_that_is_cut_short_counts_for_nothing_and_the_next_one_takes_everything_once(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, "select 1", how="triggers") as made:
        made.write("update customer set name = 'first'")
        made.drain()
        for number in range(3):
            made.write(f"insert into customer (name) select 'n{number}-' || n from generate_series(1, 3000) n")
        looks = iter([False, False, True])
        cut = drain(database, made.facts, made.spool, cancelled=lambda: next(looks, True))
        assert not cut.complete
        assert durable_position(made.spool, read_header(made.spool)[1]).transactions == 1
        assert len(changes(made)) == 5  # the half-written one does not count
        made.drain()
        assert len(changes(made)) == 5 + 9000
        assert made.carry().carried == 4
        assert made.old("select count(*) from customer") == [(9005,)]


def test_where_there_can_be_no_triggers_either_the_launch_goes_on_and_says_so(database: Target) -> None:
    with connect(database) as connection:
        connection.execute("drop extension plpgsql")
    facts = arm(database, LAUNCH, "triggers")
    assert facts.mode == "none" and "no plpgsql" in (facts.reason or "")


def test_triggers_that_someone_took_away_are_an_alarm_and_those_of_others_are_left_alone(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, "select 1", how="triggers") as made:
        again = arm(database, LAUNCH, "triggers")  # after a kill
        assert again.mode == "triggers" and again.reason == "the plan file says so"
        with pytest.raises(Refused, match="did not make for this launch"):
            arm(database, "another", "triggers")
        with connect(database) as connection:
            connection.execute("drop schema safepoint_capture cascade")
        with pytest.raises(CaptureLost, match="dropped"):
            drain(database, made.facts, made.spool)
    assert [choose(how, why) for how in ("auto", "logical", "triggers") for why in (None, "replica")] == [
        "logical",
        "triggers",
        "logical",
        "none",
        "triggers",
        "triggers",
    ]
