"""Following a launch: what is captured is applied to the twin all the time, as long as it is whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from postgres_servers import END_SESSIONS
from replay_ground import LAUNCH, RELAX, RELAXED, SHOP, Ground, ground

from safepoint.errors import Interrupted
from safepoint.launch.wayback import following
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.progress import Progress, never
from safepoint.wayback.capture.capture import How
from safepoint.wayback.replay.manner import NotWhole
from safepoint.wayback.replay.outcome import Outcome
from safepoint.wayback.replay.replay import WRITING
from safepoint.wayback.replay.staging import STAGING

# Values without a home in the old schema are in it, a large one that is left alone, and rows that come and go.
WRITES: tuple[tuple[str, ...], ...] = (
    ("insert into customer (name) values ('a'), ('b')", "insert into purchase (customer_id, total) values (6, 1)"),
    ("update purchase set note = 'first', total = 3 where id = 1", "insert into coupon (code) values ('x')"),
    ("update purchase set note = 'last' where id = 1", "update coupon set code = 'y'"),
    ("update purchase set total = 4 where id = 2",),
    ("delete from purchase_line where purchase_id = 2", "delete from purchase where id = 2"),
    ("update customer set id = 77 where name = 'b'",),
    ("insert into coupon (code) values ('gone')", "delete from coupon where code = 'gone'"),
    ("update customer set name = 'c' where id = 77",),
)


def standby(made: Ground) -> following.Standby:
    return following.Standby(
        made.live, made.twin, "postgres", made.folder, LAUNCH, made.facts, "row", made.mapping(), made.operations, {}
    )


def until(stop: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not stop():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def state(made: Ground) -> list[object]:
    queries = (
        "select id, name, mail from customer order by 1",
        "select id, customer_id, total::text, md5(body), legacy from purchase order by 1",
        "select id, purchase_id, what from purchase_line order by 1",
        "select relation, key::text, values::text from safepoint.stash order by 1, 2",
    )
    return [made.old(query) for query in queries]


def counted(outcome: Outcome) -> tuple[int, ...]:
    return outcome.transactions, outcome.carried + outcome.stashed, outcome.put_aside


@pytest.mark.parametrize("how", ["logical", "triggers"])
def test_a_followed_twin_is_as_one_replay_at_the_end_makes_it_and_only_the_tail_is_left(
    database: Target, new_database: Callable[..., Target], server: object, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path / "followed", SHOP, RELAX, RELAXED, how=how) as made:
        done = threading.Event()
        looks: list[following.Look] = []
        thread = threading.Thread(target=following.follow, args=(standby(made), done.is_set, looks.append))
        thread.start()
        for statements in WRITES[:-1]:
            made.write(*statements)
            time.sleep(0.05)
        until(lambda: sum(look.applied for look in looks) == len(WRITES) - 1)
        # PostgreSQL ends its sessions (a restart does): it goes on.
        with connect(made.live.on("postgres")) as connection:
            connection.execute(END_SESSIONS, [made.live.dbname])
            connection.execute(END_SESSIONS, [made.twin.dbname])
        done.set()
        thread.join(20)
        made.write(*WRITES[-1])
        outcome = made.carry()
        assert counted(outcome) == (len(WRITES), len(WRITES), 0)
        followed = state(made)
    other = new_database(server)
    with ground(other, tmp_path / "at-once", SHOP, RELAX, RELAXED, how=how) as made:
        for statements in WRITES:
            made.write(*statements)
        assert counted(made.carry()) == (len(WRITES), len(WRITES), 0)
        assert state(made) == followed


def test_at_the_first_row_that_the_old_schema_cannot_hold_it_stops_and_the_rest_is_carried_as_one(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        made.write("update customer set name = 'short' where id = 1")
        made.write("update customer set name = repeat('x', 100) where id = 2")
        with pytest.raises(NotWhole, match="1 rows"):
            following.follow(standby(made), lambda: False)
        assert made.old("select name from customer where id < 3 order by id") == [("c1",), ("c2",)]
        made.write("update customer set name = 'mended' where id = 2")
        outcome = made.carry()
        assert (outcome.carried, outcome.put_aside) == (3, 0)
        assert made.old("select name from customer where id < 3 order by id") == [("short",), ("mended",)]


def test_catching_up_tells_how_far_it_is_and_an_order_ends_it_where_it_waits(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, SHOP, RELAX, RELAXED) as made:
        for statements in WRITES:
            made.write(*statements)
        ready, told = standby(made), list[Progress]()
        assert following.catch_up(ready, never, rounds=5, enough=60, report=told.append) == (len(WRITES), 1)
        staged = [one for one in told if one.what == STAGING]
        assert staged[0].done == 0 and (staged[-1].done, staged[-1].total) == (len(WRITES), len(WRITES))
        assert [one.done for one in told if one.what == WRITING] == [0, 1]
        # The next look at the clock is after the first round: as many as may be, where no round is quick enough.
        assert following.catch_up(ready, never, rounds=3, enough=0) == (0, 3)
        made.write("insert into customer (name) values ('late')")
        with connect(made.twin, autocommit=False) as holding:
            holding.execute("lock table customer")
            began = time.monotonic()
            with pytest.raises(Interrupted):
                following.catch_up(ready, lambda: time.monotonic() > began + 0.3, rounds=5, enough=1)
            assert time.monotonic() - began < 3  # a lock would be waited for longer
        assert following.catch_up(ready, never, rounds=5, enough=60) == (1, 1)
        assert made.old("select count(*) from customer where name = 'late'") == [(1,)]
