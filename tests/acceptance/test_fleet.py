"""A release on several hosts, which one command starts and stops; one of the hosts goes away."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from scene import Scene, brisk
from stage import Stage


def on_two_hosts(folder: Path) -> Callable[[str], str]:
    """Each release's `start` and `stop` reach a second host, too: while its mark is not there it cannot be reached."""
    script, mark = folder / "fleet", folder / "second-host"
    script.write_text(f'#!/bin/sh\n"$@" || exit\ntest -e {mark} || {{ echo "no route to second" >&2; exit 255; }}\n')
    script.chmod(0o755)
    mark.touch()

    def change(text: str) -> str:
        return re.sub(r"^(start|stop) = \[", rf"\1 = [{json.dumps(str(script))}, ", brisk(text), flags=re.MULTILINE)

    return change


@pytest.mark.slow
def test_one_host_of_several_that_is_away_does_not_keep_the_site_closed(
    make_stage: Callable[..., Stage], tmp_path: Path
) -> None:
    stage = make_stage(lines=500, change=on_two_hosts(tmp_path))
    scene = Scene(stage, proven=True)
    try:
        launched = scene.run("launch", "--now", "--plain", "--no-wait")
        assert launched.code == 0, launched.text
        (tmp_path / "second-host").unlink()
        back = scene.conduct("rollback")
        for step in ("back-new-gone", "back-start-old"):
            asked = back.until("ask", step)
            assert asked.data["choices"] == ["go", "retry", "return"]
            assert "no route to second" in asked.data["question"]
            assert scene.run("go").code == 0
        said = back.end()
        assert said.code == 0 and scene.release() == "1.0", said.text
    finally:
        scene.close()
