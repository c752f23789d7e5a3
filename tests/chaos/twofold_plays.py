"""A world (`twofold_worlds`) on a real server: captured twice, carried back three times, held against one truth.

Every statement is carried out in two databases: in the live one, which both captures look at, and in its shadow, which
kept what the migration removed. So what the twin must be is read from the shadow's rows, and from nothing that the
replay works with. Three twins are carried into: from the log and from the triggers at once, and from the log in
batches, killed in between.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from odd_worlds import quoted
from postgres_servers import drop_database, fresh_database
from replay_ground import operations
from twofold_guards import Guards
from twofold_rows import SCHEMAS, attempt
from twofold_schemas import World
from twofold_since import Since
from twofold_truth import Truth
from twofold_writes import SESSIONS, Course, Step

from safepoint.errors import DatabaseError, Interrupted
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import CaptureFacts, How, arm, disarm, drain
from safepoint.wayback.door import entering
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.mapping.deriving import plan_mapping
from safepoint.wayback.mapping.mapping import WayBack
from safepoint.wayback.replay.manner import Manner, NotWhole, Policy
from safepoint.wayback.replay.outcome import Outcome
from safepoint.wayback.replay.replay import READ_ONLY, carry, replay
from safepoint.wayback.trial.roundtrip import doubtful, round_trip
from safepoint.wayback.twin import level

TRIGGERS_OWN = "safepoint_capture.changes, safepoint_capture.forgotten"
LAUNCHES = {"triggers": "twofold-2", "log": "twofold-1"}  # in the order of arming: the log tells of the other


class NoWorld(Exception):
    """PostgreSQL refused the drawn schema."""


@dataclass
class Play:
    """One seed. `shown`: what is done, for a person who looks into a failure."""

    server: Server
    seed: int
    folder: Path
    shown: bool = False
    tally: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Play it.

        Raises:
            NoWorld: see there.
            AssertionError: something is not what it must be.
        """
        self.world = World(self.seed, self.server.installation.major)
        self.course = Course(self.world, self.seed * 31 + 7)
        self.dice = random.Random(self.seed * 7919)  # a game
        self.live = fresh_database(self.server)
        self.shadow, *self.twins = (self.live.on(f"{self.live.dbname}_{one}") for one in ("s", "log", "trg", "bat"))
        admins = self.live, self.shadow, *self.twins
        self.writing = self.live, self.shadow
        self.guards = Guards.of(self.live) if self.dice.random() < 0.2 else None
        try:
            self._make()
            if self.guards is not None:
                self.live, _, *self.twins = (self.guards.own(one) for one in admins)
                self.tally["ordinary roles"] += 1
            self._captured()
        finally:
            for target in admins:
                drop_database(target)
            if self.guards is not None:
                self.guards.drop()

    def _show(self, words: str) -> None:
        if self.shown:
            print(words[:1500], flush=True)

    def _make(self) -> None:
        with connect(self.live) as connection:
            for statement in self.world.before:
                self._show(statement)
                said = attempt(connection, statement.removeprefix("?"))
                if said and not statement.startswith("?"):
                    raise NoWorld(said)
        if self.guards is not None:
            self.guards.give(self.live, self.world, self.dice)
        with connect(self.live.on("postgres")) as connection:
            small = f"alter database \"{self.live.dbname}\" set logical_decoding_work_mem = '64kB'"
            connection.execute(small.encode())  # what is more than that is written to disk while it is decoded
            for copy in (self.shadow, *self.twins):
                words = f'create database "{copy.dbname}" template "{self.live.dbname}" strategy file_copy'
                connection.execute(words.encode())
            for one in (self.live, self.shadow, *self.twins):  # what the application finds its tables by
                connection.execute(f'alter database "{one.dbname}" set search_path = public, other'.encode())
        with connect(self.live) as live, connect(self.shadow) as shadow:
            for statement, effect in self.world.steps:
                self._show(statement)
                said, may = attempt(live, statement.removeprefix("?")), statement[0] == "?"
                if said and not may:
                    raise NoWorld(f"{said}: {statement}")
                stays = effect is not None and effect[0] == "column-removed" and statement not in self.world.both
                if not stays and (other := attempt(shadow, statement.removeprefix("?"))) != said:
                    raise NoWorld(f"{other}: {statement}")

    # -- what is written -----------------------------------------------------------------------------------------

    def _captured(self) -> None:
        whole = self._mapping().stash
        facts = {name: arm(self.live, launch, HOW[name], whole=whole) for name, launch in LAUNCHES.items()}
        self._publish_ours(facts["log"])
        try:
            self.mapping = self._mapping()
            self.policy: Policy = self.dice.choice(("row", "row", "transaction")) if self.world.relaxes else "row"
            self.truth = Truth(self.world, self.live, self.shadow, self.folder, self.mapping, self.policy, self.tally)
            self._write(facts)
            for name, one in facts.items():
                drain(self.live, one, self.folder / name)
            self._carry_all()
        finally:
            for one in facts.values():
                disarm(self.live, one)

    def _publish_ours(self, facts: CaptureFacts) -> None:
        """What the triggers note is not published: no replay knows those tables."""
        with connect(self.live) as connection, connection.transaction():
            name = quoted(facts.publication)
            if self.guards is not None:  # where single tables are published
                connection.execute(f"alter publication {name} drop table {TRIGGERS_OWN}".encode())
                return
            row = connection.execute(
                "select obj_description(oid, 'pg_publication') from pg_publication where pubname = %s",
                [facts.publication],
            ).fetchone()
            computed = " with (publish_generated_columns = stored)" if self.server.installation.major >= 18 else ""
            connection.execute(f"drop publication {name}".encode())
            connection.execute(f"create publication {name} for tables in schema {SCHEMAS}{computed}".encode())
            said = str(row[0] if row else "").replace("'", "''")
            connection.execute(f"comment on publication {name} is '{said}'".encode())

    def _mapping(self) -> WayBack:
        if not self.world.migrates:
            with connect(self.live) as connection:
                return level.same_schema(read_catalogue(connection))
        effects = [effect for _, effect in self.world.steps if effect is not None]
        with connect(self.twins[0]) as old, connect(self.live) as new:
            found = plan_mapping(read_catalogue(old), read_catalogue(new), operations(*effects), self._mappers())  # type: ignore[arg-type]
        assert not found.problems, found.problems
        trip = round_trip(self.twins[0], self.live, found)
        if self.world.unlike:  # of values that are only changed by a cascade nobody said anything
            if any(one.columns or one.failed for one in trip.tables):
                raise NoWorld("the migration changes values")
            return found
        assert trip.whole, doubtful(found, trip)
        return found

    def _mappers(self) -> dict[str, dict[str, str]]:
        """What the plan says of values that were moved."""
        found: dict[str, dict[str, str]] = {}
        for table in self.world.tables:
            for column in table.columns:
                if column.back:
                    found.setdefault(table.old, {})[column.name] = column.back
        return found

    def _write(self, facts: dict[str, CaptureFacts]) -> None:
        """All steps, in both databases; what comes so far is drained, and carried into the last twin, in between."""
        self.whole = True
        since = Since(self.world, self.dice)
        live, shadow = self.writing
        with _sessions(live, self.guards) as lives, _sessions(shadow, self.guards) as shadows:
            for _ in range(self.dice.randint(1, 4)):
                steps = self.course.steps(self.dice.randint(10, 60))
                ends = self.dice.random() < 0.6
                for step in [*steps, *(self.course.ending() if ends else ())]:
                    self._step(step, lives, shadows)
                if ends and self.world.migrates:
                    self._alter(since, lives, shadows, facts)
                if self.dice.random() < 0.7:
                    for name, one in facts.items():
                        drain(self.live, one, self.folder / name)
                    self._carry_batch()
            for step in self.course.ending():
                self._step(step, lives, shadows)

    def _alter(
        self, since: Since, lives: Sequence[Connection], shadows: Sequence[Connection], facts: dict[str, CaptureFacts]
    ) -> None:
        """Somebody changes the schema, while no session is in the middle of something."""
        if self.dice.random() < 0.3:
            words, known = since.draw()
            if self._step(Step(SESSIONS, "ddl", words), lives, shadows):
                known()
        if self.dice.random() < 0.2:
            away, back, other, own = since.rename()
            if self._step(Step(SESSIONS, "ddl", away), lives, shadows):
                other()
                for step in [*self.course.steps(self.dice.randint(5, 20)), *self.course.ending()]:
                    self._step(step, lives, shadows)
                if self.dice.random() < 0.5:
                    for name, one in facts.items():
                        drain(self.live, one, self.folder / name)
                assert self._step(Step(SESSIONS, "ddl", back), lives, shadows)
                own()

    def _step(self, step: Step, lives: Sequence[Connection], shadows: Sequence[Connection]) -> bool:
        said = [_do(step, one[step.session]) for one in (lives, shadows)]
        self._show(f"   {step.session} {step.do} {step.words} -> {said[0]}")
        self.tally["refused" if said[0] else step.do] += 1
        if said[0]:
            self.tally[f"  {said[0][:50]}"] += 1
        if (said[0] is None) != (said[1] is None):
            raise NoWorld(f"the shadow says another thing: {said} {step}")
        return not said[0]

    # -- carried back --------------------------------------------------------------------------------------------

    def _carry_batch(self) -> None:
        """Only whole batches are carried before the end, as a follower does."""
        if not self.whole:
            return
        manner = Manner(only_whole=True) if self.world.migrates else level.MANNER
        words = {"launch_id": LAUNCHES["log"], "out": self.folder / "bat.out"}
        try:
            with (
                self._struck(),
                connect(self.live, options=READ_ONLY, lock_timeout=0.2) as source,  # a session may have emptied a table
                entering(self.twins[2], "postgres") as connection,
            ):
                self.holder = connection.info.backend_pid
                carry(connection, source, self.folder / "log", self.mapping, manner, **words)
                self.tally["batches"] += 1
        except NotWhole:
            assert self.world.relaxes or any(table.moved for table in self.world.tables)
            self.whole = False
        except (DatabaseError, psycopg.Error):
            self.tally["struck"] += 1

    @contextmanager
    def _struck(self) -> Iterator[None]:
        """Perhaps the replay's session is ended, at some moment of it."""
        self.holder = 0
        if self.dice.random() < 0.6:
            yield
            return

        def strike() -> None:
            with connect(self.writing[0].on("postgres")) as connection:
                connection.execute("select pg_terminate_backend(%s) where %s > 0", [self.holder, self.holder])

        timer = threading.Timer(self.dice.random() * 0.4, strike)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def _carry_all(self) -> None:
        outs = {}
        for twin, name, spool in zip(self.twins, ("log", "trg", "bat"), ("log", "triggers", "log"), strict=True):
            out = self.folder / f"{name}.out"
            words: dict[str, Any] = {"launch_id": LAUNCHES[spool], "out": out, "policy": self.policy}
            if name == "bat":  # an order to end comes in the middle, and then it is done again
                left = [self.dice.randint(0, 12)]

                def ordered(left: list[int] = left) -> bool:
                    left[0] -= 1
                    return left[0] == 0

                try:
                    self._replay(twin, spool, cancelled=ordered, **words)
                except Interrupted:
                    self.tally["interrupted"] += 1
            outs[name] = self._replay(twin, spool, **words)
            self.truth.holds(twin)
        for twin, name in zip(self.twins, outs, strict=True):
            self.truth.is_true(twin, name, outs[name])
            self.truth.stashed(name)
            self.truth.decoys(twin, name)
            if self.world.migrates:  # of a twin that is kept level they are set when it is finished
                self.truth.sequences(twin)
        self.truth.alike(outs)
        if not self.world.migrates:
            self.tally["kept level"] += 1
            return
        if not self.world.relaxes:
            self.truth.attached_again(self.twins[2], LAUNCHES["log"])
        lists = {
            name: self.truth.listed(name, spool, outs[name].partitions)
            for name, spool in (("log", "log"), ("trg", "triggers"))
        }
        assert lists["log"] == lists["trg"], ("lists", lists["log"] - lists["trg"], lists["trg"] - lists["log"])
        self.tally[f"relaxed, by {self.policy}" if self.world.relaxes else "strict"] += 1

    def _replay(self, twin: Target, spool: str, **words: Any) -> Outcome:
        if self.world.migrates:
            return replay(twin, self.live, self.folder / spool, self.mapping, **words)
        del words["policy"]
        with entering(twin, "postgres") as connection, connect(self.live, options=READ_ONLY) as source:
            return carry(connection, source, self.folder / spool, self.mapping, level.MANNER, **words)


HOW: dict[str, How] = {"log": "logical", "triggers": "triggers"}


@contextmanager
def _sessions(target: Target, guards: Guards | None) -> Iterator[list[Connection]]:
    """The application's, and behind them one of who may change the schema."""
    found: list[Connection] = []
    login = target if guards is None else target.login(guards.application, "x")
    try:
        for one in (*[login] * SESSIONS, target):
            found.append(connect(one))
            found[-1].execute(
                "set lock_timeout = '30ms'; set statement_timeout = '5s'; set client_min_messages = error"
            )
        yield found
    finally:
        for one in found:
            one.close()


def _do(step: Step, connection: Connection) -> str | None:
    """Carry out one step; what PostgreSQL said where it refused: then the transaction goes on without it."""
    gid = f"{connection.info.dbname}_{step.words}"
    words = {
        "begin": "begin",
        "savepoint": f"savepoint {step.words}",
        "release": f"release {step.words}",
        "back": f"rollback to {step.words}",
        "commit": "commit",
        "rollback": "rollback",
        "prepare": f"prepare transaction '{gid}'",
        "finish": f"commit prepared '{gid}'",
        "statement": step.words,
        "ddl": step.words,
    }[step.do]
    if step.do == "statement":
        connection.execute("savepoint one")
        said = attempt(connection, words)
        connection.execute("rollback to one" if said else "release one")
        return said
    said = attempt(connection, words)
    if said and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        connection.execute("rollback")
    return said
