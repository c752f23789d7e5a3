"""What ran out of time is named by its words: all commands of a release begin with the same Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from safepoint.errors import CommandFailed
from safepoint.hosts.command import Command
from safepoint.hosts.here import Here


def test_a_command_that_ran_out_of_time_is_named_without_the_program_in_it(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text("import time\ntime.sleep(60)\n")
    command = Command((sys.executable, "manage.py", "shell", "-c", "import os\nos.abort()"))
    with pytest.raises(CommandFailed) as refusal:
        Here("here", tmp_path).run(command, timeout=0.2)
    assert f"{sys.executable} manage.py shell -c on here ran out of time" in refusal.value.message
    assert "more time" not in str(refusal.value.remedy)
