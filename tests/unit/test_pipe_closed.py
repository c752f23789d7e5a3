"""Whoever reads a command's answer may go away: the command ends by its own code, as one whose answer was read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from stories import PLAN_FILE

COMMAND = "import sys; from safepoint.cli import main; sys.argv[0] = 'safepoint'; main()"


@pytest.mark.parametrize("words", [["status"], ["plan"], ["settings"]])
def test_a_closed_pipe_is_no_failure_of_the_command(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "launch.toml").write_text(PLAN_FILE.format(date="2126-03-01", zone="Europe/Berlin", more=""))
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")
