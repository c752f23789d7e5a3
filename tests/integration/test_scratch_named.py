"""The scratch server that the plan file names and others use: what a proof must do there, and must never do to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from awkward import run, snap
from postgres_servers import SETTINGS, has_postgres
from shared_scratch import ENV, SECTION, everything, other_cluster

from safepoint.backup import fingerprint
from safepoint.backup.proof import prove, restored
from safepoint.backup.scratch import NamedServer
from safepoint.config import PlanFile, load
from safepoint.errors import ProofFailed
from safepoint.launch.rehearsal.rehearsing import rehearse
from safepoint.postgres.connections import connect
from safepoint.postgres.scratch_databases import (
    DATABASE_MARK,
    LEAVING_LOCK,
    ROLE_MARK,
    ROLES_LOCK,
    make_roles,
    mark,
    remove,
    scratch_name,
    sweep,
)
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


def test_a_role_that_is_there_is_used_as_it_is_and_one_that_is_missing_comes_and_goes(
    odd: Path, shared: Server, server: Server, tmp_path: Path
) -> None:
    run(shared.target, "create role awkward_app login password 'theirs' connection limit 3")
    run(shared.target, "alter role awkward_app set work_mem = '3MB'", "comment on role awkward_app is 'hands off'")
    before = everything(shared)
    try:
        with restored(odd, scratch_parent=tmp_path, scratch=NamedServer(shared.target, server.target)) as copy:
            assert copy.shared
            with connect(copy.target) as connection:
                owner = connection.execute("select tableowner from pg_tables where tablename = 'plain'").fetchone()
                made = connection.execute(
                    "select rolname, rolcanlogin, rolpassword from pg_authid where shobj_description(oid, 'pg_authid') "
                    f"= '{ROLE_MARK}' order by 1"
                ).fetchall()
            assert owner == ("awkward_owner",)
            assert made == [("awkward_group", False, None), ("awkward_owner", False, None)]
            during = {row[0]: row for row in everything(shared)}
            assert during["awkward_app"] == next(row for row in before if row[0] == "awkward_app")
        assert everything(shared) == before
    finally:
        run(shared.target, "drop role awkward_app")


def test_runs_at_the_same_time_share_the_roles_and_the_last_one_takes_them_away(
    odd: Path, named: NamedServer, tmp_path: Path
) -> None:
    copies = [Path(shutil.copytree(odd, tmp_path / str(number) / "s")) for number in range(3)]

    def one(folder: Path) -> int:
        return prove(folder, scratch_parent=folder.parent / "scratch", scratch=named, jobs=1).tables

    with ThreadPoolExecutor(max_workers=3) as pool:
        assert list(pool.map(one, copies)) == [8, 8, 8]


def test_roles_are_dropped_by_a_run_that_ends_while_another_one_drops(named: NamedServer) -> None:
    # The other one has looked at the role already, and found it in use by the database of the run that ends now.
    with connect(named.login) as connection, connect(named.login) as leaving:
        make_roles(connection, [("awkward_app", False)])
        for lock in (LEAVING_LOCK, ROLES_LOCK):
            leaving.execute("select pg_advisory_lock(%s)", [lock])
        other = threading.Timer(0.3, leaving.close)
        other.start()
        remove(named.login, "safepoint_scratch_0123456789abcdef")
        other.join()
        assert connection.execute("select count(*) from pg_roles where rolname = 'awkward_app'").fetchone() == (0,)


CHILD = """
import json, sys
from pathlib import Path
from safepoint.backup.proof import prove
from safepoint.backup.scratch import NamedServer
from safepoint.postgres.target import Target

given = json.loads(sys.stdin.read())
login, live = (Target(*words) for words in given["logins"])
print("go", flush=True)
prove(Path(given["folder"]), scratch_parent=Path(given["scratch"]), scratch=NamedServer(login, live))
"""


OURS = "select count(*) from pg_database where datname like 'safepoint\\_scratch\\_%'"


def begun(folder: Path, place: NamedServer, parent: Path) -> subprocess.Popen[str]:
    """A proof in a process of its own."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    words = [[one.host, one.port, one.dbname, one.user, one.password, one.sslmode] for one in (place.login, place.live)]
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps({"folder": str(folder), "scratch": str(parent), "logins": words}))
    child.stdin.close()
    assert child.stdout.readline() == "go\n"
    return child


def test_what_a_killed_run_left_is_removed_by_the_next_one_of_the_same_place(
    odd: Path, named: NamedServer, tmp_path: Path
) -> None:
    """Killed as soon as its database is there, and at several instants before and after."""
    found = 0
    for wait in (0.0, 0.05, 0.15, 0.3, 0.6, None):
        child = begun(odd, named, tmp_path / "scratch")
        with connect(named.login) as connection:
            deadline = time.monotonic() + 30
            while wait is None and connection.execute(OURS).fetchone() == (0,) and time.monotonic() < deadline:
                pass
            time.sleep(wait or 0.0)
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            found += (connection.execute(OURS).fetchone() or (0,))[0]
        assert sweep(named.login, tmp_path / "elsewhere") == ()  # another place knows nothing of it
        prove(odd, scratch_parent=tmp_path / "scratch", scratch=named)
        assert list((tmp_path / "scratch").iterdir()) == []
    assert found  # the kills struck something


def test_a_run_that_still_works_is_not_swept_by_another_one_of_the_same_place(
    small: Path, named: NamedServer, tmp_path: Path
) -> None:
    with restored(small, scratch_parent=tmp_path / "scratch", scratch=named) as copy:
        prove(small, scratch_parent=tmp_path / "scratch", scratch=named)
        with connect(copy.target) as connection:
            assert connection.execute("select count(*) from t").fetchone() == (500,)


def test_a_database_that_does_not_say_that_it_is_ours_is_never_touched(named: NamedServer, tmp_path: Path) -> None:
    with connect(named.login) as connection:
        with scratch_name(named.login, tmp_path) as name:
            connection.execute(f"create database {name}".encode())
            mark(connection, name)
            connection.execute(f"create database {name}_theirs".encode())
            connection.execute(f"comment on database {name}_theirs is 'important'".encode())
        found = connection.execute(
            "select datname, shobj_description(oid, 'pg_database') from pg_database where datname like 'safepoint%'"
        ).fetchall()
        connection.execute(f"drop database {name}_theirs".encode())
    assert found == [(f"{name}_theirs", "important")] and DATABASE_MARK not in str(found)


def test_a_marked_role_that_somebody_gave_a_login_or_rows_stays(named: NamedServer, tmp_path: Path) -> None:
    names = ("kept_login", "kept_owner", "goes")
    try:
        with connect(named.login) as connection:
            with scratch_name(named.login, tmp_path):
                assert make_roles(connection, [(name, False) for name in names]) == tuple(sorted(names))
                connection.execute("alter role kept_login login")
                connection.execute("create table kept (x int)")
                connection.execute("alter table kept owner to kept_owner")
            found = connection.execute("select rolname from pg_roles where rolname = any(%s) order by 1", [list(names)])
            assert found.fetchall() == [("kept_login",), ("kept_owner",)]
    finally:
        run(named.login, "drop table if exists kept", *(f"drop role if exists {name}" for name in names))


def test_a_source_with_another_first_superuser_and_event_triggers_is_proven(named: NamedServer, tmp_path: Path) -> None:
    """What belongs to it belongs to a role of that name here, too; only superusers own event triggers."""
    with other_cluster(superuser="chief", settings=SETTINGS) as server:
        run(server.target, "create database shop", "create role deputy superuser")
        source = server.target.on("shop")
        run(
            source,
            "create table t (x int); insert into t values (1)",
            "create function f() returns event_trigger language plpgsql as 'begin null; end'",
            "create event trigger e on ddl_command_end execute function f()",
            "alter event trigger e owner to deputy",
        )
        folder = snap(source, server, tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch", scratch=named).rows == 1


def test_a_newer_server_proves_it_by_name_and_says_so(
    servers: Callable[[int], Server], server: Server, odd: Path, tmp_path: Path
) -> None:
    there = servers(18)
    before = everything(there)
    place = NamedServer(there.target, server.target)
    proof = prove(odd, scratch_parent=tmp_path / "scratch", scratch=place)
    assert proof.server_version.startswith("18") and "compared by name only" in " ".join(proof.notes)
    assert everything(there) == before


def test_a_missing_extension_is_named_with_what_to_install(
    servers: Callable[[int], Server], new_database: Callable[[Server], Target], named: NamedServer, tmp_path: Path
) -> None:
    """adminpack came with PostgreSQL up to 16."""
    if not has_postgres(15):
        pytest.skip("there is no PostgreSQL 15 on this machine")
    source = new_database(servers(15))
    run(source, "create extension adminpack")
    folder = snap(source, servers(15), tmp_path / "snapshots")
    with pytest.raises(ProofFailed, match="adminpack") as caught:
        prove(folder, scratch_parent=tmp_path / "scratch", scratch=named)
    assert "Install the extension" in (caught.value.remedy or "")


def test_a_rehearsal_on_a_named_server_says_what_it_leaves_out_and_leaves_nothing(
    shop_plan: Callable[..., PlanFile],
    shop: tuple[Path, Target],
    shared: Server,
    named: NamedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENV, shared.target.password or "")
    made = shop_plan(SECTION.format(port=shared.port, env=ENV))
    before = fingerprint.take(shop[1], jobs=1).digest
    seen = threading.Event()
    databases: set[str] = set()

    def look() -> None:
        with connect(named.login) as connection:
            while not seen.wait(0.02):
                databases.update(row[0] for row in connection.execute("select datname from pg_database").fetchall())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        done = rehearse(made)
    finally:
        seen.set()
        thread.join()
    assert done.verdict == "go", done.reasons
    assert [one.label for one in done.observed.migrations][-2:] == ["shop.0002_price", "shop.0003_index"]
    assert done.way_back is not None and done.way_back.proven
    assert done.trial is not None and done.trial.verdict == "not tried" and "others use" in done.trial.reasons[0]
    assert done.undo is not None and done.undo.verdict == "fails"  # an index by RunSQL, as on a server of our own
    notes = " ".join(done.notes)
    fence = next(check for check in done.checks if check.name == "fence")
    assert (
        fence.verdict == "not rehearsed" and "roles that may be theirs" in fence.summary and not done.steps.get("fence")
    )
    assert "left out, because others use the scratch server" in notes and "shared_buffers is 32MB" in notes
    ours = {name for name in databases if name.startswith("safepoint_scratch_")}
    assert len(ours) == 3 and any(
        name.endswith("_before") for name in ours
    )  # the proof's, the rehearsal's, a copy of it
    assert databases - ours == {"postgres", "template0", "template1", "theirs"}
    assert fingerprint.take(shop[1], jobs=1).digest == before
    assert list((made.state / "scratch").iterdir()) == []
    assert load(made.path).scratch is not None
