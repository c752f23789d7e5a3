"""The rehearsal on real databases: what it sees of a migration, what it finds changed, and whether it can be undone."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import django_site
import pytest
from plan_file import plan_file
from psycopg import sql

from safepoint.backup import fingerprint
from safepoint.backup.shelf import store_snapshot
from safepoint.config import PlanFile, Release, load
from safepoint.django.managepy import Manage
from safepoint.django.pending import reverse
from safepoint.errors import Refused
from safepoint.hosts.here import Here
from safepoint.launch.estimates import estimates
from safepoint.launch.rehearsal_release import OnCopy, try_start
from safepoint.launch.rehearsal_undo import furnished_copy
from safepoint.launch.rehearsals import newest_rehearsal
from safepoint.launch.rehearsing import rehearse
from safepoint.launch.snapshots import snapshots_folder
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.progress import never
from safepoint.rehearsal import ground
from safepoint.rehearsal.catalogue import Picture, read_picture
from safepoint.rehearsal.changes import ColumnChange, Side, TableChange, changes, differences
from safepoint.rehearsal.checks import Check, ask_invariants, judge_invariants, sequences_behind, standing_checks
from safepoint.rehearsal.examples import examples
from safepoint.rehearsal.sampling import Sampler
from safepoint.rehearsal.speeds import Io, measure_speeds, read_io
from safepoint.stores import open_store


def run(target: Target, *statements: str) -> None:
    with connect(target) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def picture(target: Target) -> Picture:
    with connect(target) as connection:
        return read_picture(connection)


def rows(target: Target) -> dict[str, tuple[int, str]]:
    return {name: (one.rows, one.content) for name, one in fingerprint.take(target, jobs=1).tables.items()}


def changed(target: Target, copy: Target, *statements: str) -> dict[str, TableChange]:
    """Run statements in a database of which `copy` shows how it was; what the rehearsal says of each table."""
    run(target, *statements)
    with connect(copy) as before, connect(target) as after:
        found = changes(
            Side(before, read_picture(before), rows(copy)),
            Side(after, read_picture(after), rows(target)),
        )
    return {one.before or one.after or "": one for one in found}


def columns(change: TableChange) -> dict[str, ColumnChange]:
    return {column.before or column.after or "": column for column in change.columns}


T = """
    create table t (id serial primary key, name text not null, amount numeric(12,4), short varchar(20), gone text,
                    code char(5), swapped int, untouched int);
    insert into t (name, amount, short, gone, code, swapped, untouched)
    select 'n' || n, n / 3.0, 'short', 'gone' || n, 'c', n, n from generate_series(1, 60) n;
    create table u (id int primary key, x int); insert into u select n, n from generate_series(1, 5) n;
    create table keyless (a int, b int); insert into keyless values (1, 2), (3, 4);
    create table same (id int primary key, x text); insert into same values (1, 'one')
"""


@pytest.fixture
def pair(database: Target, new_database: Callable[[Server], Target], server: Server) -> Iterator[tuple[Target, Target]]:
    """A filled database, and its copy."""
    run(database, T)
    copy = ground.copy_of(database, f"{database.dbname}_before")
    try:
        yield database, copy
    finally:
        ground.drop_copy(copy)


def test_every_kind_of_change_is_told_by_content_and_catalogue(pair: tuple[Target, Target]) -> None:
    found = changed(
        *pair,
        "alter table t rename to renamed",
        "alter table renamed rename name to title",
        "alter table renamed alter amount type numeric(12,1), alter short type varchar(9), add fresh int default 7",
        "alter table renamed add made text, alter code type text",
        "update renamed set made = 'm' || id, untouched = untouched + 1",
        "alter table renamed drop gone",
        "create table brand_new (id int); insert into brand_new values (1)",
        "drop table keyless",
    )
    told = columns(found["public.t"])
    assert {name: column.kind for name, column in told.items()} == {
        "id": "identical",
        "name": "renamed",
        "amount": "narrowed",
        "short": "retyped",
        "gone": "removed",
        "code": "retyped",
        "swapped": "identical",
        "untouched": "re-expressed",
        "fresh": "added",
        "made": "re-expressed",
    }
    assert told["amount"].rows == 40 and told["gone"].rows == 60
    assert told["fresh"].detail == "7 in every row" and "in the place of gone" in told["made"].detail
    assert found["public.t"].kind == "renamed" and found["public.t"].after == "public.renamed"
    kinds = {name: change.kind for name, change in found.items()}
    assert kinds["public.brand_new"] == "added" and kinds["public.keyless"] == "removed"
    assert kinds["public.same"] == kinds["public.u"] == "identical"


def test_values_that_two_rows_swapped_are_seen_where_there_is_a_key(pair: tuple[Target, Target]) -> None:
    found = changed(*pair, "update t set swapped = 3 - swapped where id in (1, 2)")
    assert {name for name, one in columns(found["public.t"]).items() if one.kind != "identical"} == {"swapped"}


def test_rows_that_came_and_went_do_not_make_their_columns_changed(pair: tuple[Target, Target]) -> None:
    found = changed(*pair, "insert into u values (6, 6)", "delete from u where id <= 2", "update same set x = 'two'")
    change = found["public.u"]
    assert (change.added, change.removed) == (1, 2)
    assert {column.kind for column in change.columns} == {"identical"}
    assert columns(found["public.same"])["x"].kind == "re-expressed"


def test_a_column_dropped_and_made_again_with_its_values_is_moved_and_without_a_key_it_is_said(
    pair: tuple[Target, Target],
) -> None:
    found = changed(
        *pair,
        "alter table t add elsewhere text",
        "update t set elsewhere = gone",
        "alter table t drop gone",
        "update keyless set a = a + 1",
    )
    told = columns(found["public.t"])
    assert told["gone"].kind == "moved" and told["gone"].after == "elsewhere"
    assert not found["public.keyless"].keyed and found["public.t"].keyed
    kinds = {name: one.kind for name, one in columns(found["public.keyless"]).items()}
    assert kinds == {"a": "re-expressed", "b": "identical"}


def test_new_columns_beside_untouched_ones_and_another_order_of_columns_change_nothing_else(
    pair: tuple[Target, Target],
) -> None:
    target, copy = pair
    found = changed(target, copy, "alter table u add made int", "update u set made = id * 2")
    assert {name: one.kind for name, one in columns(found["public.u"]).items()} == {
        "id": "identical",
        "x": "identical",
        "made": "filled",
    }
    run(target, "alter table u drop made, add y int", "update u set y = x", "alter table u drop x")
    run(target, "alter table u add x int", "update u set x = y", "alter table u drop y")
    run(target, "alter table same rename x to z", "alter table same add x text", "update same set x = z || '!'")
    run(target, "alter table same drop z")
    with connect(copy) as before, connect(target) as after:
        told = differences(Side(before, picture(copy), rows(copy)), Side(after, picture(target), rows(target)))
    by_table = {one.before: one for one in told}
    assert {one.kind for one in by_table["public.u"].columns} == {"identical"}
    assert {one.before: one.kind for one in by_table["public.same"].columns} == {"id": "identical", "x": "re-expressed"}


def test_rows_that_differ_are_shown_by_their_keys_without_secrets_wherever_in_the_table_they_are(
    pair: tuple[Target, Target],
) -> None:
    target, copy = pair
    table = "create table big (id int, part text, note text, api_token text, phone text, primary key (part, id))"
    rows_ = "insert into big select n, 'p' || n % 2, 'n' || n, 'token' || n, null from generate_series(1, 9000) n"
    for one in pair:
        run(one, table, rows_, "create table gone (id int primary key); insert into gone values (1), (2)")
    run(copy, "update big set phone = '+49 30 ' || id where id in (8000, 9000)")
    run(target, "update big set api_token = 'other', note = 'x' where id = 8888", "alter table big drop phone")
    run(
        target, "drop table gone", "update keyless set a = 9", "delete from u where id = 4; insert into u values (7, 7)"
    )
    run(target, "update t set name = repeat('long ', 40) where id = 60")
    with connect(copy) as before, connect(target) as after:
        sides = Side(before, picture(copy), rows(copy)), Side(after, picture(target), rows(target))
        found = {change.before: examples(*sides, change) for change in differences(*sides)}
        # The column that is gone put aside, only one row of 9,000 differs, far from the beginning.
        run(copy, "update big set phone = null")
        (change,) = [one for one in differences(*sides) if one.before == "public.big"]
        (deep,) = examples(*sides, change)
    assert [(one.key, str(one.values[0].before)) for one in found["public.big"]] == [
        ("part=p0, id=8000", "+49 30 8000"),
        ("part=p0, id=9000", "+49 30 9000"),
    ]
    assert deep.key == "part=p0, id=8888"
    shown = {value.column: (value.before, value.after) for value in deep.values}
    assert shown == {"note": ("n8888", "x"), "api_token": ("***", "***")}
    assert {(one.key, one.fate) for one in found["public.u"]} == {("id=4", "is gone"), ("id=7", "stayed behind")}
    assert [one.key for one in found["public.gone"]] == ["id=1", "id=2"]
    assert [str(one) for one in found["public.keyless"]] == [
        "no row is shown: they have no key by which they could be named"
    ]
    (long,) = found["public.t"]
    assert long.values[0].after.endswith("…") and len(long.values[0].after) == 60


def test_what_always_must_hold_is_looked_at(pair: tuple[Target, Target], database: Target) -> None:
    target, copy = pair
    role = f"reader_{target.dbname}"
    run(target, f"create role {role}")
    try:
        for one in pair:
            run(one, f"grant select on all tables in schema public to {role}")
        before = picture(copy)
        run(
            target,
            f"revoke select on u from {role}",
            "insert into t (id, name) values (999, 'beyond the sequence')",
            "alter table u add constraint positive check (x > 0) not valid",
            "create index broken on u (x)",
            "update pg_index set indisvalid = false where indexrelid = 'broken'::regclass",
            "create table lonely (id int)",
        )
        with connect(target) as connection:
            behind = sequences_behind(connection)
        checks = {check.name: check for check in standing_checks(before, picture(target), behind)}
        assert {name: check.verdict for name, check in checks.items()} == {
            "indexes": "fail",
            "foreign keys and checks": "fail",
            "sequences": "fail",
            "grants": "fail",
            "grants on new tables": "warning",
        }
        assert checks["grants"].found == (f"SELECT on public.u of {role}",)
        assert "999" in checks["sequences"].summary and "lonely" in checks["grants on new tables"].summary
    finally:
        for one in pair:
            run(one, f"drop owned by {role}")
        run(target, f"drop role {role}")


def test_invariants_are_asked_without_the_right_to_write(pair: tuple[Target, Target]) -> None:
    target, copy = pair
    queries = {"rows": "select count(*) from t;", "list": "select id, x from u", "writes": "delete from u returning id"}
    run(target, "update u set x = 0 where id = 3")
    with connect(copy) as before, connect(target) as after:
        checks = judge_invariants(ask_invariants(before, queries), ask_invariants(after, queries))
    verdicts = {check.name: check.verdict for check in checks}
    assert verdicts == {"rows": "pass", "list": "fail", "writes": "fail"}
    assert "read-only" in checks[2].summary
    with connect(target) as connection:
        assert connection.execute("select count(*) from u").fetchone() == (5,)


def test_locks_and_statements_of_another_session_are_seen_while_they_last(database: Target) -> None:
    run(database, "create table t (id int)")
    with connect(database) as connection:
        oid = (connection.execute("select 't'::regclass::oid::int8").fetchone() or (0,))[0]

    def work() -> None:
        with connect(database, autocommit=False) as connection:
            connection.execute("lock table t in access exclusive mode")
            connection.execute("select pg_sleep(0.4), 'a secret'")
            connection.execute("set work_mem = '64kB'")
            connection.execute("insert into t select n from generate_series(1, 400000) n order by random()")

    with Sampler(database) as sampler:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        time.sleep(0.1)
    seen = sampler.sampled()
    assert seen.fault is None
    held = [span for span in seen.locks if span.table == oid]
    assert held and held[0].mode == "AccessExclusiveLock" and 0.25 < held[0].seconds < 6.0
    slept = [one for one in seen.statements if "pg_sleep" in one.text]
    assert slept and slept[0].seconds > 0.2 and "secret" not in slept[0].text
    # The log and the temporary files are told of the statement that wrote them, and of no other one.
    (inserted,) = [one for one in seen.statements if "insert into t" in one.text]
    assert inserted.wal_bytes > 10_000_000 and inserted.temporary_bytes > 1_000_000
    assert slept[0].wal_bytes < 1_000_000 and slept[0].temporary_bytes == 0


# Starts what answers 200 for every path, and asks no database; `stop` ends it by its pid file.
START = """
import http.server, os, sys
class Quiet(http.server.SimpleHTTPRequestHandler):
    log_message = lambda *words: None
if sys.argv[1] == "stop":
    os.kill(int(open(sys.argv[3]).read()), 15)
elif os.fork() == 0:
    os.setsid()
    os.closerange(0, 3)
    open(sys.argv[3], "w").write(str(os.getpid()))
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Quiet).serve_forever()
"""


def test_a_start_command_that_does_not_go_to_the_copy_is_doubted_and_one_that_fails_is_a_no_go(
    database: Target, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(START)

    def started(*start: str) -> dict[str, Check]:
        plan = plan_file(tmp_path, database)
        stop = (sys.executable, "app.py", "stop", "{port}", str(tmp_path / "pid"))
        given = {**plan.releases.new.model_dump(), "directory": str(tmp_path), "start": start, "stop": stop}
        release = Release.model_validate({**given, "start_timeout": "5s"})
        plan = plan.model_copy(update={"releases": plan.releases.model_copy(update={"new": release})})
        manage = Manage(Here("here", tmp_path), release, {}, {"DATABASE_URL": database.url()})
        return {one.name: one for one in try_start(OnCopy(plan, manage, database, tmp_path, never), never).checks}

    word = (sys.executable, "app.py", "start", "{port}", str(tmp_path / "pid"))
    elsewhere = started(*word)
    assert elsewhere["start command"].verdict == "warning", elsewhere
    assert "no session of it was seen on the copy" in elsewhere["start command"].summary
    assert elsewhere["pages to warm"].verdict == elsewhere["stop command"].verdict == "pass"
    broken = started(sys.executable, "-c", "raise SystemExit('no such module {port}')")
    assert broken["start command"].verdict == "fail" and "no such module" in broken["start command"].summary


def test_two_servers_are_compared_in_writing_without_the_right_to_write(database: Target) -> None:
    began = time.monotonic()
    found = measure_speeds(database, database, Io(1.0, 10, 1.0), Io(2.0, 60, 1.5))
    assert time.monotonic() - began < 5.0
    assert found.write is not None and len(found.live_spills) == len(found.scratch_spills) == 3
    assert found.own == Io(1.0, 50, 0.5) and (found.scratch_sync is None or found.scratch_sync < 1.0)
    with connect(database) as connection:
        assert read_io(connection) is None and found.live_sync is None  # it does not time them
    with connect(database, options="-c track_wal_io_timing=on") as connection:
        assert read_io(connection) is not None and read_io(connection, sessions=True) is not None


# -- whole rehearsals of a small project -------------------------------------------------------------------------------


def test_a_project_is_rehearsed_without_a_snapshot_at_hand_and_its_live_database_stays_as_it_was(
    shop_plan: Callable[..., PlanFile], shop: tuple[Path, Target]
) -> None:
    before = fingerprint.take(shop[1], jobs=1).digest
    planted = shop[0] / "src/cache/planted.djcache"
    planted.parent.mkdir(exist_ok=True)
    planted.write_bytes(b"")
    invariants = '[rehearsal.invariants]\nitems = "select count(*) from shop_item"'
    made = shop_plan(f'\n[cache]\nclear = [["clear_cache"], ["empty_files"]]\n\n{invariants}\n')
    done = rehearse(made)
    assert done.verdict == "go", done.reasons
    assert [run.label for run in done.observed.migrations][-2:] == ["shop.0002_price", "shop.0003_index"]
    assert done.pending.labels == tuple(run.label for run in done.observed.migrations)
    item = next(one for one in done.changes if one.before == "public.shop_item")
    assert columns(item)["price"].kind == "added" and columns(item)["price"].detail == "1 in every row"
    assert [one for one in done.observed.indexes if "item_name" in one] == ["item_name on public.shop_item"]
    told = {check.name: check for check in done.checks}
    assert told["items"].verdict == "pass"
    # Its files are the live site's, and nobody knows what a command of its own empties: both are left alone, and said.
    assert told["cache"].verdict == told["start command"].verdict == "not rehearsed"
    assert "files (FileBasedCache), which the live site shares" in told["cache"].summary
    assert "manage.py empty_files" in told["cache"].summary and "{port}" in told["start command"].summary
    assert planted.exists()
    # The index is made by RunSQL that nobody said how to undo.
    assert done.undo is not None and done.undo.verdict == "fails" and "cannot reverse" in (done.undo.error or "")
    assert done.forecast is not None and done.forecast.migrate.expected > 0
    assert fingerprint.take(shop[1], jobs=1).digest == before
    kept = newest_rehearsal(made)
    assert kept is not None and kept["digest"] == done.pending.digest and len(kept["digest"]) == 64
    assert estimates(made)["migrate"] == done.forecast.migrate.expected
    page = made.state / "snapshots" / done.snapshot_id / "rehearsal.html"
    assert "shop.0002_price" in page.read_text()
    assert list((made.state / "scratch").iterdir()) == []
    _rehearsed_from_a_store_alone(made, done.snapshot_id)
    # The same snapshot is taken again for a migration that raises: that is an answer, and no error.
    broken = rehearse(shop_plan(SHOP_BREAKS="1"))
    assert broken.snapshot_id == done.snapshot_id and broken.verdict == "no-go"
    assert "shop.0002_price" in broken.reasons[0] and "item 7" in broken.reasons[0]
    assert broken.observed.migrations[-1].ok is False and broken.undo is None


def _rehearsed_from_a_store_alone(made: PlanFile, snapshot_id: str) -> None:
    """It is fetched, and what was found stands in a place of its own: no half of a snapshot appears."""
    here = snapshots_folder(made)
    (here / snapshot_id / "rehearsal.json").unlink()
    store_snapshot(here / snapshot_id, open_store(made.stores[0], made.folder))
    shutil.move(here / snapshot_id, made.state / "aside")
    again = rehearse(made, snapshot_id)
    assert again.verdict == "go" and not (here / snapshot_id).exists() and not any((made.state / "fetched").iterdir())
    kept = newest_rehearsal(made)
    assert kept is not None and kept["made_at"] == again.made_at
    shutil.move(made.state / "aside", here / snapshot_id)


def test_an_application_that_does_not_go_where_it_is_pointed_is_refused_before_it_may_write(
    shop_plan: Callable[..., PlanFile], shop: tuple[Path, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", shop[1].url())
    before = fingerprint.take(shop[1], jobs=1).digest
    with pytest.raises(Refused) as caught:
        rehearse(shop_plan(url_env="SOME_OTHER_URL"))
    assert "answered from another database" in caught.value.message and caught.value.remedy
    assert fingerprint.take(shop[1], jobs=1).digest == before


def test_migrations_are_undone_nowhere_but_in_the_copy_that_is_meant(shop: tuple[Path, Target]) -> None:
    folder, target = shop
    with pytest.raises(Refused) as caught:
        reverse(django_site.manage_of(folder, target), ["shop.0001_initial"], identity="1@1.5")
    assert caught.value.expected == "database 1@1.5 (oid@start of the server)" and caught.value.found != "1@1.5"
    with connect(target) as connection:
        assert connection.execute("select count(*) from shop_item").fetchone() == (50,)


def test_the_copy_to_undo_in_has_what_a_template_leaves_out(database: Target) -> None:
    name = database.dbname
    run(
        database.on("postgres"),
        "create role keeper",
        f"alter database {name} owner to keeper",
        f"alter database {name} set work_mem = '7MB'",
        f"revoke connect on database {name} from public",
    )
    facts = sql.SQL(
        "select pg_get_userbyid(datdba), array(select unnest(datacl)::text order by 1), setconfig "
        "from pg_database d left join pg_db_role_setting s on s.setdatabase = d.oid where datname = {}"
    )
    copy = furnished_copy(database, f"{name}_undone")
    try:
        with connect(database) as connection:
            found = [connection.execute(facts.format(one.dbname)).fetchone() for one in (database, copy)]
        assert found[0] == found[1] and found[0] is not None and found[0][0] == "keeper"
    finally:
        ground.drop_copy(copy)
        run(database.on("postgres"), f"alter database {name} owner to postgres", "drop role keeper")


def test_without_a_variable_settings_are_made_that_lead_to_the_copy_or_it_says_what_to_set(
    shop_plan: Callable[..., PlanFile], shop: tuple[Path, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", shop[1].url())  # where its own settings lead to: the live one
    before = fingerprint.take(shop[1], jobs=1).digest
    done = rehearse(shop_plan(url_env=None))
    assert done.verdict == "go", done.reasons
    assert [run.label for run in done.observed.migrations][-2:] == ["shop.0002_price", "shop.0003_index"]
    assert fingerprint.take(shop[1], jobs=1).digest == before
    assert not list((shop[0] / "src").rglob("safepoint*"))
    # One that insists on settings of its own is seen before it may write.
    made = shop_plan(url_env=None)
    insists = '["env", "DJANGO_SETTINGS_MODULE=shop.settings", "'
    made.path.write_text(made.path.read_text().replace('manage = ["', f"manage = {insists}"))
    with pytest.raises(Refused, match="answered from another database") as caught:
        rehearse(load(made.path))
    assert "DJANGO_SETTINGS_MODULE" in (caught.value.remedy or "") and "variable" in (caught.value.remedy or "")
    assert fingerprint.take(shop[1], jobs=1).digest == before
