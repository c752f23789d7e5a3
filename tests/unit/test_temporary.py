"""Temporary folders: held while somebody works in them, and removed by the next one when nobody does any more."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from safepoint.hosts.temporary import HeldFolder

KILLED = """
import os, signal, sys, tempfile
tempfile.tempdir = sys.argv[1]
from safepoint.hosts.temporary import HeldFolder
folder = HeldFolder("safepoint-x-")
open(folder.name + "/file", "w").close()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_one_left_goes_with_the_next_and_what_is_held_or_no_ones_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with HeldFolder("safepoint-x-") as held:
        subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
        (left,) = (path for path in tmp_path.iterdir() if str(path) != held)
        (tmp_path / "safepoint-x-file").touch()
        (tmp_path / "safepoint-x-link").symlink_to(tmp_path)
        for path in (left, Path(held), tmp_path / "safepoint-x-file"):
            os.utime(path, (0, 0))
        with HeldFolder("safepoint-x-") as other:
            names = {path.name for path in tmp_path.iterdir()}
        assert names == {Path(held).name, Path(other).name, "safepoint-x-file", "safepoint-x-link"}
    assert {path.name for path in tmp_path.iterdir()} == {"safepoint-x-file", "safepoint-x-link"}
