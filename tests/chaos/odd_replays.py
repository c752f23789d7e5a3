"""An odd world (`odd_schemas`) on a real server: kept level, migrated, written to, carried back, and compared."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from odd_schemas import Maker
from odd_worlds import Effect, quoted
from postgres_servers import drop_database, fresh_database
from replay_ground import Ground, armed, lines, operations

from safepoint.backup import fingerprint
from safepoint.backup.explain import explain
from safepoint.postgres.binaries import Installation
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import Gathering, Telling, UserTable, Words, catalogue_of, write_letters
from safepoint.wayback.affected.fates import Fates
from safepoint.wayback.affected.written import list_written
from safepoint.wayback.capture.capture import How, arm, disarm, drain
from safepoint.wayback.door import entering
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.mapping.mapping import TableRule, WayBack
from safepoint.wayback.replay.replay import READ_ONLY, carry
from safepoint.wayback.stash.reattach import reattach
from safepoint.wayback.stash.stash import keep_stash
from safepoint.wayback.trial.roundtrip import doubtful, round_trip
from safepoint.wayback.twin import level

LAUNCH = "odd-2.0"
SKIPPED = "not a world: "
TABLES = """
select format('%s.%s', n.nspname, c.relname),
       case when relkind = 'r' then 'only ' else '' end || format('%I.%I', n.nspname, c.relname),
       (select json_object_agg(attname, format_type(atttypid, atttypmod)) from pg_attribute
        where attrelid = c.oid and attnum > 0 and not attisdropped)
from pg_class c join pg_namespace n on n.oid = relnamespace
where relkind in ('r', 'p') and not relispartition and nspname = 'public'
"""


def attempt(connection: Connection, statement: str) -> str | None:
    """What PostgreSQL said where it refused."""
    try:
        with connection.transaction():
            connection.execute(statement.encode())
    except psycopg.Error as error:
        return str(error).splitlines()[0]
    return None


@dataclass
class Play:
    """One seed. `shown`: what is done, for a person who looks into a failure."""

    server: Server
    programs: Installation
    seed: int
    folder: Path
    shown: bool = False

    def run(self, tally: Counter[str]) -> None:
        """Play it.

        Raises:
            AssertionError: the twin is not what it must be.
        """
        self.tally, self.maker = tally, Maker(self.seed)
        self.world, self.dice = self.maker.world, random.Random(self.seed * 7919)  # a game
        self.live = fresh_database(self.server)
        self.twin = self.live.on(f"{self.live.dbname}_twin")
        self.shadow: Target | None = None
        self.taken: list[str] = []
        try:
            if self._make():
                with connect(self.live.on("postgres")) as connection:
                    copy = f'create database "{self.twin.dbname}" template "{self.live.dbname}"'
                    connection.execute(copy.encode())
                if self.dice.random() < 0.4:
                    self._keep_level()
                self._launch()
        finally:
            drop_database(self.twin)
            drop_database(self.live.on(f"{self.live.dbname}_shadow"))
            drop_database(self.live)

    def _show(self, words: str) -> None:
        if self.shown:
            print(words[:900], flush=True)

    def _make(self) -> bool:
        with connect(self.live) as connection:
            for statement in self.world.before:
                self._show(statement)
                said = attempt(connection, statement.removeprefix("?"))
                if said and not statement.startswith("?"):
                    self.tally[SKIPPED + said] += 1
                    return False
        return True

    def _write(self) -> None:
        for _ in range(self.dice.randint(1, 12)):
            statements = self.maker.transaction()
            self._transact(self.live, statements)
            if self.shadow is not None:
                self._transact(self.shadow, statements)

    def _transact(self, target: Target, statements: Sequence[str]) -> None:
        shown = target is self.live
        with connect(target, autocommit=False) as connection:
            connection.execute("set statement_timeout = '10s'")
            for statement in statements:
                said = attempt(connection, statement)
                if shown:
                    self._show(f"   {statement} -> {said}")
                    self.tally["refused" if said else "written"] += 1
            try:
                connection.commit()
            except psycopg.Error as error:
                self._show(f"   not committed: {error}")
                connection.rollback()

    # -- a twin that is kept level -------------------------------------------------------------------------------

    def _keep_level(self) -> None:
        how: How = self.dice.choice(("logical", "triggers"))
        facts = arm(self.live, LAUNCH, how)
        try:
            for _ in range(self.dice.randint(1, 3)):
                self._write()
                drain(self.live, facts, self.folder / "level")
                with (
                    entering(self.twin, "postgres") as connection,
                    connect(self.live, options=READ_ONLY) as source,
                ):
                    mapping = level.same_schema(read_catalogue(connection))
                    self._show("== keep level")
                    carry(connection, source, self.folder / "level", mapping, level.MANNER, launch_id=LAUNCH)
        finally:
            disarm(self.live, facts)
        with connect(self.twin) as connection:
            connection.execute("drop schema safepoint cascade")
        one, other = (fingerprint.take(target).tables for target in (self.live, self.twin))
        assert one == other, {name: (one[name], other.get(name)) for name in one if one[name] != other.get(name)}
        self.tally[f"level by {how}"] += 1

    # -- a launch and its way back -------------------------------------------------------------------------------

    def _launch(self) -> None:
        self.maker.migrate()
        skips = any("skip_some()" in one and "create trigger" in one for one in self.world.before)
        if not skips and not self.world.reuses:  # whose triggers see other rows, where they skip some
            self.shadow = self.live.on(f"{self.live.dbname}_shadow")
            with connect(self.live.on("postgres")) as connection:
                copy = f'create database "{self.shadow.dbname}" template "{self.live.dbname}"'
                connection.execute(copy.encode())
        effects = self._migrate()
        how: How = self.dice.choice(("logical", "logical", "triggers"))
        # What an effect is stands as plain text in `odd_schemas`, which knows nothing of Safepoint.
        done = operations(*effects)  # type: ignore[arg-type]
        mappers = self._mappers()
        made = Ground(self.live, self.twin, self.folder, done, mappers, armed(self.live, self.twin, done, mappers, how))
        try:
            mapping = made.mapping()
            assert not mapping.problems, mapping.problems
            trip = round_trip(self.twin, self.live, mapping)
            assert trip.whole, doubtful(mapping, trip)
            policy = self.dice.choice(("row", "row", "transaction"))
            for _ in range(self.dice.randint(1, 4)):
                self._write()
                self._show(f"== carry back: {policy}, {how}")
                told = lines(made.carry(policy=policy), "put_aside")
                assert self.world.relaxes or not told, told[:5]
                for rule in mapping.tables:
                    self._compare(rule, [one for one in told if one["relation"] == rule.old])
                    if not told:
                        self._compare_removed(rule)
                self.tally["told"] += len(told)
            self._people_are_told(made, {rule.old: rule.new for rule in mapping.tables}, told)
            self._attached_again(mapping, told)
            self._restores()
        finally:
            disarm(self.live, made.facts)
        self.tally[f"{policy}, {how}, {'relaxed' if self.world.relaxes else 'strict'}"] += 1

    def _people_are_told(self, made: Ground, news: Mapping[str, str], told: Sequence[dict[str, Any]]) -> None:
        """What was put aside stands in the list of the affected, whichever table is that of the users."""
        labels = [(table, one.now) for table in self.world.tables for one in table.columns if one.now is not None]
        table, label = self.dice.choice(labels)
        out = self.folder / "affected.csv"
        with Gathering(self.folder) as gathering:
            fates = Fates(gathering.store, made.mapping(), catalogue_of(self.live), None)
            fates.load(self.folder / "out" / "put-aside.jsonl")
            telling = Telling(fates, gathering, {})
            list_written(self.live, made.spool, out, user_table=table.now, user_label=label, told=telling)
            users = UserTable(table.now, label, label, (label,))
            write_letters(gathering, self.live, users, Words("odd", "1", "2"), self.folder / "letters.csv", shown=9)
        with out.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["fate"] in ("not carried", "stashed")]
        roots = {leaf: table.now for table in self.world.tables for leaf in table.leaves}
        lost = {(roots.get(row["table"], row["table"]), row["xid"]) for row in rows}
        for one in told:
            name = news.get(one["relation"], one["relation"]).removeprefix("public.")
            # A row that was truncated, and has to stay, is told by its key; the list has a line for the table.
            assert one["action"] == "delete" or (name, str(one["xid"])) in lost, (one, lost)
        assert self.world.relaxes or not lost, lost

    def _migrate(self) -> list[Effect]:
        effects = []
        with connect(self.live) as connection:
            for statement, effect, column in self.world.steps:
                said = attempt(connection, statement)
                self._show(f"{statement} -> {said}")
                if said:
                    self.maker.refused(effect, column)
                    continue
                self.taken.append(statement)
                if self.shadow is not None and (effect is None or effect[0] != "column-removed"):
                    with connect(self.shadow) as other:
                        assert attempt(other, statement) is None, statement
                if effect is not None:
                    effects.append(effect)
        return effects

    def _mappers(self) -> dict[str, dict[str, str]]:
        """What the plan says of columns that were merged."""
        found: dict[str, dict[str, str]] = {}
        for table in self.world.tables:
            for column in table.columns:
                if column.back is not None:
                    found.setdefault(f"public.{table.name}", {})[column.name] = column.back
        return found

    def _compare_removed(self, rule: TableRule) -> None:
        """What the migration removed is what it would have been where it had not: the shadow has it still."""
        removed = [one.column for one in rule.columns if one.kind == "restored"]
        if self.shadow is None or not removed or not rule.key:
            return
        olds = [quoted(name) for name in (*(old for old, _ in rule.key), *removed)]
        news = [quoted(name) for name in (*(new for _, new in rule.key), *removed)]
        was = _rows(self.twin, _tables(self.twin)[rule.old][0], olds)
        there = _rows(self.shadow, _tables(self.shadow)[rule.new][0], news)
        assert was == there, (rule.old, "twin", was - there, "as it would have been", there - was)
        self.tally["removed columns compared"] += 1

    def _compare(self, rule: TableRule, told: Sequence[dict[str, Any]]) -> None:
        """Each row is on both sides by the columns that both have, or was told."""
        both = [one for one in rule.columns if one.kind in ("same", "renamed", "retyped")]
        names = [str(one.new) for one in both]
        there, types = _tables(self.live)[rule.new]
        casts = [f"::{types[name]}" if one.kind == "retyped" else "" for one, name in zip(both, names, strict=True)]
        olds = [f"({quoted(one.column)}{cast})" for one, cast in zip(both, casts, strict=True)]
        values = [quoted(name) for name in names]
        for one in rule.columns:
            if one.kind == "mapped":
                olds.append(quoted(one.column))
                values.append(str(one.expression))
        was = _rows(self.twin, _tables(self.twin)[rule.old][0], olds)
        now = _rows(self.live, f"{there} as new", values)
        if was == now:
            return
        found = (rule.old, "twin", was - now, "migrated", now - was, told)
        assert self.world.relaxes and told, found
        if not rule.key or any(one["action"] == "truncate" for one in told):
            return
        places = [names.index(new) for _, new in rule.key]
        keys = {tuple(one["key"].get(new) for _, new in rule.key) for one in told}
        missing, staying = ({tuple(row[place] for place in places) for row in rows} for rows in (now - was, was - now))
        # A row whose key was changed and that was put aside is told by the new one; the twin has it by the old one.
        moved = sum(one["action"] in ("insert", "update") for one in told)
        assert missing <= keys and len(staying - keys) <= moved, found

    def _attached_again(self, mapping: WayBack, told: Sequence[dict[str, Any]]) -> None:
        """The next launch migrates the twin once more: what the old schema had no place for comes back, and what it
        could not hold; each row is as it was then, or told as not kept, or as not attached."""
        rows = self.folder / "out" / "stash.jsonl"
        words = (self.folder, LAUNCH, "2.0", rows, self.live, mapping)
        stash = keep_stash(*words, spool=self.folder / "spool", owner="odd/odd")
        if stash is None:
            return
        again = self.twin.on(f"{self.twin.dbname}_again")
        with connect(self.twin.on("postgres")) as connection:
            connection.execute(f'create database "{again.dbname}" template "{self.twin.dbname}"'.encode())
        try:
            with connect(again) as connection:
                connection.execute("drop schema safepoint cascade")
                old = read_catalogue(connection)
                for statement in self.taken:  # what was refused for a row that is gone by now is no step of it
                    attempt(connection, statement)
            done = reattach(again, old, [stash], {}, launch_id="odd-2.1", out=self.folder / "left.jsonl")
            self.tally["attached again"] += done.values + done.rows
            with (self.folder / "left.jsonl").open(encoding="utf-8") as file:
                left = [json.loads(line) for line in file]
            for rule in mapping.tables:
                there, types = _tables(self.live)[rule.new]
                names = list(types or ())
                now, was = (_rows(target, there, [quoted(name) for name in names]) for target in (again, self.live))
                if not rule.key or now == was:
                    continue
                aside = [one for one in told if one["relation"] == rule.old and not one["kept"]]
                aside += [one for one in left if one["table"] == rule.new]
                assert aside, (rule.new, now - was, was - now, done)
                places = [names.index(new) for _, new in rule.key]
                keys = {tuple(one["key"].get(new) for _, new in rule.key) for one in aside}
                others = {tuple(row[place] for place in places) for row in was - now} - keys
                assert not others or any(one["action"] == "truncate" for one in told), (rule.new, others, aside, done)
        finally:
            drop_database(again)

    def _restores(self) -> None:
        """A dump of the twin can be restored, so all its constraints hold; and it is proven equal, but for a change."""
        check = self.twin.on(f"{self.twin.dbname}_check")
        with connect(self.twin) as connection:
            connection.execute("drop schema safepoint cascade")
        with connect(self.twin.on("postgres")) as connection:
            connection.execute(f'create database "{check.dbname}" template template0'.encode())
        try:
            dump = self._program("pg_dump", self.twin)
            self._program("psql", check, "-qXv", "ON_ERROR_STOP=1", given=dump)
            alarm = fingerprint.compare(fingerprint.take(self.twin), fingerprint.take(check))
            assert not alarm, [str(one) for one in alarm]
            self._changes_are_seen(check)
        finally:
            drop_database(check)

    def _changes_are_seen(self, check: Target) -> None:
        """One value after another is changed, and each change is named."""
        for table in self.dice.sample(self.world.tables, min(3, len(self.world.tables))):
            column = self.dice.choice([one for one in table.columns if one.name and not one.generated])
            name, value = quoted(column.name), self.maker.value(column.type)
            one = f"select tableoid, ctid from {quoted(table.name)} order by ctid limit 1"
            change = f"update {quoted(table.name)} set {name} = {value} where (tableoid, ctid) = ({one})"
            before = _rows(check, quoted(table.name), [name])
            with connect(check) as connection:
                connection.execute("set session_replication_role = replica")
                self._show(f"{change} -> {attempt(connection, change)}")
            if _rows(check, quoted(table.name), [name]) == before:
                continue
            seen = fingerprint.compare(fingerprint.take(self.twin), fingerprint.take(check))
            named = explain(self.twin, check, [one.name for one in seen if one.kind == "table"])
            assert any(column.name in one.columns or one.missing for one in named), (change, seen, named)
            self.tally["changes seen"] += 1

    def _program(self, name: str, target: Target, *words: str, given: bytes = b"") -> bytes:
        env = {**os.environ, **target.env(), **target.secrets()}
        ran = subprocess.run(
            [self.programs.program(name), *words], env=env, input=given, capture_output=True, check=False
        )
        assert ran.returncode == 0, ran.stderr.decode()[:1000]
        return ran.stdout


def _tables(target: Target) -> dict[str, tuple[str, dict[str, str]]]:
    """By `schema.table`: how it stands in SQL, and its columns' types."""
    with connect(target) as connection:
        return {name: (there, types) for name, there, types in connection.execute(TABLES.encode()).fetchall()}


def _rows(target: Target, relation: str, values: Sequence[str]) -> Counter[tuple[str | None, ...]]:
    """Its rows as the output functions write them."""
    said = [f"case when {value} is distinct from null then format('%s', {value}) end" for value in values]
    with connect(target) as connection:
        return Counter(connection.execute(f"select {', '.join(said) or '1'} from {relation}".encode()).fetchall())
