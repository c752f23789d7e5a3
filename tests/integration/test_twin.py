"""The twin and the swap: the quick way back, at any kill, with an application that does not keep still."""

from __future__ import annotations

import dataclasses
import gc
import json
import time
import warnings
from collections.abc import Iterator

import psycopg
import pytest
from books import Books, Hammer, books, count, killed_after
from postgres_servers import drop_database, fresh_database
from psycopg import sql
from twin_ground import LAUNCH, drop_others, pair, twin_of

from safepoint.errors import DatabaseError, Interrupted, Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.fence.fence import close, reopen, standing, survey_fence
from safepoint.wayback.fence.quiet import NEXT_XID, drop_quiet_slot, mark_quiet, prove_quiet, safe_point
from safepoint.wayback.names import half_made_limit, kept_name, read_mark, twin_name
from safepoint.wayback.twin import comparison
from safepoint.wayback.twin.swap import swap, unswap
from safepoint.wayback.twin.twin import TwinFacts, drop_twin, look_up, make_twin


@pytest.fixture
def site(database: Target) -> Iterator[Books]:
    with books(database) as made:
        try:
            yield made
        finally:
            drop_others(database)


def ask(target: Target, query: str, *values: object) -> list[tuple[object, ...]]:
    with connect(target.on("postgres")) as connection:
        return connection.execute(query, values or None).fetchall()  # type: ignore[call-overload]


def entries(target: Target) -> list[tuple[object, ...]]:
    with connect(target) as connection:
        return connection.execute("select * from ledger_entry order by id").fetchall()


def test_a_database_whose_collations_the_system_has_in_a_newer_version_is_copied(server: Server) -> None:
    """As it is after an upgrade of the system; PostgreSQL warns at each login, and copies none of itself."""
    database = fresh_database(server)
    drop_database(database)
    with connect(database.on("postgres")) as connection:
        words = "template template0 locale_provider builtin builtin_locale 'C.UTF-8' locale 'C'"
        connection.execute(f"create database {database.dbname} {words}".encode())
        change = "update pg_database set datcollversion = '0.9' where datname = %s"
        connection.execute(change, [database.dbname])
    try:
        with books(database) as made:
            facts = twin_of(made)
            assert ask(database, "select datcollversion from pg_database where datname = %s", facts.twin) == [("0.9",)]
    finally:
        drop_others(database)
        drop_database(database)


def test_the_twin_has_the_databases_settings_and_grants_but_not_the_fence(site: Books) -> None:
    target, role = site.target, site.role
    reader = f"{role}_reader"
    with connect(target) as connection:
        live = sql.Identifier(target.dbname)
        connection.execute(f"create role {reader}")
        for statement in (
            "alter database {} set search_path = 'public', 'a \"strange, name'",
            "alter database {} set my.setting = 'it''s'",
            f"alter role {role} in database {{}} set work_mem = '7MB'",
            f"alter role {role} in database {{}} set default_transaction_read_only = off",
            "alter database {} connection limit 40",
            "comment on database {} is 'Our books'",
            "revoke all on database {} from public",
            f"grant connect on database {{}} to {reader} with grant option",
            f"set role {reader}; grant connect on database {{}} to {role}; reset role",
        ):
            connection.execute(sql.SQL(statement).format(live))  # type: ignore[arg-type]
    query = """
        select datacl::text, pg_get_userbyid(datdba), datconnlimit,
               (select array_agg(setrole::regrole::text || setconfig::text order by setrole::regrole::text)
                from pg_db_role_setting where setdatabase = d.oid)
        from pg_database d where datname = %s"""
    before = ask(target, query, target.dbname)
    prior = survey_fence(target, [role])
    close(target, prior)
    facts = twin_of(site, prior=prior)
    reopen(target, prior)
    try:
        assert facts.notes == ()
        assert [sorted_acl(row) for row in ask(target, query, facts.twin)] == [sorted_acl(row) for row in before]
        assert ask(target, query, target.dbname) == before
        with pytest.raises(DatabaseError, match="not currently accepting connections"):
            connect(target.on(facts.twin))
        with connect(target.on("postgres")) as connection:
            found = look_up(connection, facts.twin)
        assert found is not None and found.comment is not None
        assert found.comment.splitlines() == [f"made by Safepoint for launch {LAUNCH}: twin @ {facts.at}", "Our books"]
    finally:
        drop_others(target)
        with connect(target) as connection:
            connection.execute(
                sql.SQL("revoke connect on database {} from {} cascade").format(live, sql.Identifier(reader))
            )
            connection.execute(f"drop role {reader}")


def sorted_acl(row: tuple[object, ...]) -> tuple[object, ...]:
    return (sorted(str(row[0]).strip("{}").split(",")), *row[1:])


def test_the_twin_is_made_while_the_application_reconnects_all_the_time(site: Books) -> None:
    # The hardest case: the conductor's own role, which no hold can keep from logging in.
    prior = survey_fence(site.target, [site.target.user])
    with Hammer(site.target) as hammer:
        close(site.target, prior)
        facts = twin_of(site, prior=prior)
        assert hammer.wrote > 0
        reopen(site.target, prior)
    assert facts.tables == 7 and facts.sequences == 5 and facts.seconds < 5


def test_a_finished_twin_of_this_safe_point_is_found_again_and_an_older_one_replaced(site: Books) -> None:
    first = twin_of(site)
    again = make_twin(site.target, first.twin, LAUNCH, at=first.at)
    assert (again.twin_oid, again.copy_seconds) == (first.twin_oid, 0)
    with connect(site.target) as connection:
        connection.execute("insert into ledger_entry (memo, author_id) values ('later', 1)")
    newer = twin_of(site)
    assert newer.twin_oid != first.twin_oid
    swap(pair(site.target, newer), newer)
    assert count(site.target) == 2


def test_a_database_of_someone_else_with_the_twins_name_is_never_touched(site: Books) -> None:
    name = twin_name(site.target.dbname, LAUNCH)
    with connect(site.target.on("postgres")) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("comment on database {} is 'made by hand'").format(sql.Identifier(name)))
    for act in (
        lambda: twin_of(site),
        lambda: drop_twin(site.target, name, LAUNCH),
    ):
        with pytest.raises(Refused):
            act()
    assert ask(site.target, "select 1 from pg_database where datname = %s", name)


def test_a_half_made_twin_is_known_by_its_limit_and_made_again(site: Books) -> None:
    name = twin_name(site.target.dbname, LAUNCH)
    with connect(site.target.on("postgres")) as connection:
        connection.execute(
            sql.SQL("create database {} allow_connections false connection limit {}").format(
                sql.Identifier(name), sql.Literal(half_made_limit(LAUNCH))
            )
        )
    facts = twin_of(site)
    swap(pair(site.target, facts), facts)
    assert count(site.target) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.08, 0.15])
def test_a_twin_whose_making_was_killed_is_made_all_the_same(site: Books, seconds: float) -> None:
    at, name = safe_point(site.target), twin_name(site.target.dbname, LAUNCH)
    code = (
        "from safepoint.wayback.twin.twin import make_twin\nprint('begins', flush=True)\n"
        f"make_twin(target, {name!r}, {LAUNCH!r}, at={at!r})\n"
    )
    killed_after(seconds, code, site.target)
    facts = make_twin(site.target, name, LAUNCH, at=at)
    assert facts.tables == 7
    before = entries(site.target)
    killed_after(seconds, swap_code(facts), site.target)
    swap(pair(site.target, facts), facts)
    assert entries(site.target) == before
    assert ask(site.target, "select datname from pg_database where oid = %s", facts.twin_oid) == [(site.target.dbname,)]


def swap_code(facts: TwinFacts) -> str:
    return (
        "import json\nfrom safepoint.wayback.twin.pair import Pair\nfrom safepoint.wayback.twin.swap import swap\n"
        "from safepoint.wayback.twin.twin import TwinFacts\n"
        f"facts = TwinFacts.from_json(json.loads({json.dumps(facts.as_json())!r}))\n"
        "print('begins', flush=True)\nswap(target, facts)\n"
    )


def test_a_copy_can_be_stopped_and_leaves_nothing(site: Books) -> None:
    # A replication connection holds the copy back for some seconds.
    words = {**site.target.conninfo(), "replication": "database"}
    ordered = time.monotonic() + 0.5
    with psycopg.connect(**words, autocommit=True), pytest.raises(Interrupted):
        twin_of(site, cancelled=lambda: time.monotonic() > ordered)
    assert not ask(site.target, "select 1 from pg_database where datname = %s", twin_name(site.target.dbname, LAUNCH))


@pytest.mark.filterwarnings("error")  # what a generator raises when it is thrown away is a warning
def test_a_server_that_goes_while_the_copy_is_compared_is_an_error_and_no_traceback(
    site: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(ours: Iterator[object], theirs: Iterator[object]) -> Iterator[tuple[object, object]]:
        yield next(ours), next(theirs)
        ask(
            site.target.on("postgres"),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'safepoint twin' "
            "AND datname <> 'postgres'",
        )
        yield next(ours), next(theirs)

    with warnings.catch_warnings():  # what other tests left is none of this one's
        warnings.simplefilter("ignore")
        gc.collect()
    monkeypatch.setattr(comparison, "zip_longest", gone)
    with pytest.raises(DatabaseError, match="went away"):
        twin_of(site)
    gc.collect()


def test_a_prepared_transaction_is_refused_with_its_name(site: Books) -> None:
    with connect(site.target) as connection:
        connection.execute("begin; insert into rate values (now(), 1); prepare transaction 'in the way'")
        try:
            with pytest.raises(Refused, match="prepared transaction") as refusal:
                twin_of(site)
            assert "in the way" in str(refusal.value)
        finally:
            connection.execute("rollback prepared 'in the way'")


def test_the_swap_brings_the_old_state_back_and_keeps_the_migrated_one(any_database: Target) -> None:
    with books(any_database) as site:
        with connect(site.target) as connection:
            connection.execute(
                sql.SQL("comment on database {} is 'Our books'").format(sql.Identifier(site.target.dbname))
            )
        before = entries(site.target)
        prior = survey_fence(site.target, [site.role])
        close(site.target, prior)
        mark = mark_quiet(site.target, LAUNCH)
        facts = TwinFacts.from_json(twin_of(site, prior=prior).as_json())
        assert prove_quiet(site.target, mark).verdict == "pass"
        drop_quiet_slot(site.target, LAUNCH)
        with connect(site.target) as connection:
            connection.execute("alter table ledger_entry drop column memo")
        reopen(site.target, prior)
        kept = kept_name(site.target.dbname, LAUNCH)
        with Hammer(site.application):
            done = swap(pair(site.target, facts), facts)
            again = swap(pair(site.target, facts), facts)
        assert not done.already and done.seconds < 2
        assert again.already and dataclasses.replace(again, seconds=done.seconds, already=False) == done
        assert entries(site.target)[: len(before)] == before
        with connect(site.application) as connection:
            connection.execute("insert into ledger_entry (memo, author_id) values ('on the old release', 1)")
        with connect(site.target.on(kept)) as connection:
            assert connection.execute("select count(*) from ledger_entry").fetchone() == (1,)
            comments = [look_up(connection, name).comment or "" for name in (site.target.dbname, kept)]  # type: ignore[union-attr]
        assert [comment.splitlines()[1] for comment in comments] == ["Our books", "Our books"]
        marks = [read_mark(comment) for comment in comments]
        assert [mark and mark.made for mark in marks] == [True, False]
        assert not standing(site.target, prior).holds
        drop_others(site.target)


def test_neither_the_live_nor_the_migrated_database_can_be_removed(site: Books) -> None:
    facts = twin_of(site)
    done = swap(pair(site.target, facts), facts)
    for name in (done.live, done.kept_as):
        with pytest.raises(Refused, match="may remove"):
            drop_twin(site.target, name, LAUNCH)
    with pytest.raises(Refused, match="may remove"):
        drop_twin(site.target, "postgres", LAUNCH)
    assert not drop_twin(site.target, facts.twin, LAUNCH)


def test_unswap_returns_to_the_migrated_database_and_sets_the_twin_aside(site: Books) -> None:
    facts = twin_of(site)
    with connect(site.target) as connection:
        connection.execute("create table new_in_two (id int)")
        comment = connection.execute(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = current_database()"
        )
        before = comment.fetchone()
    swap(pair(site.target, facts), facts)
    back = unswap(pair(site.target, facts), facts)
    assert not back.already and unswap(pair(site.target, facts), facts).already
    assert count(site.target, "new_in_two") == 0
    assert ask(
        site.target,
        "select shobj_description(oid, 'pg_database') from pg_database where datname = %s",
        site.target.dbname,
    ) == [before]
    assert drop_twin(site.target, facts.twin, LAUNCH)


def test_a_swap_onto_a_name_that_is_taken_changes_nothing(site: Books) -> None:
    facts = twin_of(site)
    with pytest.raises(Refused, match="already a database postgres"):
        swap(pair(site.target, facts), facts, "postgres")
    assert count(site.target) == 1


def test_a_swap_of_databases_that_someone_renamed_changes_nothing(site: Books) -> None:
    facts = twin_of(site)
    with connect(site.target.on("postgres")) as connection:
        connection.execute(
            sql.SQL("alter database {} rename to {}").format(
                sql.Identifier(facts.twin), sql.Identifier(facts.live + "_moved")
            )
        )
    with pytest.raises(Refused, match="not where the launch left them") as refusal:
        swap(pair(site.target, facts), facts)
    assert "_moved" in str(refusal.value)


def test_a_twin_that_no_longer_says_what_it_is_is_not_swapped_in_and_what_can_be_done_is_told(site: Books) -> None:
    facts = twin_of(site)
    with connect(site.target.on("postgres")) as connection:
        connection.execute(sql.SQL("comment on database {} is 'mine'").format(sql.Identifier(facts.twin)))
    with pytest.raises(Refused, match="not a finished twin") as refusal:
        swap(pair(site.target, facts), facts)
    remedy = str(refusal.value.remedy)
    assert remedy.startswith("Nothing was changed")
    assert "`safepoint return`" in remedy
    assert "`safepoint backups`" in remedy and "`safepoint restore ID --into NAME`" in remedy
    assert count(site.target) == 1


def test_a_twin_of_fifty_megabytes_is_made_and_swapped_within_the_window(site: Books) -> None:
    with connect(site.application) as connection:
        connection.execute(
            "insert into ledger_entry (memo, author_id) select repeat('x', 150), 1 from generate_series(1, 250000)"
        )
    facts = twin_of(site)
    assert facts.size_bytes > 45_000_000 and facts.seconds < 10
    assert swap(pair(site.target, facts), facts).seconds < 2
    assert count(site.target) == 250_001


def test_a_copy_says_how_many_transaction_ids_it_used(site: Books) -> None:
    """Without a slot quiet is proven by that number: each setting and each grant of the database has one."""
    name = site.target.dbname
    ask_each(site.target, f"alter database {name} set work_mem = '8MB'", f"alter database {name} set app.tenant = '7'")
    ask_each(site.target, f"grant connect, create on database {name} to {site.role} with grant option")
    before = ask(site.target, NEXT_XID)[0][0]
    facts = twin_of(site)
    assert facts.transactions == int(str(ask(site.target, NEXT_XID)[0][0])) - int(str(before)) > 3


def ask_each(target: Target, *statements: str) -> None:
    with connect(target.on("postgres")) as connection:
        for statement in statements:
            connection.execute(statement.encode())
