"""What takes long and cannot tell how far it is says that it goes on: nobody ends it for a hung one."""

from __future__ import annotations

import inspect as python
import time

import pytest

from safepoint.cli.progress import told_when_slow
from safepoint.django import inspector


def test_it_is_told_again_and_again_on_standard_error_and_not_after_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with told_when_slow("The project is being started", after=0.02):
        time.sleep(0.1)
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("The project is being started: 0 s so far; Ctrl-C ends it.") >= 2
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_what_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with told_when_slow("The project is being started", after=5):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["inspect", "pending", "redirected"])
def test_a_project_has_minutes_to_start_whoever_asks_it(name: str) -> None:
    assert python.signature(getattr(inspector, name)).parameters["timeout"].default >= 600
