"""The engine's own state is lost (a disk, a restored copy of the state folder): the ledger says which way to go on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scene import Scene, kill_at
from stage import Stage


def lose(stage: Stage) -> None:
    for path in stage.launch_folder.glob("engine.sqlite*"):
        path.unlink()


@pytest.mark.slow
def test_a_way_back_is_gone_on_with_although_the_engine_knows_of_nothing(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500)
    scene = Scene(stage)
    scene.new_launch()
    try:
        kill_at(stage, "migrate:applied", "launch", "--now")
        former = (stage.launch_folder / "engine.sqlite").read_bytes()
        kill_at(stage, "back-swap:recorded", "abort")
        lose(stage)
        (stage.launch_folder / "engine.sqlite").write_bytes(former)  # as a backup of the state folder has it
        older = scene.run("launch", "--plain")
        assert older.code == 1 and "older than the ledger" in older.text and "Move" in older.text, older.text
        lose(stage)
        ended = scene.run("launch", "--plain")
        assert ended.code == 5 and "abort ordered by" in ended.text, ended.text
        assert scene.done()["migrate"] == 0
        assert scene.release() == "1.0" and scene.left() == []

        scene.new_launch()
        assert scene.run("launch", "--now", "--plain").code == 0
        kill_at(stage, "back-start-old:recorded", "rollback")
        kill_at(stage, "forth-swap:recorded", "return")
        lose(stage)
        ended = scene.run("launch", "--plain")
        assert ended.code == 0 and "return ordered by" in ended.text, ended.text
        assert scene.release() == "2.0" and scene.done()["back-open"] == 0
    finally:
        scene.close()
