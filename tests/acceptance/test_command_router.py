"""Launches behind a router of commands: one that splits and cannot tell, and one that can only open and close."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scene import POST, Scene, evidence
from stage import Stage

# Drives the stage's own Caddy, as a load balancer's CLI would; it has no word that tells its state.
SCRIPT = f"""\
#!{sys.executable}
import sys
from safepoint.config import CaddyRouter
from safepoint.routers.caddy import Caddy
router = Caddy(CaddyRouter(kind="caddy", admin=sys.argv[1], url=sys.argv[2]))
match sys.argv[3:]:
    case ["close", reason]:
        router.close(reason)
    case ["open", upstream]:
        router.open(upstream)
    case ["split", upstream, percent]:
        router.split(upstream, int(percent))
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, make_quick: Callable[..., Stage]) -> Iterator[Scene]:
    with make_quick(tmp_path_factory.mktemp("commands") / "stage", lines=500) as stage:
        scene = Scene(stage)
        try:
            yield scene
        finally:
            scene.close()


def by_commands(folder: Path, *, splits: bool) -> Callable[[str], str]:
    script = folder / "traffic"
    script.write_text(SCRIPT)
    script.chmod(0o755)

    def change(text: str) -> str:
        admin, url = (re.search(rf'^{key} = "(.*)"$', text, re.MULTILINE) for key in ("admin", "url"))
        assert admin is not None and url is not None
        words = [str(script), admin[1], url[1]]
        orders = {
            "close": ["close", "{reason}"],
            "open_old": ["open", "{upstream}"],
            "open_new": ["open", "{upstream}"],
            **({"split": ["split", "{upstream}", "{percent}"]} if splits else {}),
        }
        lines = [f"{name} = {json.dumps([*words, *rest])}" for name, rest in orders.items()]
        table = "\n".join(["[router]", 'kind = "command"', f'url = "{url[1]}"', *lines, "", ""])
        return re.sub(r"\[router\]\n.*?\n(?=\[)", lambda _match: table, text, count=1, flags=re.DOTALL)

    return change


@pytest.mark.slow
def test_a_split_that_nobody_can_see_is_believed_by_the_routers_command(scene: Scene, tmp_path: Path) -> None:
    scene.new_launch(by_commands(tmp_path, splits=True))
    launched = scene.run("launch", "--now", "--plain", "--no-wait")
    assert launched.code == 0, launched.text
    assert scene.release() == "2.0"
    canary = evidence(scene.stage, "canary")
    assert canary["percent"] == 10 and canary["seen"] is False
    assert "by the word of its command" in canary["summary"]
    back = scene.run("rollback", "--plain")
    assert back.code == 0, back.text
    assert scene.release() == "1.0"
    assert scene.left() == []


@pytest.mark.slow
def test_without_a_split_everyone_comes_in_at_once_and_a_rollback_carries_what_they_wrote(
    scene: Scene, tmp_path: Path
) -> None:
    scene.new_launch(by_commands(tmp_path, splits=False))
    launched = scene.run("launch", "--now", "--plain", "--no-wait")
    assert launched.code == 0, launched.text
    assert scene.release() == "2.0"
    assert not {"gate-canary", "canary"} & {*scene.done()} and scene.done()["gate-green"] == 1
    assert evidence(scene.stage, "gate-green")["summary"].startswith("go: ")
    scene.stage.query(f"{POST} RETURNING id")
    back = scene.run("rollback", "--plain")
    assert back.code == 0, back.text
    assert scene.release() == "1.0"
    assert scene.done()["back-ahead"] == 1 and evidence(scene.stage, "back-list")["transactions"] >= 1
    assert scene.left() == []
