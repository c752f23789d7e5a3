"""An order by another user of the machine: what Safepoint keeps is its owner's alone."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
from least_plan import SOMEDAY

from safepoint import cli
from safepoint.config import load
from safepoint.launch.begin import launch_folder
from safepoint.launch.ledger import Ledger
from safepoint.launch.lock import ConductorLock
from safepoint.launch.storage import make_private
from safepoint.postgres.servers import free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: becomes another user")
OTHER = 65534


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="safepoint-passable-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("words", [("status",), ("abort",), ("rollback",), ("go",), ("launch",), ("retire", "--now")])
def test_who_gives_it_is_told_whose_the_launch_is(passable: Path, words: tuple[str, ...]) -> None:
    """They were told to let this user write into the ledger, and `status` to name another state folder."""
    (passable / "launch.toml").write_text(SOMEDAY.format(port=free_port()))
    plan = load(passable / "launch.toml")
    with ConductorLock(plan.conductor_lock, plan.launch_id, "safepoint launch"):
        pass
    for folder in (launch_folder(plan).parent, launch_folder(plan)):
        make_private(folder)
    Ledger(launch_folder(plan) / "ledger.jsonl").append("run", "run:1", {"run": 1})

    def command() -> None:
        os.chdir(passable)
        os.setgroups([])
        os.setgid(OTHER)
        os.setuid(OTHER)
        os.environ.update({"SHOP_PASSWORD": "only-for-tests"})
        sys.argv = ["safepoint", *words]
        cli.main()

    said = forked.call(command, words, passable / "said")
    me = pwd.getpwuid(os.getuid()).pw_name
    text = " ".join(said.stdout.split())
    assert said.returncode == 1 and "Permission denied" in text, text
    assert f"It belongs to {me}, and is for its owner alone: give the command as {me}" in text, text
    assert "Let this user write" not in text and "another place" not in text
