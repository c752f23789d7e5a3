"""What several sessions do to a migrated world at the same time, drawn step by step as SQL text. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from odd_worlds import quoted
from twofold_exchanges import Exchanges
from twofold_schemas import World
from twofold_worlds import VALUES, Column, Table, insertion

Do = Literal["begin", "statement", "savepoint", "release", "back", "commit", "rollback", "prepare", "finish", "ddl"]
SESSIONS = 3
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_-.:'")


@dataclass(frozen=True)
class Step:
    """One step of one session. `words`: the statement, or the name of a savepoint or of a prepared transaction."""

    session: int
    do: Do
    words: str = ""


class Course(Exchanges):
    """Draws steps. What a session is in the middle of is known here: which steps follow depends on no answer."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.dice = world, random.Random(seed)  # a game
        self.open: list[list[str] | None] = [None] * SESSIONS
        self.prepared: list[str] = []
        self.count = 0

    def chance(self, part: float) -> bool:
        return self.dice.random() < part

    def steps(self, number: int) -> list[Step]:
        found: list[Step] = []
        while len(found) < number:
            # Mostly one after another, as a person's requests come; sometimes all of them at once.
            session = self.dice.choice((0, 0, 0, 0, 1, 1, 2))
            found += self._next(session)
        return found

    def ending(self) -> list[Step]:
        """All that is open ends somehow."""
        found = []
        for session, saved in enumerate(self.open):
            if saved is not None:
                found.append(Step(session, "commit" if self.chance(0.8) else "rollback"))
        found += [Step(0, "finish", name) for name in self.prepared]
        self.open, self.prepared = [None] * SESSIONS, []
        return found

    def _next(self, session: int) -> list[Step]:
        saved, roll = self.open[session], self.dice.random()
        if saved is None:
            if self.prepared and roll < 0.3:
                return [Step(session, "finish", self.prepared.pop(self.dice.randrange(len(self.prepared))))]
            self.open[session] = []
            return [Step(session, "begin"), Step(session, "statement", self.statement())]
        if roll < 0.07:
            return [Step(session, "statement", one) for one in self.exchanges(self.dice.choice(self.world.tables))]
        if roll < 0.55:
            return [Step(session, "statement", self.statement())]
        if roll < 0.65:
            self.count += 1
            saved.append(f"s{self.count}")
            return [Step(session, "savepoint", saved[-1])]
        if roll < 0.73 and saved:
            return [Step(session, "release", saved.pop())]
        if roll < 0.80 and saved:
            return [Step(session, "back", saved[-1])]
        self.open[session] = None
        if roll < 0.95:
            return [Step(session, "commit")]
        if roll < 0.97 and len(self.prepared) < 2:
            self.count += 1
            self.prepared.append(f"p{self.count}")
            return [Step(session, "prepare", self.prepared[-1])]
        return [Step(session, "rollback")]

    # -- statements ----------------------------------------------------------------------------------------------

    def statement(self) -> str:
        table = self.dice.choice(self.world.tables)
        roll = self.dice.random()
        if self.world.decoys and self.chance(0.06):
            return self._decoy()
        if roll < 0.26:
            return self._insert(table)
        if roll < 0.29:
            return self._many(table)
        if roll < 0.315:
            return self._copy(table)
        if roll < 0.36 and table.key and table.kind != "late":
            return self._upsert(table)
        if roll < 0.56:
            return self._update(table)
        if roll < 0.72 and table.key:
            return self._rekey(table)
        if roll < 0.86:
            return f"delete from {self._target(table)} where {self._which(table)}"
        if roll < 0.94:
            return self._again(table)
        return self._seldom(table)

    def _seldom(self, table: Table) -> str:
        roll = self.dice.random()
        if roll < 0.2:
            return self._swap(table)
        if roll < 0.35:
            return self._sequence(table)
        if roll < 0.65:
            words = self.dice.choice(("", " cascade", " restart identity cascade"))
            both = f", {self._target(self.dice.choice(self.world.tables))}" if self.chance(0.3) else ""
            return f"truncate {self._target(table)}{both}{words}"
        return f"set constraints all {self.dice.choice(('deferred', 'immediate'))}"

    def _target(self, table: Table) -> str:
        if table.leaves and self.chance(0.25):
            return quoted(self.dice.choice(table.leaves))
        return quoted(table.now)

    def _number(self) -> int:
        return self.dice.choice((self.dice.randint(1, 12), self.dice.randint(1, 40)))

    def _insert(self, table: Table) -> str:
        rows = [self.world.cells(table, self._number()) for _ in range(self.dice.choice((1, 1, 1, 2, 4)))]
        clash = " on conflict do nothing" if self.chance(0.15) else ""
        return insertion(table.now, *rows, clash=clash)

    def _decoy(self) -> str:
        """To a table that only has the name of another one."""
        place, number = f"side.{quoted(self.dice.choice(self.world.decoys))}", self.dice.randint(1, 9)
        return self.dice.choice(
            (
                f"insert into {place} values ({number}, 'a') on conflict (\"id\") do update set \"what\" = 'b'",
                f'delete from {place} where "id" = {number}',
                f'update {place} set "id" = "id" + 10 where "id" = {number}',
            )
        )

    def _many(self, table: Table) -> str:
        """A batch in one statement; its keys are its own."""
        cells = self.world.cells(table, 0)
        self.count += 1
        base = 1000 * self.count
        for column in table.key:
            name = str(column.now)
            if column.bound and name in cells and not cells[name].startswith("(select"):
                cells[name] = {
                    "uuid": "md5(g::text)::uuid",
                    "daterange": cells[name],
                    "text": "'en'" if column.name == "lang" else "'m' || g",
                }.get(column.type, "g" if column.name != "region" else "g % 7")
        if not cells:
            return insertion(table.now, cells)
        names = ", ".join(map(quoted, cells))
        rows = self.dice.choice((5, 40, 40, 400))
        source = f"generate_series({base}, {base + rows}) g"
        values = ", ".join(cells.values()).replace("default", "null")
        return f"insert into {quoted(table.now)} ({names}) overriding system value select {values} from {source}"

    def _copy(self, table: Table) -> str:
        """Rows by COPY, as the server's own program says them."""
        cells = {name: value for name, value in self.world.cells(table, 0).items() if set(value) <= _PLAIN}
        self.count += 1
        for column in table.key:
            name = str(column.now)
            if name in cells and column.type == "int4" and name != "region":
                cells[name] = "{}"
            elif name in cells and column.type == "text" and column.name != "lang":
                cells[name] = "c{}"
        if not cells or table.kind == "uuid":  # whose keys would be each database's own
            return self._insert(table)
        line = "|".join(value.split("::")[0].strip("'").replace("null", "") for value in cells.values())
        first = self.dice.choice((self._number(), 1000 * self.count))
        rows = "".join(line.replace("{}", str(first + place)) + "\\n" for place in range(self.dice.choice((1, 3, 30))))
        names = ", ".join(map(quoted, cells))
        return f"copy {quoted(table.now)} ({names}) from program $p$printf '{rows}'$p$ (delimiter '|', null '')"

    def _swap(self, table: Table) -> str:
        """Two rows exchange what only one of them may have."""
        some = [one for one in table.current if one.type in ("int4", "mood", "date") and not one.identity]
        if not some:
            return self._insert(table)
        column = self.dice.choice(some)
        name, one, other = quoted(str(column.now)), self.world.value(column.type), self.world.value(column.type)
        change = f"case when {name} = {one} then {other} else {one} end"
        return f"update {self._target(table)} set {name} = {change} where {name} in ({one}, {other})"

    def _sequence(self, table: Table) -> str:
        """A number is taken, or said."""
        some = [one for one in table.current if one.identity]
        if not some:
            return self._update(table)
        name = "'" + quoted(table.now) + f"', '{self.dice.choice(some).now}'"
        number = self.dice.choice((self._number(), 200, 700))
        return self.dice.choice(
            (
                f"select setval(pg_get_serial_sequence({name}), {number})",
                f"select nextval(pg_get_serial_sequence({name})) from generate_series(1, 20)",
            )
        )

    def _upsert(self, table: Table) -> str:
        cells = self.world.cells(table, self._number())
        free = [one for one in table.current if one not in table.key]
        if not free or any(str(one.now) not in cells for one in table.key):
            return self._insert(table)
        key = ", ".join(quoted(str(one.now)) for one in table.key)
        if self.chance(0.3) and table.kind != "id":
            match = " and ".join(f"t.{quoted(str(one.now))} = s.{quoted(str(one.now))}" for one in table.key)
            names = ", ".join(map(quoted, cells))
            sets = self._sets(self.dice.sample(free, 1))
            what = self.dice.choice((f"update set {sets}", "delete", "do nothing"))
            values = ", ".join(f"s.{quoted(name)}" for name in cells)
            source = ", ".join(f"({value}) as {quoted(name)}" for name, value in cells.items())
            return (
                f"merge into {quoted(table.now)} t using (select {source}) s on {match} "
                f"when matched then {what} when not matched then insert ({names}) values ({values})"
            )
        sets = self._sets(self.dice.sample(free, self.dice.randint(1, min(2, len(free)))))
        return insertion(table.now, cells, clash=f" on conflict ({key}) do update set {sets}")

    def _sets(self, columns: list[Column]) -> str:
        return ", ".join(f"{quoted(str(one.now))} = {self._set(one)}" for one in columns)

    def _set(self, column: Column) -> str:
        if column.identity:
            return "default"
        if column.type not in ("int4",) or self.chance(0.6):
            return self.world.cell(column) if column.type in VALUES else quoted(str(column.now))
        return f"{quoted(str(column.now))} + {self.dice.choice((1, -1))}"

    def _update(self, table: Table) -> str:
        target = self._target(table)
        if table.references and self.chance(0.3):
            reference = self.dice.choice(table.references)
            cells = self.world.reference(reference, old=False)
            sets = ", ".join(f"{quoted(name)} = {value}" for name, value in cells.items())
        else:
            free = [one for one in table.current if one not in table.key]
            if not free:
                return self._rekey(table)
            sets = self._sets(self.dice.sample(free, min(len(free), self.dice.choice((1, 1, 2)))))
            if self.chance(0.15):  # which changes nothing
                name = quoted(str(self.dice.choice(free).now))
                sets = f"{name} = {name}"
        return f"update {target} set {sets} where {self._which(table)}"

    def _rekey(self, table: Table) -> str:
        """Other keys: of one row, of all, of two that exchange theirs, to another partition."""
        if not table.key:
            return self._update(table)
        column = self.dice.choice(table.key)
        name, roll = quoted(str(column.now)), self.dice.random()
        target = self._target(table)
        if column.type == "int4" and column.name != "region":
            if roll < 0.2:
                shift = self.dice.choice((1, -1, 50, -50))
                return f"update {target} set {name} = {name} + {shift} where {self._which(table)}"
            if roll < 0.35 and table.kind == "late":
                return f"update {target} set {name} = case {name} when 1 then 2 else 1 end where {name} in (1, 2)"
            return f"update {target} set {name} = {self._number()} where {self._which(table, one=True)}"
        if column.name == "region":
            value = self.dice.choice((f"{name} + 1", f"6 - {name}", str(self.dice.randint(0, 6))))
            return f"update {target} set {name} = {value} where {self._which(table)}"
        if column.name == "parent":
            cells = self.world.reference(table.references[0], old=False)
            return f"update {target} set {name} = {cells[str(column.now)]} where {self._which(table, one=True)}"
        value = self.world.key_value(column, self._number())
        return f"update {target} set {name} = {value} where {self._which(table, one=True)}"

    def _again(self, table: Table) -> str:
        """Deleted and inserted again under the same key, by one statement."""
        names = ", ".join(quoted(str(one.now)) for one in table.current)
        changed = [one for one in table.current if one not in table.key and one.type in VALUES]
        values = names
        if changed and self.chance(0.6):
            one = self.dice.choice(changed)
            name, value = quoted(str(one.now)), self.world.cell(one)
            values = ", ".join(value if part == name else part for part in names.split(", "))
        return (
            f"with gone as (delete from {quoted(table.now)} where {self._which(table)} returning *) "
            f"insert into {quoted(table.now)} ({names}) overriding system value select {values} from gone"
        )

    def _which(self, table: Table, *, one: bool = False) -> str:
        roll = self.dice.random()
        names = [quoted(str(column.now)) for column in (table.key or table.current)]
        if one or roll < 0.55:
            key = ", ".join(names)
            order = ", ".join(f"{name}::text" for name in names)
            limit = 1 if one or self.chance(0.6) else self.dice.randint(2, 4)
            at = self.dice.randint(0, 6)
            if not table.key:
                row = f"row({key})::text"
                return f"row({key})::text = (select {row} from {quoted(table.now)} order by 1 offset {at} limit 1)"
            return f"({key}) in (select {key} from {quoted(table.now)} order by {order} offset {at} limit {limit})"
        some = [column for column in table.current if column.type in ("int4", "mood", "varchar(5)", "bool", "date")]
        if roll < 0.62 or not some:
            return "true"
        column = self.dice.choice(some)
        value = self.world.value(column.type)
        return f"{quoted(str(column.now))} {self.dice.choice(('=', '=', '<', '>='))} {value}"
