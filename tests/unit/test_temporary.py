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


HOLDING = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from safepoint.hosts.temporary import HeldFolder
with HeldFolder("safepoint-x-") as name:
    print(name, flush=True)
    sys.stdin.read()
"""


def test_two_processes_at_once_keep_their_folders_from_a_third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    words = [sys.executable, "-c", HOLDING, str(tmp_path)]
    both = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    held = []
    for process in both:
        assert process.stdout is not None
        held.append(Path(process.stdout.readline().strip()))
        os.utime(held[-1], (0, 0))
    both[1].kill()
    both[1].communicate()
    with HeldFolder("safepoint-x-") as third:
        assert {str(path) for path in tmp_path.iterdir()} == {str(held[0]), third}
    both[0].communicate()
    assert both[0].returncode == 0 and list(tmp_path.iterdir()) == []
