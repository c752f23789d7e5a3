"""Folders of a launch are their owner's alone, also those that an earlier version made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from safepoint.launch.storage import make_private


@pytest.mark.parametrize("before", [None, 0o755, 0o770])
def test_a_folder_of_a_launch_is_for_its_owner_alone(tmp_path: Path, before: int | None) -> None:
    tmp_path.chmod(0o711)
    folder = tmp_path / "launches" / "shop-2.0-20260301"
    if before is not None:
        folder.mkdir(parents=True)
        folder.chmod(before)
    made = os.umask(0o022)
    try:
        make_private(folder)
    finally:
        os.umask(made)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711  # the state folder stays passable


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the folder is somebody else's")
def test_the_folder_of_somebody_else_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "launches"
    folder.mkdir()
    folder.chmod(0o750)
    os.chown(folder, 65534, 65534)
    make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
