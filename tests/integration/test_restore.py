"""Restoring on the user's own server: equal or not at all, and nothing that was there is changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from awkward import snap
from plan_file import PASSWORD_ENV, plan_file
from postgres_servers import FOLDER
from psycopg import sql

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest, write_manifest
from safepoint.backup.placement import place
from safepoint.backup.prints import TablePrint
from safepoint.backup.proof import prove
from safepoint.backup.snapshot import take_snapshot
from safepoint.backup.unfinished import hold
from safepoint.config import PlanFile
from safepoint.errors import DatabaseError, Interrupted, ProofFailed, Refused
from safepoint.hosts.here import Here
from safepoint.launch.ledger import Ledger
from safepoint.launch.restoring import restore_into, restore_over
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.progress import Progress

SHOP = '''
    create schema sales; create schema "Odd ""one""";
    create type mood as enum ('good', 'bad');
    create table account (id int primary key generated always as identity, name text, mood mood);
    insert into account (name, mood) select 'a' || n, 'good' from generate_series(1, 300) n;
    create table sales.entry (id int primary key, account int references account, amount numeric default 1);
    insert into sales.entry select n, n, n * 1.10 from generate_series(1, 300) n;
    create table sales.line (id int primary key, entry int references sales.entry, d date) ;
    insert into sales.line select n, n, date '2026-01-01' + n from generate_series(1, 300) n;
    create table sales.log (id int, at date) partition by range (at);
    create table sales.log_2026 partition of sales.log for values from ('2026-01-01') to ('2027-01-01');
    insert into sales.log select n, '2026-02-03' from generate_series(1, 50) n;
    create table "Odd ""one"""."the table" (x int); insert into "Odd ""one"""."the table" values (1), (2);
    create view sales.totals as select account, sum(amount) from sales.entry group by account;
    create materialized view sales.kept as select count(*) from sales.entry;
    create index on sales.entry (amount);
    select lo_from_bytea(4711, 'a large object');
    grant select on account to shop_reader;
    grant usage on schema sales to shop_owner;
    alter table sales.entry owner to shop_owner;
    create publication shop_events for table account;
    comment on publication shop_events is 'made by the shop';
    create function watched() returns event_trigger language plpgsql as 'begin end';
    create event trigger shop_watch on ddl_command_end execute function watched();
    comment on event trigger shop_watch is 'it watches';
    comment on large object 4711 is 'a picture';
    grant select on large object 4711 to shop_reader;
'''
PROPERTIES = (
    "alter database {db} set work_mem to '9MB'",
    "alter role shop_reader in database {db} set statement_timeout to '7s'",
    "grant connect on database {db} to shop_reader",
    "alter database {db} connection limit 50",
    "comment on database {db} is 'it''s the shop'",
)


def run(target: Target, *statements: str) -> None:
    with connect(target) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def ask(target: Target, query: str) -> list[tuple[object, ...]]:
    with connect(target) as connection:
        return connection.execute(query).fetchall()  # type: ignore[call-overload, no-any-return]


def names(target: Target) -> set[str]:
    return {str(row[0]) for row in ask(target.on("postgres"), "select datname from pg_database")}


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "only-for-tests")


@pytest.fixture(scope="module")
def shop(servers: Callable[[int], Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, Path]]:
    """A shop's database, and a snapshot of it."""
    server = servers(17)
    run(server.target, "create role shop_owner", "create role shop_reader login", "create database shop")
    target = server.target.on("shop")
    folder = tmp_path_factory.mktemp("shop")
    try:
        run(target, SHOP, *(line.format(db="shop") for line in PROPERTIES))
        take_snapshot(
            target,
            Here("here", folder),
            installation=server.installation,
            folder=folder,
            snapshot_id="shop-1",
            launch_id=None,
        )
        yield target, folder / "shop-1"
    finally:
        for name in names(target):
            if name.startswith("shop"):
                run(target.on("postgres"), f'drop database "{name}" with (force)')
        run(server.target, "drop role shop_owner", "drop role shop_reader")


@pytest.fixture
def plan(shop: tuple[Target, Path], tmp_path: Path) -> Iterator[PlanFile]:
    yield plan_file(tmp_path, shop[0])
    for name in names(shop[0]) - {"shop"}:
        if name.startswith("shop"):
            run(shop[0].on("postgres"), f'drop database "{name}" with (force)')


def test_a_new_database_equals_the_snapshot_with_its_settings_grants_and_comment(
    shop: tuple[Target, Path], plan: PlanFile
) -> None:
    target, folder = shop
    told = []
    placed = restore_into(plan, folder, "shop_copy", report=told.append)
    assert (placed.database, placed.rows, placed.tables, placed.notes) == ("shop_copy", 952, 5, ())
    assert compare(read_manifest(folder).fingerprint, take(target.on("shop_copy"))) == ()
    ((comment, limit),) = ask(
        target,
        "select shobj_description(oid, 'pg_database'), datconnlimit from pg_database where datname = 'shop_copy'",
    )
    assert str(comment).startswith("made by Safepoint: restored from shop-1") and str(comment).endswith("it's the shop")
    assert limit == 50
    assert {progress.what for progress in told} >= {"verify files", "restore", "fingerprint"}
    json.dumps(placed.as_json())


def test_what_is_there_already_is_not_touched(shop: tuple[Target, Path], plan: PlanFile) -> None:
    target, folder = shop
    run(target.on("postgres"), "create database shop_other")
    with pytest.raises(Refused, match="already"):
        restore_into(plan, folder, "shop_other")
    with pytest.raises(Refused, match="already"):
        restore_into(plan, folder, "shop")
    tables = "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
    assert ask(target.on("shop_other"), tables) == [(0,)]


def test_a_damaged_snapshot_is_refused_before_the_server_is_asked(
    shop: tuple[Target, Path], plan: PlanFile, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(shop[1], tmp_path / "copy"))
    (copy / "globals.sql").write_text("CREATE ROLE intruder SUPERUSER;")
    before = names(shop[0])
    with pytest.raises(ProofFailed, match=r"globals\.sql"):
        restore_into(plan, copy, "shop_copy")
    assert names(shop[0]) == before
    assert ask(shop[0], "select from pg_roles where rolname = 'intruder'") == []


def test_an_order_to_stop_leaves_nothing(shop: tuple[Target, Path], plan: PlanFile) -> None:
    told: list[str] = []
    with pytest.raises(Interrupted):
        restore_into(
            plan, shop[1], "shop_copy", report=lambda p: told.append(p.what), cancelled=lambda: "restore" in told
        )
    assert "shop_copy" not in names(shop[0])


@pytest.mark.parametrize("how", ["an order", "Ctrl-C", "a lost connection"])
def test_what_ends_the_comparison_of_a_restore_leaves_nothing(
    shop: tuple[Target, Path], plan: PlanFile, how: str
) -> None:
    """It is the last step, and as long as the others: the whole database would stay, and its roles."""
    told: list[str] = []
    strike = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'shop_copy'"

    def report(progress: Progress) -> None:
        told.append(progress.what)
        if progress.what.startswith("fingerprint"):
            if how == "Ctrl-C":
                raise KeyboardInterrupt
            if how == "a lost connection":
                ask(shop[0], strike)

    errors = {"an order": Interrupted, "Ctrl-C": KeyboardInterrupt, "a lost connection": DatabaseError}
    with pytest.raises(errors[how]) as caught:
        restore_into(
            plan,
            shop[1],
            "shop_copy",
            report=report,
            cancelled=lambda: how == "an order" and any(what.startswith("fingerprint") for what in told),
        )
    assert "shop_copy" not in names(shop[0])
    if isinstance(caught.value, DatabaseError):
        assert "removed again" in str(caught.value.found)


def test_what_a_killed_restore_over_the_live_one_left_goes_with_the_next_and_one_that_is_made_now_stays(
    shop: tuple[Target, Path], plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name bears the moment, so the next restore over the live one takes another name."""
    monkeypatch.setattr("safepoint.backup.unfinished._LETTING_GO", 0.5)
    target, folder = shop
    left, used, made, chosen = (f"shop_restored_20260101t00000{number}" for number in range(4))
    for name in (left, used, made, chosen):
        run(
            target.on("postgres"),
            f"create database {name}",
            f"comment on database {name} is 'made by Safepoint: unfinished restore of shop-1'",
        )
    run(target.on("postgres"), f"comment on database {chosen} is 'made by Safepoint: restored from shop-1 at noon'")
    run(target.on("postgres"), "create database shop_mine")
    run(target.on("postgres"), "comment on database shop_mine is 'made by Safepoint: unfinished restore of shop-1'")
    kept = {used, made, chosen, "shop_mine"}
    with connect(target.on(used)), connect(target.on("postgres")) as maker:
        assert hold(maker, made)
        with pytest.raises(Refused, match="by another process"):
            restore_into(plan, folder, made)
        done = restore_over(plan, folder)
    for statement in done.undo:
        run(target.on("postgres"), "select pg_terminate_backend(pid) from pg_stat_activity where datname like 'shop%'")
        run(target.on("postgres"), statement)
    assert names(target) & {left, *kept} == kept
    assert any(left in note and "is gone" in note for note in done.placed.notes)


def test_one_that_a_killed_restore_left_is_made_anew(shop: tuple[Target, Path], plan: PlanFile) -> None:
    target, folder = shop
    run(
        target.on("postgres"),
        "create database shop_copy",
        "comment on database shop_copy is 'made by Safepoint: unfinished restore of shop-1'",
    )
    run(target.on("shop_copy"), "create table half (x int)")
    assert restore_into(plan, folder, "shop_copy").rows == 952


def test_roles_that_are_missing_are_made_and_others_stay_as_they_are(
    servers: Callable[[int], Server], shop: tuple[Target, Path]
) -> None:
    other = servers(18).target
    run(other, "create role shop_reader nologin")
    try:
        placed = place(shop[1], other, "shop_copy")
        assert placed.roles_made == ("shop_owner",)
        assert any("shop_reader" in note for note in placed.notes)
        assert ask(other, "select rolcanlogin from pg_roles where rolname = 'shop_reader'") == [(False,)]
    finally:
        run(other, "drop database if exists shop_copy with (force)", "drop role shop_reader", "drop role shop_owner")


def test_a_login_that_has_access_as_a_member_only_is_made_with_its_membership(
    servers: Callable[[int], Server], server: Server, tmp_path: Path
) -> None:
    run(server.target, "create role till_rw", "create role till_app login in role till_rw", "create database till")
    other = servers(18).target
    try:
        run(server.target.on("till"), "create table t as select 1 as x", "grant select on t to till_rw")
        here = Here("here", tmp_path)
        programs = server.installation
        take_snapshot(
            server.target.on("till"), here, installation=programs, folder=tmp_path, snapshot_id="s", launch_id=None
        )
        assert place(tmp_path / "s", other, "till").roles_made == ("till_app", "till_rw")
        assert ask(other, "select pg_has_role('till_app', 'till_rw', 'member')") == [(True,)]
        assert ask(other, "select rolcanlogin from pg_roles where rolname = 'till_app'") == [(True,)]
    finally:
        for target in (server.target, other):
            run(target, "drop database if exists till with (force)", "drop role if exists till_rw, till_app")


@pytest.fixture(scope="module")
def bosses(server: Server) -> Iterator[Server]:
    """A server whose first superuser is not called `postgres`."""
    parent = Path(tempfile.mkdtemp(prefix=FOLDER))
    parent.chmod(0o711)
    settings = {"fsync": "off", "shared_buffers": "32MB"}
    try:
        with Server.create(
            parent / "pg", server.installation, superuser="boss", password="only-there", settings=settings
        ) as other:
            yield other
    finally:
        shutil.rmtree(parent, ignore_errors=True)


SUPERUSERS = "select rolname::text, rolcanlogin from pg_roles where rolsuper order by 1"


def test_what_the_first_superuser_owned_comes_to_a_server_whose_own_has_another_name(
    shop: tuple[Target, Path], bosses: Server
) -> None:
    """It is made as the owner it was, and lets nobody in."""
    placed = place(shop[1], bosses.target, "shop_copy")
    assert placed.roles_made == ("postgres", "shop_owner", "shop_reader")
    assert any("made without a login" in note for note in placed.notes)
    copy = bosses.target.on("shop_copy")
    (login,) = compare(read_manifest(shop[1]).fingerprint, take(copy))
    assert (login.kind, login.name) == ("role", "postgres")
    assert ask(copy, SUPERUSERS) == [("boss", True), ("postgres", False)]


def test_a_first_superuser_who_owns_nothing_is_not_made(bosses: Server, server: Server, tmp_path: Path) -> None:
    run(bosses.target, "create role clerk", "create database theirs owner clerk")
    run(bosses.target.on("theirs"), "create table t as select 1 as x", "alter table t owner to clerk")
    take_snapshot(
        bosses.target.on("theirs"),
        Here("here", tmp_path),
        installation=server.installation,
        folder=tmp_path,
        snapshot_id="s",
        launch_id=None,
    )
    before = ask(server.target, SUPERUSERS)
    try:
        placed = place(tmp_path / "s", server.target, "theirs")
        assert placed.roles_made == ("clerk",) and ask(server.target, SUPERUSERS) == before
    finally:
        run(server.target, "drop database if exists theirs with (force)", "drop role if exists clerk")


def test_an_older_server_is_refused(servers: Callable[[int], Server], shop: tuple[Target, Path]) -> None:
    from postgres_servers import has_postgres

    if not has_postgres(15):
        pytest.skip("this machine has no PostgreSQL 15")
    with pytest.raises(Refused, match="older"):
        place(shop[1], servers(15).target, "shop_copy")


ONLY = {
    "account": {"public.account"},
    "sales.entry": {"sales.entry"},
    "sales": {"sales.entry", "sales.line", "sales.log_2026"},
    "sales.log": {"sales.log_2026"},
    'Odd "one"': {'"Odd ""one"""."the table"'},
    "the table": {'"Odd ""one"""."the table"'},
}


@pytest.mark.parametrize("word", ONLY)
def test_a_part_comes_alone_with_its_rows_and_keys(shop: tuple[Target, Path], plan: PlanFile, word: str) -> None:
    target, folder = shop
    placed = restore_into(plan, folder, "shop_part", only=(word,))
    found = take(target.on("shop_part"))
    expected = read_manifest(folder).fingerprint
    assert {name for name, table in found.tables.items() if table.rows} == ONLY[word]
    assert set(found.tables) == ONLY[word]
    assert all(found.tables[name] == expected.tables[name] for name in ONLY[word])
    assert placed.tables == len(ONLY[word])
    keys = [name for name in found.structure.get("constraint", {}) if "fkey" in name]
    assert keys == (["line_entry_fkey on sales.line"] if word == "sales" else [])
    if "entry" in word:
        assert "sales.entry_amount_idx" in found.structure["index"]


VOTES = """
    create schema "POLLS";
    create table "POLLS"."POLL" ("ID" int primary key, what text);
    create table vote (id int primary key, poll int, who text, constraint "one vote on a poll" unique (poll, who));
    alter table vote add constraint "vote on poll" foreign key (poll) references "POLLS"."POLL";
    insert into "POLLS"."POLL" values (1, 'a'), (2, 'b');
    insert into vote values (1, 1, 'x'), (2, 2, 'y');
    create table other as select 1 as a;
    create materialized view counted as select count(*) from vote;
"""


def test_a_part_comes_alone_whatever_its_schema_and_its_constraints_are_called(
    database: Target, server: Server, tmp_path: Path
) -> None:
    run(database, VOTES)
    folder = snap(database, server, tmp_path / "snapshots")
    copy = server.target.on("shop_votes")
    try:
        assert place(folder, server.target, copy.dbname, only=("POLLS", "vote")).rows == 4
        assert ask(copy, "select conname from pg_constraint where conname like '%on%poll' order by 1") == [
            ("one vote on a poll",),
            ("vote on poll",),
        ]
        assert ask(copy, "select to_regclass('other')") == [(None,)]
    finally:
        run(server.target, "drop database if exists shop_votes")


def test_a_table_of_contents_of_any_length_is_read_whole(
    database: Target, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a million large objects have some 20 MB of it on PostgreSQL 15; of a command's answer the end is kept."""
    run(database, VOTES, *(f"create table t{n} as select {n} as a" for n in range(50)))
    folder = snap(database, server, tmp_path / "snapshots")
    copy = server.target.on("shop_votes")
    monkeypatch.setattr("safepoint.hosts.streams.KEEP_BYTES", 1000)
    try:
        assert place(folder, server.target, copy.dbname, only=("POLLS",)).rows == 2
        run(server.target, "drop database shop_votes")
        assert place(folder, server.target, copy.dbname).rows == 55
        assert prove(folder, scratch_parent=tmp_path / "scratch").rows == 55
    finally:
        run(server.target, "drop database if exists shop_votes")


def test_a_part_that_is_not_there_is_refused(shop: tuple[Target, Path], plan: PlanFile) -> None:
    with pytest.raises(Refused, match="nothing_of_it"):
        restore_into(plan, shop[1], "shop_part", only=("nothing_of_it",))
    assert "shop_part" not in names(shop[0])


def test_over_the_live_one_the_names_are_swapped_and_the_former_is_kept(
    shop: tuple[Target, Path], plan: PlanFile
) -> None:
    target, folder = shop
    stop, failures = threading.Event(), []

    def serve() -> None:
        while not stop.is_set():
            try:
                ask(target, "select count(*) from account")
            except (DatabaseError, psycopg.Error) as error:
                failures.append(error)

    run(target, "delete from sales.line", "insert into account (name) values ('written after the snapshot')")
    client = threading.Thread(target=serve)
    client.start()
    try:
        done = restore_over(plan, folder)
    finally:
        stop.set()
        client.join()
    try:
        assert ask(target, "select count(*) from sales.line") == [(300,)]
        assert ask(target, "select count(*) from account") == [(300,)]
        assert ask(target.on(done.kept_as), "select count(*) from account") == [(301,)]
        assert done.seconds_out < 5
        assert ask(target, "show work_mem") == [("9MB",)]
    finally:
        for statement in done.undo:
            with connect(target.on("postgres")) as connection:
                connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname like 'shop%'")
                connection.execute(sql.SQL(statement))  # type: ignore[arg-type]
        run(
            target,
            "delete from account where name like 'written%'",
            "insert into sales.line select n, n, date '2026-01-01' + n from generate_series(1, 300) n",
        )
    assert ask(target, "select count(*) from account") == [(300,)]


def test_one_that_differs_does_not_take_the_live_one_s_place_and_says_what_it_is(
    shop: tuple[Target, Path], plan: PlanFile, tmp_path: Path
) -> None:
    target, folder = shop
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    manifest = read_manifest(copy)
    printed = manifest.fingerprint
    other = replace(printed, tables={**printed.tables, "public.account": TablePrint(300, "0" * 32)})
    write_manifest(copy, replace(manifest, fingerprint=other))
    (live,) = ask(target, "select oid from pg_database where datname = 'shop'")
    with pytest.raises(ProofFailed, match=r"table public\.account: expected 300 rows, content 0000"):
        restore_over(plan, copy)
    assert ask(target, "select oid from pg_database where datname = 'shop'") == [live]
    (beside,) = [name for name in names(target) if "restored" in name]
    ((comment,),) = ask(
        target, f"select shobj_description(oid, 'pg_database') from pg_database where datname = '{beside}'"
    )
    assert "NOT equal" in str(comment)


def test_over_the_live_one_is_refused_while_a_launch_may_go_back(shop: tuple[Target, Path], plan: PlanFile) -> None:
    before = names(shop[0])
    path = plan.state / "launches" / "shop-2.0-20260301" / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.append("run", "run:1", {"run": 1})
    with pytest.raises(Refused, match="under way"):
        restore_over(plan, shop[1])
    path.write_text("damaged\n")
    with pytest.raises(Refused, match="unreadable"):
        restore_over(plan, shop[1])
    assert names(shop[0]) == before


def test_a_snapshot_of_another_database_does_not_take_the_live_one_s_place(
    shop: tuple[Target, Path], plan: PlanFile, tmp_path: Path
) -> None:
    """As one of a store that several applications share."""
    before = names(shop[0])
    folder = Path(shutil.copytree(shop[1], tmp_path / "crm-1"))
    (folder / "proof.json").unlink(missing_ok=True)
    manifest = read_manifest(folder)
    write_manifest(folder, replace(manifest, source=replace(manifest.source, database="crm")))
    with pytest.raises(Refused, match="another database") as caught:
        restore_over(plan, folder)
    assert "crm" in (caught.value.found or "") and "--into" in (caught.value.remedy or "")
    assert names(shop[0]) == before
    assert restore_into(plan, folder, "shop_from_crm").rows > 0


def test_over_the_live_one_is_refused_while_something_holds_it_open(shop: tuple[Target, Path], plan: PlanFile) -> None:
    target, folder = shop
    run(target, "begin; insert into account (name) values ('x'); prepare transaction 'held'")
    try:
        with pytest.raises(Refused, match="hold the live database"):
            restore_over(plan, folder)
    finally:
        run(target, "rollback prepared 'held'")
    assert not [name for name in names(target) if "restored" in name]


@pytest.fixture(scope="module")
def large(server: Server, shop: tuple[Target, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot that takes some seconds to restore."""
    folder = tmp_path_factory.mktemp("large")
    run(shop[0].on("postgres"), "create database shop_large")
    target = shop[0].on("shop_large")
    run(target, "create table big as select n as id, md5(n::text) as x from generate_series(1, 200000) n")
    run(target, *(f"create index on big (x, (id + {number}))" for number in range(5)))
    take_snapshot(
        target,
        Here("here", folder),
        installation=server.installation,
        folder=folder,
        snapshot_id="large",
        launch_id=None,
    )
    return folder / "large"


def test_a_killed_restore_leaves_the_live_one_alone_and_is_made_anew(
    shop: tuple[Target, Path], plan: PlanFile, large: Path
) -> None:
    """What the killed one had started (pg_restore) ends with it, or is sent away: it never writes into the new one."""
    code = (
        "import sys; from pathlib import Path; from safepoint.config import load; "
        "from safepoint.launch.restoring import restore_into; "
        f"restore_into(load(Path({str(plan.path)!r})), Path({str(large)!r}), 'shop_copy')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    loading = "select from pg_stat_activity where datname = 'shop_copy' and query ~ 'COPY|CREATE INDEX'"
    while not ask(shop[0], loading):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = ask(shop[0], "select count(*) from account")
    assert restore_into(plan, large, "shop_copy").rows == 200_000
    time.sleep(0.5)  # time for whatever is left of the first one to do harm
    assert compare(read_manifest(large).fingerprint, take(shop[0].on("shop_copy"))) == ()
    assert ask(shop[0], "select count(*) from account") == before


def test_sessions_that_are_ended_during_a_restore_leave_nothing(
    shop: tuple[Target, Path], plan: PlanFile, large: Path
) -> None:
    strike = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'shop_copy' and query ~ 'COPY'"
    struck = threading.Event()

    def attack() -> None:
        while not struck.wait(0.01):
            if ask(shop[0], strike):
                return

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        with pytest.raises(DatabaseError, match="could not be restored") as caught:
            restore_into(plan, large, "shop_copy")
    finally:
        struck.set()
        attacker.join()
    assert "removed again" in str(caught.value.found)
    assert "shop_copy" not in names(shop[0])
