"""A router that is restarted has its own configuration again: nobody is told then that people are on the release."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from scene import Scene
from stage import Stage

from safepoint.routers.embedded import initial_config


def test_a_router_that_forgot_its_orders_is_seen_by_the_watch(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500)
    scene = Scene(stage)
    scene.new_launch(lambda text: text.replace('duration = "0s"', 'duration = "60s"'))
    try:
        live = scene.conduct("launch", "--now")
        live.until("step.begun", "watch", 60)
        # As a restart does: what it was told by its admin API is gone, and its file names the old release.
        router, old = stage.plan.router, stage.plan.releases.old.upstream
        ports = [int(url.rsplit(":", 1)[1]) for url in (router.url, router.admin)]  # type: ignore[union-attr]
        httpx.post(f"{router.admin}/load", json=initial_config(*ports, old)).raise_for_status()  # type: ignore[union-attr]
        live.until("ask", "watch", 20)
        asked = scene.status()["question"]["question"]
        assert f"open {stage.plan.releases.new.upstream}" in asked and f"open {old}" in asked
        assert scene.release() is None
        assert scene.run("abort").code == 0
        assert live.end().code == 5
        assert scene.release() == "1.0"
    finally:
        scene.close()
