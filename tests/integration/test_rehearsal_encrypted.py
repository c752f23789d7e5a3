"""Rehearsals of a project whose settings insist on an encrypted connection to its database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django_site import manage_of, site_database, write_site
from loaded_django import python
from plan_file import PASSWORD_ENV, plan_file
from ready_shop import NOW, found

from safepoint.config import PlanFile, load
from safepoint.errors import CommandFailed
from safepoint.launch.doctor import releases as doctor_releases
from safepoint.launch.rehearsal.rehearsing import rehearse
from safepoint.postgres.binaries import installation
from safepoint.postgres.encrypting import OFFERED, can_encrypt
from safepoint.postgres.servers import SCRATCH, Server

INSISTS = """
DATABASES["default"]["OPTIONS"] = {"sslmode": os.environ.get("SHOP_SSLMODE", "require")}
"""
Plans = Callable[..., PlanFile]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A live server that lets connections be encrypted."""
    folder = tmp_path_factory.mktemp("encrypted") / "pg"
    server = Server.create(folder, installation(17), password="only-for-tests", purpose=SCRATCH, settings=OFFERED)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def plans(encrypted: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plans]:
    folder = write_site(tmp_path / "shop")
    settings = folder / "src/shop/settings.py"
    settings.write_text(settings.read_text() + INSISTS)
    with site_database(encrypted) as target:
        monkeypatch.setenv(PASSWORD_ENV, target.password or "")
        monkeypatch.setenv("DATABASE_URL", target.url())
        for words in (["shop", "0001"], ["auth"], ["sessions"]):
            manage_of(folder, target).run("migrate", *words, "-v", "0")

        def make(more: str = "") -> PlanFile:
            made = plan_file(tmp_path, target)
            text = made.path.read_text().replace('["python", "manage.py"]', f'["{python()}", "src/manage.py"]')
            text = text.replace('directory = "."', f'directory = "{folder}"').replace('["shop"]', f'["{target.user}"]')
            led = '[application]\nurl_env = "DATABASE_URL"\n\n[releases.old]'
            made.path.write_text(text.replace("[releases.old]", led) + more)
            return load(made.path)

        yield make


def test_the_copy_lets_connections_be_encrypted_as_the_settings_insist_on(plans: Plans) -> None:
    plan = plans()
    told = tuple(doctor_releases.new_release(plan, NOW))
    assert [one for one in told if "sslmode" in one.message] == []
    done = rehearse(plan)
    assert [run.label for run in done.observed.migrations][-1] == "shop.0003_index"


def test_settings_that_verify_the_server_are_told_what_leads_them_to_a_copy(
    plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_SSLMODE", "verify-full")
    told = found(doctor_releases.new_release(plans(), NOW), "release-new", "insist on sslmode=verify-full")
    assert told.verdict == "failure" and "[rehearsal.env]" in str(told.remedy)
    with pytest.raises(CommandFailed, match="certificate") as caught:
        rehearse(plans())
    assert "[rehearsal.env]" in str(caught.value.remedy) and "Nothing was migrated" in str(caught.value.remedy)
    well = plans('\n[rehearsal.env]\nSHOP_SSLMODE = "require"\n')
    assert [one for one in doctor_releases.new_release(well, NOW) if "insist on" in one.message] == []


@pytest.mark.parametrize("major", [15, 17])
def test_it_is_known_whether_a_build_of_postgresql_can_encrypt(major: int) -> None:
    assert can_encrypt(installation(major))
