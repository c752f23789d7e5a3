"""A follower whose own disk refuses something, or goes away: it says so, and goes on once it may."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from replay_ground import RELAX, RELAXED, SHOP, ground
from test_follow import standby

from safepoint.launch.wayback import following
from safepoint.postgres.target import Target


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_AWAY", 0.01)
    monkeypatch.setattr(following, "EVERY", 0.01)


class Heard:
    """What a follower says: it leaves once a round had something, or was hindered as often as one may be."""

    def __init__(self, mend: Callable[[], None] = lambda: None) -> None:
        self.errors: list[Exception] = []
        self.applied, self._mend = 0, mend

    def __call__(self) -> bool:
        return self.applied > 0 or len(self.errors) > 5

    def told(self, look: following.Look) -> None:
        self.applied += look.applied

    def hindered(self, error: Exception) -> None:
        self.errors.append(error)
        self._mend()


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, os.strerror(errno.EIO)), sqlite3.OperationalError("disk I/O error")]
)
def test_what_the_disk_refuses_in_a_round_is_told_and_tried_again(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real, calls = following.carry, list[int]()

    def once(*words: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return real(*words, **more)

    monkeypatch.setattr(following, "carry", once)
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("update customer set name = 'followed' where id = 1")
        heard = Heard()
        following.follow(standby(made), heard, heard.told, heard.hindered)
        assert heard.errors == [error] and heard.applied == 1


def test_a_state_folder_that_is_away_is_waited_for_and_no_other_is_begun(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path / "state", SHOP, RELAX, RELAXED) as made:
        ready, away = standby(made), tmp_path / "away"
        made.drain()
        made.write("update customer set name = 'followed' where id = 1")
        made.folder.rename(away)
        heard = Heard(lambda: away.rename(made.folder) if away.exists() and not made.folder.exists() else None)
        following.follow(ready, heard, heard.told, heard.hindered)
        assert len(heard.errors) == 1 and str(made.folder) in str(heard.errors[0]) and heard.applied == 1
