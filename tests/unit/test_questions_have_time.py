"""Questions whose work grows with an application's migrations and models are given the time for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safepoint.config import Release
from safepoint.django.intent import read_intent
from safepoint.django.managepy import Manage
from safepoint.django.operations import read_operations
from safepoint.errors import CommandFailed
from safepoint.hosts.command import Command, Result
from safepoint.hosts.here import Here

# 121 operations of 44 migrations on 150 models take half a minute of a processor; years of them take ten times that.
YEARS_OF_MIGRATIONS = 1800.0


class Slow(Here):
    """A host on which each command takes half an hour."""

    def run(self, command: Command, *, timeout: float | None = None, **others: Any) -> Result:
        said = "answered" if timeout is None or timeout > YEARS_OF_MIGRATIONS else "ran out of time"
        raise CommandFailed(said)


@pytest.mark.parametrize("question", [read_operations, read_intent])
def test_many_migrations_of_many_models_are_answered(question: Callable[[Manage], object], tmp_path: Path) -> None:
    release = Release(version="2.0", start=("true",), stop=("true",), upstream="127.0.0.1:1")
    with pytest.raises(CommandFailed, match="answered"):
        question(Manage(Slow("here", tmp_path), release))
