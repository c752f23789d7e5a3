"""Where copies are made and thrown away: one suite for servers of our own and for one that the plan file names; then
what only the named one must do, and must never do, to a server that others use as well."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from awkward import AWKWARD, DATABASE, OWNERS, run, snap
from plan_file import plan_file
from postgres_servers import SETTINGS, has_postgres

from safepoint.backup import fingerprint
from safepoint.backup.manifest import read_manifest, write_manifest
from safepoint.backup.prints import TablePrint
from safepoint.backup.proof import prove, read_proof, restored
from safepoint.backup.scratch import OWN, NamedServer, Scratch
from safepoint.config import PlanFile, load
from safepoint.errors import DatabaseError, Interrupted, PlanFileError, ProofFailed, Refused
from safepoint.launch.doctor_database import scratch
from safepoint.launch.rehearsing import rehearse
from safepoint.launch.snapshots import scratch_of
from safepoint.postgres.binaries import installation
from safepoint.postgres.catalog import survey
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
from safepoint.postgres.servers import SCRATCH, Server
from safepoint.postgres.target import Target

ENV = "SAFEPOINT_TESTS_SCRATCH_PASSWORD"
OTHERS = """
    select d.datname, r.rolname, shobj_description(d.oid, 'pg_database'), d.datacl::text from pg_database d
    join pg_roles r on r.oid = d.datdba
    union all
    select r.rolname, r.rolpassword, shobj_description(r.oid, 'pg_authid'), r::text || coalesce(s.setconfig::text, '')
    from pg_authid r left join pg_db_role_setting s on s.setrole = r.oid and s.setdatabase = 0
    order by 1, 2
"""


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """A second PostgreSQL 17, which others use as well: it has databases and roles of its own."""
    parent = Path(tempfile.mkdtemp(prefix="safepoint-tests-other-"))
    parent.chmod(0o711)
    settings = {**SETTINGS, "shared_buffers": "32MB"}
    server = Server.create(parent / "pg", installation(17), password="only-there", settings=settings, purpose=SCRATCH)
    try:
        with server:
            run(server.target, "create role somebody login password 'x'", "create database theirs owner somebody")
            yield server
    finally:
        shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
def named(other: Server, server: Server) -> Iterator[NamedServer]:
    """The place there, and after the test the server is as it was before it."""
    before = everything(other)
    yield NamedServer(other.target, server.target)
    assert everything(other) == before


def everything(server: Server) -> list[tuple[object, ...]]:
    """All databases and roles of a server, with what is said and set of them."""
    with connect(server.target) as connection:
        return connection.execute(OTHERS.encode()).fetchall()


@pytest.fixture(params=["own", "named"])
def place(request: pytest.FixtureRequest) -> Scratch:
    return OWN if request.param == "own" else request.getfixturevalue("named")


@pytest.fixture
def odd(database: Target, server: Server, tmp_path: Path) -> Iterator[Path]:
    """A snapshot with everything odd in it, of roles and grants, too."""
    try:
        run(database, AWKWARD, OWNERS, *(statement.format(db=database.dbname) for statement in DATABASE))
        yield snap(database, server, tmp_path / "snapshots")
    finally:
        name = database.dbname
        run(database.on("postgres"), f"alter database {name} owner to postgres", f"drop database {name} with (force)")
        for role in ("awkward_owner", "awkward_group", "awkward_app"):
            run(database.on("postgres"), f"drop owned by {role}", f"drop role {role}")


@pytest.fixture
def small(database: Target, server: Server, tmp_path: Path) -> Path:
    run(database, "create table t as select n, md5(n::text) x from generate_series(1, 500) n")
    return snap(database, server, tmp_path / "snapshots")


def test_a_database_with_everything_odd_in_it_is_proven_and_nothing_is_left(
    place: Scratch, odd: Path, tmp_path: Path
) -> None:
    proof = prove(odd, scratch_parent=tmp_path / "scratch", scratch=place)
    assert proof.tables == 8 and read_proof(odd) == proof
    assert list((tmp_path / "scratch").iterdir()) == []
    # What the place cannot prove is said.
    assert len(proof.notes) == (0 if place is OWN else 1) and all("roles' attributes" in one for one in proof.notes)


def test_a_copy_that_differs_is_told_by_name_and_nothing_is_left(place: Scratch, small: Path, tmp_path: Path) -> None:
    manifest = read_manifest(small)
    tables = {**manifest.fingerprint.tables, "public.t": TablePrint(500, "0" * 32)}
    write_manifest(small, replace(manifest, fingerprint=replace(manifest.fingerprint, tables=tables)))
    with pytest.raises(ProofFailed, match=r"table public\.t: expected 500 rows, content 0000"):
        prove(small, scratch_parent=tmp_path / "scratch", scratch=place)
    assert read_proof(small) is None and list((tmp_path / "scratch").iterdir()) == []


def test_an_order_to_stop_ends_it_and_nothing_is_left(place: Scratch, small: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    def cancelled() -> bool:
        return any("restore" in one for one in seen)

    with pytest.raises(Interrupted):
        prove(
            small,
            scratch_parent=tmp_path / "scratch",
            scratch=place,
            report=lambda progress: seen.append(progress.what),
            cancelled=cancelled,
        )
    assert list((tmp_path / "scratch").iterdir()) == []


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


def test_a_role_that_is_there_is_used_as_it_is_and_one_that_is_missing_comes_and_goes(
    odd: Path, other: Server, server: Server, tmp_path: Path
) -> None:
    run(other.target, "create role awkward_app login password 'theirs' connection limit 3")
    run(other.target, "alter role awkward_app set work_mem = '3MB'", "comment on role awkward_app is 'hands off'")
    before = everything(other)
    try:
        with restored(odd, scratch_parent=tmp_path, scratch=NamedServer(other.target, server.target)) as copy:
            assert copy.shared
            with connect(copy.target) as connection:
                owner = connection.execute("select tableowner from pg_tables where tablename = 'plain'").fetchone()
                made = connection.execute(
                    "select rolname, rolcanlogin, rolpassword from pg_authid where shobj_description(oid, 'pg_authid') "
                    f"= '{ROLE_MARK}' order by 1"
                ).fetchall()
            assert owner == ("awkward_owner",)
            assert made == [("awkward_group", False, None), ("awkward_owner", False, None)]
            during = {row[0]: row for row in everything(other)}
            assert during["awkward_app"] == next(row for row in before if row[0] == "awkward_app")
        assert everything(other) == before
    finally:
        run(other.target, "drop role awkward_app")


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
    parent = Path(tempfile.mkdtemp(prefix="safepoint-tests-other-"))
    parent.chmod(0o711)
    server = Server.create(parent / "pg", installation(17), superuser="chief", settings=SETTINGS, purpose=SCRATCH)
    try:
        with server:
            run(
                server.target,
                "create database shop",
                "create role deputy superuser",
            )
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
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def test_a_newer_server_proves_it_by_name_and_says_so(
    servers: Callable[[int], Server], server: Server, odd: Path, tmp_path: Path
) -> None:
    there = servers(18)
    before = everything(there)
    place = NamedServer(there.target, server.target)
    proof = prove(odd, scratch_parent=tmp_path / "scratch", scratch=place)
    assert proof.server_version.startswith("18") and "compared by name only" in " ".join(proof.notes)
    assert everything(there) == before


def refused_place(place: NamedServer, folder: Path, parent: Path, kind: type[Exception]) -> tuple[str, str]:
    """What is said, and the remedy; nothing stays in the folder."""
    with pytest.raises(kind) as caught:
        prove(folder, scratch_parent=parent, scratch=place)
    assert not parent.exists() or list(parent.iterdir()) == []
    error = caught.value
    assert isinstance(error, DatabaseError | Refused) and error.remedy
    return f"{error.message} {error.subject} {error.found}", error.remedy


def test_the_server_of_the_live_database_is_refused_by_whatever_name(
    small: Path, server: Server, tmp_path: Path
) -> None:
    before = everything(server)
    place = NamedServer(replace(server.target, host="localhost"), server.target)
    said, remedy = refused_place(place, small, tmp_path / "scratch", Refused)
    assert "server of the live database" in said and "[scratch]" in remedy
    assert everything(server) == before


def test_a_live_server_that_does_not_answer_cannot_be_told_from_it(
    small: Path, other: Server, server: Server, tmp_path: Path
) -> None:
    place = NamedServer(other.target, replace(server.target, port=1))
    said, _ = refused_place(place, small, tmp_path / "scratch", DatabaseError)
    assert "Cannot connect" in said


def test_an_older_server_is_refused(
    servers: Callable[[int], Server], small: Path, server: Server, tmp_path: Path
) -> None:
    if not has_postgres(15):
        pytest.skip("there is no PostgreSQL 15 on this machine")
    said, remedy = refused_place(NamedServer(servers(15).target, server.target), small, tmp_path / "scratch", Refused)
    assert "older" in said and "PostgreSQL 15" in said and "newer" in remedy


def test_a_wrong_password_names_its_key_and_is_not_shown(
    small: Path, other: Server, server: Server, tmp_path: Path
) -> None:
    place = NamedServer(other.target.login("postgres", "a-wrong-secret"), server.target)
    said, remedy = refused_place(place, small, tmp_path / "scratch", DatabaseError)
    assert "scratch" in said and "scratch.password_env" in remedy and "a-wrong-secret" not in said + remedy


def test_a_login_that_is_no_superuser_is_refused(small: Path, other: Server, server: Server, tmp_path: Path) -> None:
    place = NamedServer(other.target.login("somebody", "x"), server.target)
    said, remedy = refused_place(place, small, tmp_path / "scratch", Refused)
    assert "somebody" in said and "superuser" in said and "[scratch]" in remedy


SECTION = """
[scratch]
host = "127.0.0.1"
port = {port}
user = "postgres"
password_env = "{env}"
"""


def test_the_plan_file_names_it_and_the_doctor_looks_at_it(
    database: Target, other: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFEPOINT_TESTS_PASSWORD", database.password or "")
    made = plan_file(tmp_path, database, snapshot=SECTION.format(port=other.port, env=ENV))
    with pytest.raises(PlanFileError, match=ENV):
        scratch_of(made)
    monkeypatch.setenv(ENV, other.target.password or "")
    assert scratch_of(made) == NamedServer(replace(other.target, sslmode="prefer"), replace(database, sslmode="prefer"))
    with connect(database) as connection:
        facts = survey(connection)
    (finding,) = scratch(made, facts)
    assert finding.verdict == "ok" and str(other.port) in finding.message and "disk" in finding.message
    with pytest.raises(PlanFileError, match="server of the database itself"):
        plan_file(tmp_path, database, snapshot=SECTION.format(port=database.port, env=ENV))


def test_a_rehearsal_on_a_named_server_says_what_it_leaves_out_and_leaves_nothing(
    shop_plan: Callable[..., PlanFile],
    shop: tuple[Path, Target],
    other: Server,
    named: NamedServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENV, other.target.password or "")
    made = shop_plan(SECTION.format(port=other.port, env=ENV))
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
