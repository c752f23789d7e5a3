"""The code of a release by its content: uploads, caches and Safepoint's own state in its folder are no code."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from django_site import write_site

from safepoint.config import PlanFile, Release, load
from safepoint.django.inspector import inspect
from safepoint.django.installed import installed
from safepoint.django.managepy import Manage
from safepoint.hosts.here import Here
from safepoint.launch import frozen
from safepoint.launch.draft import draft_plan, write_plan
from safepoint.launch.ground import WHICH, Ground, Which
from safepoint.launch.verbs.gates import frozen_reasons
from safepoint.postgres.target import Target


class Standing:
    """As much of a ground as the freeze and its gate look at."""

    def __init__(self, plan: PlanFile) -> None:
        self.plan, self.folder, self.application_host = plan, plan.state, Here("here", plan.folder)
        self.folder.mkdir()
        self.fact: dict[str, Any] = {}

    def release(self, which: Which) -> Release:
        return self.plan.releases.old if which == "old" else self.plan.releases.new

    def manage(self, which: Which) -> Manage:
        return Manage(self.application_host, self.release(which))

    def need(self, _name: str) -> dict[str, Any]:
        return self.fact

    @staticmethod
    def cancelled() -> bool:
        return False

    def freeze(self) -> None:
        projects = {which: inspect(self.manage(which)) for which in WHICH}
        left_out = {which: frozen.no_code(self.plan, self.release(which), projects[which]) for which in WHICH}
        self.fact = {**frozen.freeze(cast(Ground, self), left_out), "left_out": left_out}

    def restless(self) -> str | None:
        old, left_out = self.release("old"), self.fact["left_out"]["old"]
        for path in (self.plan.folder / "src").rglob("*.*"):
            os.utime(path, (0, 0))
        return frozen.restless(self.application_host, old, left_out)


class Library:
    """A package beside the project, as `pip` installs one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, version: str, record: str = "money.py,sha256=a,1") -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        told = self._folder / f"old_money-{version}.dist-info"
        told.mkdir(parents=True)
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Old_Money\nVersion: {version}\n")
        (told / "RECORD").write_text(record)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))
    found = Library(tmp_path / "library")
    found.install("1.0")
    return found


@pytest.fixture
def ground(tmp_path: Path, database: Target, library: Library, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("DATABASE_URL", database.url())
    site = write_site(tmp_path / "shop")
    (settings,) = (site / "src").glob("*/settings.py")
    settings.write_text(settings.read_text() + f"\nMEDIA_ROOT = {str(site / 'uploads')!r}\n")
    write_plan(draft_plan(site, site / "launch.toml", python=sys.executable), site / "launch.toml")
    found = Standing(load(site / "launch.toml"))
    found.freeze()
    return found


def test_what_init_drafts_keeps_the_code_as_it_was_frozen_while_people_work(ground: Any) -> None:
    folder = ground.plan.folder
    for name in ("uploads/2026/scan.pdf", ".safepoint/launches/one/ledger.jsonl", "backups/one/manifest.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("new")
    (folder / "launch.toml").write_text((folder / "launch.toml").read_text() + "# looked at\n")
    ((verdict, said),) = frozen_reasons(ground)
    assert verdict == "pass" and said.startswith("the code is as it was frozen")


def test_what_changed_is_named_with_what_to_write_where_it_is_no_code(ground: Any) -> None:
    folder = ground.plan.folder
    (folder / "var").mkdir()
    (folder / "var" / "web.pid").write_text("1")
    assert "var/web.pid" in str(ground.restless())
    reasons = frozen_reasons(ground)
    assert [verdict for verdict, _ in reasons] == ["fail", "fail"]  # both releases are one folder in a draft
    assert "old release changed since the freeze: var/web.pid;" in reasons[0][1]
    assert "releases.old.data" in reasons[0][1]
    text = ground.plan.path.read_text().replace("[releases.old]\n", '[releases.old]\ndata = ["var"]\n')
    ground.plan.path.write_text(text)
    ground.plan = load(ground.plan.path)
    ground.freeze()
    (folder / "var" / "web.pid").write_text("2")
    assert ground.restless() is None
    assert [why.partition(";")[0] for _, why in frozen_reasons(ground)] == [
        "the code of the new release changed since the freeze: var/web.pid"
    ]


def test_a_file_of_the_code_that_goes_or_comes_with_an_old_time_is_seen(ground: Any) -> None:
    extra = ground.plan.folder / "src" / "extra.py"
    extra.write_text("x = 1")
    old = (datetime.now(UTC) - timedelta(days=3)).timestamp()
    os.utime(extra, (old, old))
    assert "src/extra.py" in frozen_reasons(ground)[0][1]
    ground.freeze()
    extra.unlink()
    assert frozen_reasons(ground)[0][0] == "fail"


def test_what_migrations_may_run_and_was_not_rehearsed_is_named(ground: Any) -> None:
    """What a data migration imports stands in no migration's own file, by which rehearsals are known."""
    folder, digest = ground.plan.folder / "rehearsal", ""

    def changed() -> str | None:
        return frozen.since_rehearsal(ground, folder, digest or None)

    assert changed() is None  # by an earlier version
    money = ground.plan.folder / "src" / "money.py"
    money.write_text("CENTS = 100")
    code = frozen.listed(ground.manage("new"), ground.fact["left_out"]["new"], ground.cancelled)
    folder.mkdir()
    (folder / frozen.REHEARSED).write_bytes(code)
    digest = frozen.digest_of(code)
    for name, text in (("static/site.css", "a {}"), ("VERSION", "2.0.1")):
        (ground.plan.folder / "src" / name).parent.mkdir(exist_ok=True)
        (ground.plan.folder / "src" / name).write_text(text)
    ground.freeze()
    assert changed() is None
    money.write_text("CENTS = 1")
    ground.freeze()
    assert changed() == "src/money.py"
    (folder / frozen.REHEARSED).unlink()
    assert "nobody knows" in str(changed())


def test_what_is_installed_beside_the_code_is_frozen_with_it(ground: Any, library: Library) -> None:
    library.install("1.1")
    assert [why for _, why in frozen_reasons(ground)] == [
        f"the code of the {which} release changed since the freeze: old-money 1.0 -> 1.1" for which in WHICH
    ]
    library.install("1.0", record="money.py,sha256=b,1")
    assert "old-money 1.0 was installed anew" in frozen_reasons(ground)[0][1]
    shutil.rmtree(ground.plan.folder.parent / "library")
    assert "old-money 1.0 is installed no more" in frozen_reasons(ground)[0][1]
    library.install("1.0")
    assert frozen_reasons(ground)[0][0] == "pass"


def test_a_launch_that_an_earlier_version_froze_is_judged_by_its_files(ground: Any, library: Library) -> None:
    for which in WHICH:
        kept = ground.folder / f"frozen-{which}.txt"
        files = b"".join(line for line in kept.read_bytes().splitlines(keepends=True) if b"  ./" in line)
        kept.write_bytes(files)
        ground.fact[which] = frozen.digest_of(files)
    library.install("1.1")
    assert frozen_reasons(ground)[0][0] == "pass"


def test_what_was_installed_when_it_was_rehearsed_is_held_against_what_is_frozen(ground: Any, library: Library) -> None:
    folder = ground.plan.folder / "rehearsal"
    folder.mkdir()
    code = frozen.listed(ground.manage("new"), ground.fact["left_out"]["new"], ground.cancelled)
    (folder / frozen.REHEARSED).write_bytes(code)
    library.install("1.1")
    ground.freeze()
    assert frozen.since_rehearsal(ground, folder, frozen.digest_of(code)) == "old-money 1.0 -> 1.1"


def test_a_project_that_names_no_python_is_asked_itself(ground: Any) -> None:
    """A product's own command has its Python in its first line."""
    manage = ground.manage("old")
    program = ground.plan.folder / "shop"
    program.write_text(f"#!{sys.executable}\n" + (ground.plan.folder / "src" / "manage.py").read_text())
    program.chmod(0o755)
    env = {"PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(ground.plan.folder / "src")])}
    named = manage.release.model_copy(update={"manage": (str(program),), "env": {**manage.release.env, **env}})
    by_itself = installed(replace(manage, release=named), ground.cancelled)
    assert by_itself == installed(manage, ground.cancelled) and b"old-money 1.0\n" in by_itself
