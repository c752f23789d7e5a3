"""Whole rehearsals of a small project: what is told, what is refused, and what is left alone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import django_site
import pytest
from awkward import run
from plan_file import plan_file
from psycopg import sql

from safepoint.backup import fingerprint
from safepoint.backup.shelf import store_snapshot
from safepoint.config import PlanFile, Release, load
from safepoint.django.managepy import Manage
from safepoint.django.pending import reverse
from safepoint.errors import Refused
from safepoint.hosts.here import Here
from safepoint.launch import frozen
from safepoint.launch.estimates import estimates
from safepoint.launch.rehearsal.rehearsals import newest_rehearsal
from safepoint.launch.rehearsal.rehearsing import rehearse
from safepoint.launch.rehearsal.release import OnCopy, try_start
from safepoint.launch.rehearsal.undo import furnished_copy
from safepoint.launch.snapshots.snapshots import snapshots_folder
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import never
from safepoint.rehearsal import ground
from safepoint.rehearsal.changes import ColumnChange, TableChange
from safepoint.rehearsal.checks import Check
from safepoint.stores import open_store


def columns(change: TableChange) -> dict[str, ColumnChange]:
    return {column.before or column.after or "": column for column in change.columns}


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


def test_a_project_is_rehearsed_without_a_snapshot_at_hand_and_its_live_database_stays_as_it_was(
    shop_plan: Callable[..., PlanFile], shop: tuple[Path, Target], tmp_path: Path
) -> None:
    before = fingerprint.take(shop[1], jobs=1).digest
    planted = shop[0] / "src/cache/planted.djcache"
    planted.parent.mkdir(exist_ok=True)
    planted.write_bytes(b"")
    invariants = '[rehearsal.invariants]\nitems = "select count(*) from shop_item"'
    starts = tmp_path / "starts"
    made = shop_plan(
        f'\n[cache]\nclear = [["clear_cache"], ["empty_files"]]\n\n{invariants}\n', SHOP_STARTS=str(starts)
    )
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
    assert done.lint.findings == ()
    # One that says what is code, one that is asked before and after, one for undoing, and `migrate` itself: each start
    # would be waited for.
    assert len(set(starts.read_text().split())) == 4
    kept_code = (made.state / "snapshots" / done.snapshot_id / frozen.REHEARSED).read_bytes()
    assert frozen.digest_of(kept_code) == kept["code"] and b"/0002_price.py\n" in kept_code
    assert b".djcache" not in kept_code
    # A migration that changes values, without a mapper for them: nobody knows the way back, which a person accepts.
    accepted = '[wayback.waiver]\nrelease = "2.0"\nby = "Ada Stone"\nreason = "nobody writes until Monday"\n'
    _rehearsed_from_a_store_alone(shop_plan(accepted, SHOP_TOUCHES="1", SHOP_EAGER="1"), done.snapshot_id)
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
    assert again.way_back is not None and not again.way_back.proven
    assert again.notes[-1] == "the way back is not proven, accepted for 2.0: nobody writes until Monday (Ada Stone)"
    assert again.verdict == "go" and not (here / snapshot_id).exists() and not any((made.state / "fetched").iterdir())
    kept = newest_rehearsal(made)
    assert kept is not None and kept["made_at"] == again.made_at
    # It connects as soon as it is loaded, so that nothing could be loaded before its database was there.
    # Its data migration wrote to a column that nobody names.
    (silent,) = again.lint.findings
    assert (silent.rule, silent.migration) == ("unexpected-change", "shop.0002_price"), silent
    assert silent.why.startswith("shop_item: other values in kind")
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
