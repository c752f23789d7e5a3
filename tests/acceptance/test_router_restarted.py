"""A router that is restarted has its own configuration again: nobody is told then that people are on the release."""

from __future__ import annotations

import signal
from collections.abc import Callable

import httpx
import pytest
from scene import Scene
from stage import Stage

from safepoint.config import AnyRouter
from safepoint.routers.embedded import initial_config


def restart(router: AnyRouter, upstream: str) -> None:
    """As a restart does it: what was ordered by the admin API is gone, and the router's file names the old release."""
    ports = [int(url.rsplit(":", 1)[1]) for url in (router.url, router.admin)]  # type: ignore[union-attr]
    httpx.post(f"{router.admin}/load", json=initial_config(*ports, upstream)).raise_for_status()  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_router_that_forgot_its_orders_is_seen_by_the_watch(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage(lines=500)
    scene = Scene(stage)
    scene.new_launch(
        lambda text: text.replace('hold = "0s"', 'hold = "30s"').replace('duration = "0s"', 'duration = "60s"')
    )
    old, new = stage.plan.releases.old.upstream, stage.plan.releases.new.upstream
    try:
        live = scene.conduct("launch", "--now")
        live.until("step.begun", "stop-traffic", 60)
        live.process.send_signal(signal.SIGHUP)  # the terminal is closed, and the site, too: the launch goes on
        live.until("step.begun", "canary", 60)
        restart(stage.plan.router, old)
        live.until("ask", "gate-green", 20)
        told = scene.status()
        assert f"split {new}" in told["question"]["question"]
        # Once that is mended the gate looks again, and not at what it saw before.
        stage.router.split(new, 10)
        assert scene.run("retry").code == 0

        live.until("step.begun", "watch", 20)
        restart(stage.plan.router, old)
        live.until("ask", "watch", 20)
        asked = scene.status()["question"]["question"]
        assert f"open {new}" in asked and f"open {old}" in asked
        assert scene.release() is None
        assert scene.run("abort").code == 0
        assert live.end().code == 5
        assert scene.release() == "1.0"
    finally:
        scene.close()
