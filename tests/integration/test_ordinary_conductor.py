"""A conductor that is no superuser. It even lacks the right to see other roles' sessions (pg_read_all_stats)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from awkward import snap
from books import Books, books
from postgres_servers import Servers, drop_database, fresh_database, has_postgres
from twin_ground import drop_others, twin_of

from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.checkpoints import database as checks
from safepoint.errors import Refused
from safepoint.launch.verbs.gates import lacking_reasons
from safepoint.postgres.catalog import BACKEND_KIND, survey
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence.fence import close, reopen, survey_fence
from safepoint.wayback.fence.login import drop_migration_login, migration_login
from safepoint.wayback.fence.obstacles import in_the_way
from safepoint.wayback.sessions import sessions
from safepoint.wayback.settings import not_ours
from safepoint.wayback.twin.twin import drop_twin


@dataclass(frozen=True)
class HalfBlind:
    """The books, the conductor, and a job of a role that is not the plan's."""

    site: Books
    conductor: Target
    worker: Target


@pytest.fixture(params=[15, 17, 18], ids=["pg15", "pg17", "pg18"])
def half_blind(request: pytest.FixtureRequest, servers: Servers) -> Iterator[HalfBlind]:
    if not has_postgres(request.param):
        pytest.skip(f"PostgreSQL {request.param} is not on this machine")
    database = fresh_database(servers(request.param))
    conductor, worker = f"conductor_{time.monotonic_ns()}", f"worker_{time.monotonic_ns()}"
    try:
        with books(database) as site, connect(database.on("postgres")) as admin:
            admin.execute(f"create role {worker} login replication password 'x'")
            admin.execute(f"create role {conductor} login createdb createrole replication password 'x'")
            admin.execute(f"grant pg_signal_backend, pg_read_all_data to {conductor}")
            admin.execute(f"grant {site.role} to {conductor} with admin option")
            try:
                yield HalfBlind(site, database.login(conductor, "x"), database.login(worker, "x"))
            finally:
                admin.execute(f"drop role {conductor}, {worker}")
    finally:
        drop_database(database)


def test_the_fence_ends_the_sessions_of_roles_that_the_conductor_cannot_see(half_blind: HalfBlind) -> None:
    prior = survey_fence(half_blind.conductor, [half_blind.site.role])
    with connect(half_blind.worker) as job, connect(half_blind.site.application):
        assert close(half_blind.conductor, prior).ended_sessions == 2
        with pytest.raises(psycopg.OperationalError):
            job.execute("select 1")
    reopen(half_blind.conductor, prior)


def test_its_snapshot_is_proven_and_restored_beside_the_live_one(
    half_blind: HalfBlind, servers: Servers, tmp_path: Path
) -> None:
    """As on a managed server, where nobody is a superuser."""
    conductor = half_blind.conductor
    with connect(conductor.on("postgres")) as connection:
        server = servers(connection.info.server_version // 10000)
        folder = snap(conductor, server, tmp_path / "snapshots")
        assert prove(folder, scratch_parent=tmp_path / "scratch").rows > 0
        try:
            assert place(folder, conductor, f"{conductor.dbname}_beside").tables > 0
        finally:
            connection.execute(f"drop database if exists {conductor.dbname}_beside with (force)".encode())


def test_a_replication_consumer_that_the_conductor_cannot_see_is_refused(half_blind: HalfBlind) -> None:
    prior = survey_fence(half_blind.conductor, [half_blind.site.role])
    words = {**half_blind.worker.conninfo(), "replication": "database", "application_name": "debezium"}
    with psycopg.connect(**words, autocommit=True), pytest.raises(Refused, match="debezium"):  # type: ignore[arg-type]
        close(half_blind.conductor, prior)


def test_a_superusers_session_that_the_conductor_may_not_end_is_told_before_the_site_is_closed(
    half_blind: HalfBlind,
) -> None:
    """Monitoring, say. It kept all others from being ended, too."""
    conductor, prior = half_blind.conductor, survey_fence(half_blind.conductor, [half_blind.site.role])
    with connect(half_blind.site.target, application_name="monitoring") as session:
        said = in_the_way(conductor)
        assert said is not None and f"pid {session.info.backend_pid} of {half_blind.site.target.user}" in said, said
        with connect(half_blind.worker), ThreadPoolExecutor(1) as pool:
            closing = pool.submit(close, conductor, prior)
            time.sleep(0.5)
            session.close()  # one that looks for a moment, and is gone again
            assert closing.result().ended_sessions == 2
    reopen(conductor, prior)
    assert in_the_way(conductor) is None


def test_a_session_whose_beginning_is_hidden_counts_as_one_from_before(half_blind: HalfBlind) -> None:
    with connect(half_blind.worker) as job, connect(half_blind.conductor.on("postgres")) as looking:
        oid = looking.execute("select oid::int8 from pg_database where datname = %s", [half_blind.worker.dbname])
        (seen,) = sessions(looking, [oid.fetchall()[0][0]], older_than="2000-01-01")
        assert (seen.pid, seen.role, seen.started) == (job.info.backend_pid, half_blind.worker.user, "")


def test_hidden_sessions_are_counted_as_what_they_are(half_blind: HalfBlind) -> None:
    query = f"select pid, {BACKEND_KIND} from pg_stat_activity where pid <> all(%s)".encode()
    words = {**half_blind.worker.conninfo(), "replication": "database"}
    with (
        psycopg.connect(**words, autocommit=True),  # type: ignore[arg-type]
        connect(half_blind.worker) as job,
        connect(half_blind.site.target) as seeing,
        connect(half_blind.conductor) as blind,
    ):
        own = [seeing.info.backend_pid, blind.info.backend_pid]
        kinds = dict(seeing.execute(query, [own]).fetchall())
        told = {"client backend", "walsender"}
        guessed = dict(blind.execute(query, [own]).fetchall())
        assert {kinds[job.info.backend_pid]} == {"client backend"} and "walsender" in kinds.values()
        assert {pid: kind if kind in told else "" for pid, kind in kinds.items()} == {
            pid: kind if kind in told else "" for pid, kind in guessed.items()
        }
        assert checks.measure_connections(blind).total == checks.measure_connections(seeing).total
        assert survey(blind).used_connections == survey(seeing).used_connections
        assert job.info.backend_pid in {one.pid for one in survey(blind).sessions}


def test_the_migrations_login_is_removed_with_what_it_made_by_a_conductor_that_is_no_superuser(
    half_blind: HalfBlind,
) -> None:
    conductor, owner = half_blind.conductor, half_blind.site.role
    login = migration_login(conductor, "launch-1", owner)
    try:
        with connect(login) as session:
            session.execute("create table made_by_migration (id int)")
        with connect(half_blind.site.target) as admin:
            admin.execute(f"grant create on schema public to {login.user}")
        with connect(login) as session:
            session.execute("set role none")
            session.execute("create table mine (id int)")
        assert drop_migration_login(conductor, "launch-1", owner)
        assert not drop_migration_login(conductor, "launch-1", owner)
        with connect(half_blind.site.target) as admin:
            made = admin.execute(
                "select tablename, tableowner from pg_tables where tablename in ('mine', 'made_by_migration')"
            )
            assert dict(made.fetchall()) == {"mine": owner, "made_by_migration": owner}
    finally:
        drop_migration_login(half_blind.site.target, "launch-1", owner)


def test_what_only_a_superuser_may_set_is_told_before_the_window_and_does_not_end_it(half_blind: HalfBlind) -> None:
    """A server's operations people set how it logs; an application's variable has no other one who may set it."""
    conductor, owner, name = half_blind.conductor, half_blind.site.role, half_blind.site.target.dbname
    with connect(half_blind.site.target.on("postgres")) as admin, connect(conductor.on("postgres")) as looking:
        admin.execute(f"alter database {name} set log_min_duration_statement = '250ms'".encode())
        admin.execute(f"alter database {name} set app.tenant = '7'".encode())
        admin.execute(f"alter role {half_blind.worker.user} in database {name} set work_mem = '8MB'".encode())
        admin.execute(f"alter role {owner} set log_statement = 'ddl'".encode())
        left = not_ours(looking, name, [owner])
        others = [f"work_mem of {half_blind.worker.user}"] if admin.info.server_version >= 160000 else []
        told = ["app.tenant", "log_min_duration_statement", f"log_statement of {owner}", *others]
        assert sorted(map(str, left)) == sorted(told)
        ((verdict, why),) = lacking_reasons(left)
        assert verdict == "inconclusive" and "GRANT SET ON PARAMETER app.tenant TO" in why
        try:
            with connect(migration_login(conductor, "launch-1", owner)) as session:
                assert session.execute("show app.tenant").fetchone() == ("7",)
            facts = twin_of(replace(half_blind.site, target=conductor))
            assert len(facts.notes) == 2 + len(others) and "app.tenant is not set in it" in " ".join(facts.notes)
            for one in left:
                admin.execute(one.grant.encode())
            assert not_ours(looking, name, [owner]) == ()
            drop_twin(conductor, facts.twin, facts.launch_id)
            assert twin_of(replace(half_blind.site, target=conductor)).notes == ()
            drop_twin(conductor, facts.twin, facts.launch_id)
        finally:
            drop_migration_login(half_blind.site.target, "launch-1", owner)
            drop_others(half_blind.site.target)
            for parameter in ("log_min_duration_statement", "app.tenant", "log_statement"):
                admin.execute(f"revoke set on parameter {parameter} from {conductor.user}".encode())
