"""The doctor on the variables of an address's parts: each is tried by loading the release with another value in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from parted_site import BY_OS, BY_SERVICE, WITHOUT_PORT, parted_site
from pooler import pooler
from ready_shop import NOW, Shop, found

from safepoint.config import PlanFile
from safepoint.errors import CommandFailed
from safepoint.launch.doctor import releases as doctor_releases
from safepoint.launch.doctor.doctor import rehearsal
from safepoint.launch.rehearsal.rehearsing import rehearse

NAMED = """
[application.variables]
host = "DB_HOST"
port = "DB_PORT"
name = "DB_NAME"
user = "DB_USER"
password = "DB_PASSWORD"
[releases.old]"""
Plans = Callable[..., PlanFile]


@pytest.fixture
def parted(ready: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plans:
    """Plans for the shop with settings that read parts, and these variables named; the settings are given."""

    def make(address: str = BY_OS, named: str = NAMED, **changes: str) -> PlanFile:
        login = ready.target.login(ready.role, "for tests")
        folder = parted_site(tmp_path / f"site-{len(list(tmp_path.iterdir()))}", login, monkeypatch, address)
        return ready.plan(
            tmp_path,
            lambda text: text.replace('url_env = "DATABASE_URL"\n', "").replace("\n[releases.old]", named, 1),
            folder=folder,
            **changes,
        )

    return make


def test_parts_that_lead_the_release_are_well(parted: Plans) -> None:
    told = tuple(doctor_releases.new_release(parted(), NOW))
    well = "DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD decide which database 2 uses (tried)"
    assert found(told, "release-new", well).verdict == "ok"
    assert [one for one in told if one.verdict == "failure"] == []


def test_a_part_that_the_settings_do_not_go_by_is_a_failure_that_names_it(parted: Plans) -> None:
    told = found(
        doctor_releases.new_release(parted(WITHOUT_PORT), NOW),
        "release-new",
        "DB_PORT (its port) does not change the database of 2 (tried)",
    )
    assert told.verdict == "failure" and "[application.variables]; they read: DB_HOST" in str(told.remedy)
    exchanged = NAMED.replace("DB_NAME", "x").replace("DB_USER", "DB_NAME").replace('"x"', '"DB_USER"')
    told = tuple(doctor_releases.new_release(parted(named=exchanged), NOW))
    assert found(told, "release-new", "DB_USER (its name), DB_NAME (its user)").verdict == "failure"
    # A password is no secret to a value that it was not asked for.
    hard = parted(BY_OS.replace('os.environ["DB_PASSWORD"]', '"for tests"'))
    told = found(doctor_releases.new_release(hard, NOW), "release-new", "DB_PASSWORD (its password) does not change")
    assert told.verdict == "failure" and "for tests" not in f"{told.message} {told.remedy}"
    # A rehearsal without a doctor before it fails to log in, and says who finds the variable.
    with pytest.raises(CommandFailed, match="password authentication failed") as caught:
        rehearse(hard)
    assert "DB_PASSWORD" in str(caught.value.remedy) and "`safepoint doctor` tries" in str(caught.value.remedy)


def test_settings_that_do_not_start_with_another_address_are_a_failure_that_says_so(parted: Plans) -> None:
    strict = BY_OS.replace('os.environ["DB_HOST"]', '{"127.0.0.1": "127.0.0.1"}[os.environ["DB_HOST"]]')
    told = found(doctor_releases.new_release(parted(strict), NOW), "release-new", "With another address in DB_HOST")
    assert told.verdict == "failure" and "KeyError" in told.message


def test_a_part_that_is_left_out_is_told_with_what_it_means(parted: Plans) -> None:
    without = parted(WITHOUT_PORT, NAMED.replace('port = "DB_PORT"\n', ""))
    told = tuple(doctor_releases.new_release(without, NOW))
    assert [one for one in told if one.verdict == "failure"] == []
    assert found(rehearsal(without, NOW), "rehearsal", "gets settings that lead to the copy").verdict == "ok"
    host_only = parted(named='\n[application.variables]\nhost = "DB_HOST"\n[releases.old]')
    told = tuple(doctor_releases.new_release(host_only, NOW))
    warned = found(told, "release-new", "names none for user and password")
    assert warned.verdict == "warning" and "port, name, user, password" in str(warned.remedy)


def test_by_host_and_port_alone_the_migration_is_led_past_a_pooler(
    ready: Shop, parted: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = '\n[application.variables]\nhost = "DB_HOST"\nport = "DB_PORT"\n[releases.old]'
    plan = parted(named=two)
    with pooler(ready.target, ignores=True) as pooled:
        monkeypatch.setenv("DB_HOST", pooled.host)
        monkeypatch.setenv("DB_PORT", str(pooled.port))
        told = found(doctor_releases.new_release(plan, NOW), "release-new", "migration's session")
    assert told.verdict == "ok", told


def test_a_login_that_only_a_service_of_libpq_names_is_missed_among_those_that_are_held_off(
    ready: Shop, parted: Plans
) -> None:
    plan = parted(BY_SERVICE, "\n[releases.old]", role="somebody_else")
    told = found(doctor_releases.old_release(plan, NOW), "release-old", f"logs in as {ready.role}")
    assert told.verdict == "failure" and "application_roles" in told.message
