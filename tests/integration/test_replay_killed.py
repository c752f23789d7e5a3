"""The replay killed: nothing is lost, and nothing stands twice."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, ask, ground

from safepoint.postgres.target import Target

KILLED = """
import os, signal, sys
from pathlib import Path
from safepoint.postgres.target import Target
from safepoint.wayback.replay import applying, records, replay as room
from safepoint.wayback.capture.capture import drain
from safepoint.wayback.mapping.mapping import WayBack
import json
twin, live = (Target(*one) for one in {targets!r})
point = {point!r}
place = next((one for one in (records, applying, room) if hasattr(one, point)), None)
real = getattr(place, point, None)
def killed(*words):
    if point == "record":
        real(*words)
    os.kill(os.getpid(), signal.SIGKILL)
if point == "after":
    mapping = WayBack.from_json(json.loads(Path({mapping!r}).read_text()))
    room.replay(twin, live, Path({spool!r}), mapping, launch_id={launch!r}, out=Path({out!r}))
    os.kill(os.getpid(), signal.SIGKILL)
setattr(place, point, killed)
mapping = WayBack.from_json(json.loads(Path({mapping!r}).read_text()))
room.replay(twin, live, Path({spool!r}), mapping, launch_id={launch!r}, out=Path({out!r}))
"""


@pytest.mark.parametrize("point", ["merge", "raise_sequences", "write_files", "record", "after"])
def test_killed_before_or_after_its_commit_nothing_is_lost_and_nothing_stands_twice(
    database: Target, tmp_path: Path, point: str
) -> None:
    before, threads = SHOP + "create table tally (what text);", threading.active_count()
    with ground(database, tmp_path, before, RELAX, RELAXED) as made:
        made.write("insert into customer (name) values ('a'), ('b')", "insert into tally values ('one')")
        made.write("delete from purchase_line where id = 1", "update customer set name = 'c' where id = 1")
        made.drain()
        mapping = tmp_path / "mapping.json"
        mapping.write_text(json.dumps(made.mapping().as_json()))
        targets = [(one.host, one.port, one.dbname, one.user, one.password) for one in (made.twin, made.live)]
        code = KILLED.format(
            targets=targets,
            point=point,
            mapping=str(mapping),
            spool=str(made.spool),
            launch=LAUNCH,
            out=str(tmp_path / "out"),
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == -9, done.stderr
        outcome = made.replay()
        assert outcome.already is (point == "after") and outcome.carried == 2
        made.write("insert into tally values ('two')")
        assert made.carry().transactions == 3  # all so far
        assert made.replay().already
        for query in ("select name from customer order by id", "select * from tally", "select id from purchase_line"):
            assert sorted(made.old(query)) == sorted(made.new(query))
        # What is noted does not grow with the number of replays: a follower makes one each second.
        assert ask(made.twin, "select count(*) from safepoint.replays") == [(1,)]
        assert threading.active_count() <= threads


@pytest.mark.slow
def test_killed_at_random_instants_the_end_is_the_same(database: Target, tmp_path: Path) -> None:
    """Some forty kills, spread over the whole replay; then one that is left alone."""
    with ground(database, tmp_path, SHOP + "create table tally (n int);", RELAX, RELAXED) as made:
        made.write(
            "insert into customer (name) select 'n' || n from generate_series(1, 20000) n",
            "insert into tally select n from generate_series(1, 20000) n",
            "update customer set mail = 'm' || id",
        )
        made.drain()
        mapping = tmp_path / "mapping.json"
        mapping.write_text(json.dumps(made.mapping().as_json()))
        words = {
            "targets": [(one.host, one.port, one.dbname, one.user, one.password) for one in (made.twin, made.live)],
            "mapping": str(mapping),
            "spool": str(made.spool),
            "launch": LAUNCH,
            "out": str(tmp_path / "out"),
        }
        code = KILLED.format(point="after", **words)
        for number in range(40):
            process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
            try:
                process.wait(0.3 + number * 0.04)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        outcome = made.replay()
        assert (outcome.carried, outcome.put_aside) == (1, 0)
        for query in ("select id, name, mail from customer", "select n from tally"):
            assert sorted(made.old(query)) == sorted(made.new(query))
        assert ask(made.twin, "select count(*) from safepoint.replays") == [(1,)]
