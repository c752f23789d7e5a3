"""Each call by which a rollback makes something durable fails once, in turn: run again it goes on, and nothing is lost,
doubled, or listed twice.
"""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, Ground, ground

from safepoint.errors import StorageError
from safepoint.postgres.target import Target
from safepoint.wayback.affected.written import list_written
from safepoint.wayback.capture.capture import How
from safepoint.wayback.stash.stash import keep_stash

LONG = "a name that is longer than twenty letters"


class Failing:
    """One of the system's calls, as `os` has it: the call of that number fails, and is not carried out."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails, self.calls = 0, 0
        self._real: Callable[..., Any] = getattr(os, name)
        monkeypatch.setattr(os, name, self._call)

    def _call(self, *words: Any, **more: Any) -> Any:
        self.calls += 1
        if self.calls == self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._real(*words, **more)


def roll_back(made: Ground, state: Path) -> None:
    """What of a rollback writes into the state folder."""
    files = made.carry().files
    list_written(made.live, made.spool, made.folder / "affected.csv")
    keep_stash(state, LAUNCH, "2.0", Path(files["stash"]), made.live, made.mapping(), spool=made.spool, owner="shop")


def check(made: Ground, state: Path) -> None:
    """All that was written is carried, put aside or stashed once, and listed once."""
    names = "select id, name from customer where length(name) <= 20 order by id"
    assert made.old(names) == made.new(names)
    outcome = made.replay()
    aside = [json.loads(line)["key"] for line in Path(outcome.files["put_aside"]).read_text().splitlines()]
    assert sorted(int(key["id"]) for key in aside) == [
        row[0] for row in made.new("select id from customer where length(name) > 20 order by id")
    ]
    with (made.folder / "affected.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == outcome.changes + 1
    assert (state / "stash" / LAUNCH / "stash.jsonl").read_bytes() == Path(outcome.files["stash"]).read_bytes()


def each_fails(database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How, call: str) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED, how=how) as made:
        made.write("update purchase set note = 'first' where id = 1")
        made.carry()
        failing = Failing(call, monkeypatch)
        number = total = 1
        while number <= total:
            state = tmp_path / f"state-{number}"
            made.write(f"insert into customer (name) values ('c{number}'), ('{LONG} {number}')")
            failing.calls, failing.fails = 0, number
            with pytest.raises((OSError, StorageError), match="Input/output error"):
                roll_back(made, state)
            failing.calls, failing.fails = 0, 0
            roll_back(made, state)
            total = total if number > 1 else failing.calls  # the first one goes all the way, once it may
            assert (state / "stash" / LAUNCH / "manifest.json").exists()
            number += 1
        assert total >= 5
        check(made, state)


CALLS = pytest.mark.parametrize("call", ["fsync", "replace"])


@CALLS
def test_each_call_that_makes_a_rollback_s_files_durable_may_fail_once(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    each_fails(database, tmp_path, monkeypatch, "logical", call)


@pytest.mark.slow
@CALLS
def test_so_may_each_where_triggers_capture(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    each_fails(database, tmp_path, monkeypatch, "triggers", call)
