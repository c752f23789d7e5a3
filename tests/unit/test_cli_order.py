"""Signals as an order: obeyed once, and told."""

from __future__ import annotations

import os
import signal

import pytest

from safepoint.cli.order import ordered


def test_the_first_signal_is_the_order_and_further_ones_are_answered(capfd: pytest.CaptureFixture[str]) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        with ordered("all is put away") as order:
            assert not order()
            os.kill(os.getpid(), signal.SIGTERM)
            assert order() and order.name == "SIGTERM"
            os.kill(os.getpid(), signal.SIGINT)
            assert order.name == "SIGTERM"
        said = capfd.readouterr().err
        assert "SIGTERM: all is put away" in said and "ending already (SIGTERM)" in said
        # The process is about to end with its own exit code, which a late one does not change.
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    with ordered("nothing came"):
        pass
    assert {one: signal.getsignal(one) for one in before} == before
