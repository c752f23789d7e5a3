"""The fence of a rehearsal: on a copy, against sessions that stand in for the application's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from awkward import run
from books import Books, books
from plan_file import plan_file
from postgres_servers import SETTINGS, fresh_database, has_postgres

from safepoint.backup import fingerprint
from safepoint.config import PlanFile
from safepoint.launch.rehearsal import fence_findings as findings
from safepoint.launch.rehearsal.fence import RehearsedFence
from safepoint.launch.rehearsal.rehearsing import rehearse
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.progress import never
from safepoint.rehearsal import ground
from safepoint.rehearsal.checks import Check

OF_ROLES = "select setdatabase, setrole, setconfig from pg_db_role_setting order by 1, 2"


@pytest.fixture
def site(any_database: Target) -> Iterator[Books]:
    with books(any_database) as made:
        yield made


def plan_for(folder: Path, site: Books, *roles: str, url_env: bool = True) -> PlanFile:
    made = plan_file(folder, site.target)
    database = made.database.model_copy(update={"application_roles": roles or (site.role,)})
    application = made.application.model_copy(update={"url_env": "DATABASE_URL" if url_env else None})
    return made.model_copy(update={"database": database, "application": application})


def fenced(plan: PlanFile, site: Books) -> tuple[RehearsedFence, dict[str, Check]]:
    """Close and open it on the site's own database, as if that were a copy; what was found."""
    made = RehearsedFence(plan, site.target, f"{site.target.dbname}_before", never)
    before = made.close()
    try:
        made.open()
        assert fingerprint.take(before, jobs=1).tables == fingerprint.take(site.target, jobs=1).tables
    finally:
        ground.drop_copy(before)
    return made, {check.name: check for check in made.checks}


def test_the_fence_keeps_the_stand_ins_out_and_everything_is_as_before(site: Books, tmp_path: Path) -> None:
    was = fingerprint.take(site.target, jobs=1)
    with connect(site.target) as connection:
        settings = connection.execute(OF_ROLES).fetchall()
    made, told = fenced(plan_for(tmp_path, site), site)
    assert {name: check.verdict for name, check in told.items()} == {
        findings.OLD_STOP: "not rehearsed",
        findings.OTHERS: "pass",
        findings.FENCE: "pass",
        findings.QUIET: "pass",
        findings.OPENED: "pass",
    }, told
    said = told[findings.FENCE].summary
    assert f"{site.role} had committed" in said and "held a write open" in said and "not permitted to log in" in said
    assert "2 sessions ended" in said
    assert set(made.seconds) == {"fence", "twin", "prove-quiet", "unfence"} and all(made.seconds.values())
    # Nothing but a password was changed: no row, no setting, no slot, no right to log in.
    assert fingerprint.take(site.target, jobs=1).tables == was.tables
    with connect(site.target) as connection:
        assert connection.execute(OF_ROLES).fetchall() == settings
        assert connection.execute("select rolcanlogin from pg_roles where rolname = %s", [site.role]).fetchone() == (
            True,
        )
        assert connection.execute("select count(*) from pg_replication_slots").fetchone() == (0,)


def test_the_conductors_own_role_comes_back_read_only_and_that_is_said(site: Books, tmp_path: Path) -> None:
    plan = plan_for(tmp_path, site)
    plan = plan.model_copy(update={"database": plan.database.model_copy(update={"user": site.role})})
    _, told = fenced(plan, site)
    assert told[findings.FENCE].verdict == "warning", told
    assert "is the conductor's own and keeps its LOGIN" in told[findings.FENCE].summary
    assert "came back" in told[findings.FENCE].summary and "writes" in told[findings.FENCE].summary
    assert told[findings.QUIET].verdict == told[findings.OPENED].verdict == "pass"


def test_without_a_variable_the_application_comes_back_read_only(site: Books, tmp_path: Path) -> None:
    _, told = fenced(plan_for(tmp_path, site, url_env=False), site)
    assert told[findings.FENCE].verdict == "warning" and "no role locked out" in told[findings.FENCE].summary, told
    assert "keep coming back" in told[findings.FENCE].summary and "came back" in told[findings.FENCE].summary


def test_a_write_behind_the_fence_is_a_no_go(site: Books, tmp_path: Path) -> None:
    """A role that comes back and sets the default back itself, as an application's OPTIONS may."""
    plan = plan_for(tmp_path, site)
    plan = plan.model_copy(update={"database": plan.database.model_copy(update={"user": site.role})})
    made = RehearsedFence(plan, site.target, f"{site.target.dbname}_before", never)
    before = site.target.on(made.before)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("PGOPTIONS", "-c default_transaction_read_only=off")  # libpq gives it to each new session
            made.close()
        told = {check.name: check for check in made.checks}
        assert told[findings.FENCE].verdict == "fail" and "behind it" in told[findings.FENCE].summary, told
        assert "database.application_roles" in told[findings.FENCE].summary
        assert told[findings.QUIET].verdict != "pass", told
        made.open()
    finally:
        ground.drop_copy(before)


def test_logins_that_may_write_all_the_same_are_named(site: Books, tmp_path: Path) -> None:
    names = {name: f"{site.role}_{name}" for name in ("jobs", "reader", "boss")}
    run(
        site.target,
        f"create role {names['jobs']} login in role {site.role}",
        f"create role {names['reader']} login",
        f"grant select on all tables in schema public to {names['reader']}",
        f"create role {names['boss']} login superuser",
    )
    try:
        _, told = fenced(plan_for(tmp_path, site), site)
        assert told[findings.OTHERS].verdict == "warning" and told[findings.OTHERS].found == (names["jobs"],)
        assert names["boss"] in told[findings.OTHERS].summary and names["reader"] not in told[findings.OTHERS].summary
    finally:
        run(site.target, f"drop owned by {names['reader']}", *(f"drop role {name}" for name in names.values()))


def test_where_the_log_cannot_be_decoded_quiet_is_proven_around_the_copy(tmp_path: Path) -> None:
    major = 15 if has_postgres(15) else 17
    settings = {**SETTINGS, "wal_level": "replica", "autovacuum": "off"}
    password = "only-for-tests"
    with Server.create(tmp_path / "pg", installation(major), password=password, settings=settings) as server:
        database = fresh_database(server)
        with books(database) as site:
            run(database, f"alter role {site.role} connection limit 1 valid until '2020-01-01'")
            _, told = fenced(plan_for(tmp_path, site), site)
    assert told[findings.FENCE].verdict == told[findings.QUIET].verdict == "pass", told
    assert "wal_level is replica" in told[findings.QUIET].summary and "the copy's own" in told[findings.QUIET].summary


def test_a_role_that_nobody_can_log_in_as_is_doubted(site: Books, tmp_path: Path) -> None:
    run(site.target, f"create role {site.role}_group nologin")
    try:
        _, told = fenced(plan_for(tmp_path, site, f"{site.role}_group"), site)
        assert told[findings.FENCE].verdict == "warning" and "log in as another role" in told[findings.FENCE].summary
        assert told[findings.OTHERS].found == (site.role,)
    finally:
        run(site.target, f"drop role {site.role}_group")


def test_a_fence_that_cannot_be_closed_is_a_no_go_that_says_what_to_do_and_the_rest_is_rehearsed(
    shop_plan: Callable[..., PlanFile], shop: tuple[Path, Target]
) -> None:
    made = shop_plan()
    roles = made.database.model_copy(update={"application_roles": ("shop", "nobody_here")})
    done = rehearse(made.model_copy(update={"database": roles}))
    assert done.verdict == "no-go"
    assert any("no role nobody_here" in one and "database.application_roles" in one for one in done.reasons)
    assert done.observed.error is None and done.changes and "fence" not in done.steps
    assert done.forecast is not None and "fence" not in done.forecast.rehearsed
    assert any("fence" in one for one in done.forecast.unknown)
