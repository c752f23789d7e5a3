"""Schemas, migrations and writes that nobody thought of: drawn from a seed, as SQL text. Pure.

A world has tables with keys of many types (or none; or another table's), foreign keys with every action and in
circles, partitions, heirs, generated columns, odd constraints, a trigger that writes an audit and one that changes
rows; a migration that renames, exchanges, adds, removes, merges, widens, narrows and relaxes (`odd_migrations`); and
transactions that write whatever comes. Much of it PostgreSQL refuses, and no matter.
"""

from __future__ import annotations

import random

from odd_migrations import Migration
from odd_values import ACTIONS, COLLATED, KEYS, LATE, NAMES, VALUES
from odd_worlds import Column, Table, World, quoted


class Maker(Migration):
    """Draws a world; then, as often as it is asked, a transaction that writes into it."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # a game, not secrets
        self.world = World(relaxes=self.chance(0.5))
        for number in range(self.dice.randint(2, 5)):
            self._table(number)
        if self.chance(0.6):
            self._circle()
        for table in self.world.tables:
            table.now = table.name
            for column in table.columns:
                column.now, column.now_type = column.name, column.type

    def value(self, type_: str) -> str:
        return f"{self.dice.choice(VALUES[type_])}::{type_.split(' collate')[0]}"

    # -- the old schema ------------------------------------------------------------------------------------------

    def _table(self, number: int) -> None:
        dice, before = self.dice, self.world.before
        name = f"{dice.choice(NAMES)}{number}"
        kind = dice.choice(("plain", "plain", "plain", "list", "hash", "range", "heir", "nokey"))
        parents = [one for one in self.world.tables if len(one.key) == 1 and not one.late]
        keys = [] if kind == "nokey" else self._keys(kind, parents)
        table = Table(name, [*keys], tuple(keys), late=kind == "plain" and self.chance(0.15), number=number)
        for place in range(dice.randint(1, 6)):
            column = Column(f"{dice.choice(NAMES)}_c{place}", dice.choice(list(VALUES)), filled=self.chance(0.2))
            table.columns.append(column)
        for place in range(dice.randint(0, 2) if parents else 0):
            parent = dice.choice(parents)
            type_ = parent.key[0].type
            if type_ in ("text", *COLLATED):  # PostgreSQL lets the two have any
                type_ = dice.choice(("text", *COLLATED))
            table.columns.append(Column(f"fk{place}", type_, filled=self.chance(0.3), parent=parent))
        if kind == "plain" and len(keys) == 1 and not table.late and self.chance(0.25):
            table.columns.append(Column("self", keys[0].type, parent=table))
        if kind in ("plain", "list") and self.chance(0.3):
            table.columns.append(Column("gen", "text", generated=True))
        parts = [self._definition(table, column) for column in table.columns]
        if keys:
            word = "primary key" if self.chance(0.8) else "unique"
            late = " deferrable initially deferred" if table.late else ""
            parts.append(f"{word} ({', '.join(quoted(one.name) for one in keys)}){late}")
        parts += self._constraints(table, kind)
        how = f" partition by {kind} (part)" if kind in ("list", "hash", "range") else ""
        before.append(f"create table {quoted(name)} ({', '.join(parts)}){how}")
        self._leaves(table, kind)
        self._indexes(table, kind)
        for column in table.columns:
            indexed = column in table.key or column.ruled  # of which a restore could not build the index again
            if column.type in ("text", "bytea") and not indexed and self.chance(0.4):
                before.append(f"alter table {quoted(name)} alter {quoted(column.name)} set storage external")
        self._triggers(name)
        self.world.tables.append(table)
        if kind == "heir":
            self._heir(table)
        self._rows(table)

    def _circle(self) -> None:
        """A table refers to one that was made after it, and may be referred to by it."""
        dice = self.dice
        parents = [one for one in self.world.tables[1:] if len(one.key) == 1 and not one.late and not one.heir]
        if not parents:
            return
        parent = dice.choice(parents)
        table = dice.choice(self.world.tables[: self.world.tables.index(parent)])
        if table.heir:
            return
        column = Column("round", parent.key[0].type, parent=parent)
        self.world.before.append(f"alter table {quoted(table.name)} add {self._definition(table, column)}")
        table.columns.append(column)

    def _triggers(self, name: str) -> None:
        on = f"on {quoted(name)} for each row execute function"
        if self.chance(0.3):
            self.world.before.append(f"create trigger tell after insert or update or delete {on} note_it()")
            if self.chance(0.3):
                self.world.before.append(f"alter table {quoted(name)} enable always trigger tell")
        if self.chance(0.1):
            self.world.before.append(f"create trigger skip before insert {on} skip_some()")
        if self.chance(0.15):
            also = f"insert into audit values ('{self.dice.choice('abc')}', 'rule', null)"
            event = self.dice.choice(("insert", "delete", "update"))
            self.world.before.append(f"create rule also as on {event} to {quoted(name)} do also {also}")
            if self.chance(0.5):
                self.world.before.append(f"alter table {quoted(name)} enable always rule also")

    def _keys(self, kind: str, parents: list[Table]) -> list[Column]:
        if kind == "plain" and parents and self.chance(0.4):  # a model that inherits from another one
            parent = self.dice.choice(parents)
            return [Column("base_ptr", parent.key[0].type, filled=True, parent=parent)]
        keys = []
        for place in range(1 if self.chance(0.7) else 2):
            column = Column(f"{self.dice.choice(NAMES)}_k{place}", self.dice.choice(KEYS), filled=True)
            column.identity = column.type in ("int4", "int8") and place == 0 and kind == "plain" and self.chance(0.6)
            keys.append(column)
        if kind == "list":
            keys.append(Column("part", "mood", filled=True))
        elif kind in ("range", "hash"):
            keys.append(Column("part", "int4", filled=True))
        return keys

    def _heir(self, table: Table) -> None:
        name = f"{table.name}_heir"
        more = Column("more", "text")
        heir = Table(name, [*table.columns, more], table.key, number=table.number + 100, heir=True)
        table.heir = True
        key = ", ".join(quoted(one.name) for one in table.key)
        own = f"(more text, primary key ({key}))"
        self.world.before.append(f"create table {quoted(name)} {own} inherits ({quoted(table.name)})")
        self.world.tables.append(heir)
        self._rows(heir)

    def _definition(self, table: Table, column: Column) -> str:
        if column.generated:
            source = quoted(next(one for one in table.columns if not one.generated).name)
            return f"{quoted(column.name)} text generated always as (({source} is not null)::text) stored"
        words = [quoted(column.name), column.type]
        if column.identity:
            words.append(self.dice.choice(("generated always as identity", "generated by default as identity")))
        if column.filled:
            words.append("not null")
        if not column.identity and column.parent is None and (column.filled or self.chance(0.2)):
            words.append(f"default {self.value(column.type)}")
        if column.parent is not None:
            action = self.dice.choice(ACTIONS)
            action = "" if column.filled and "set" in action else action
            key = quoted(column.parent.key[0].name)
            words.append(f"references {quoted(column.parent.name)} ({key}){action}{self.dice.choice(LATE)}")
        return " ".join(words)

    def _constraints(self, table: Table, kind: str) -> list[str]:
        parts = []
        free = [one for one in table.columns if one not in table.key and not one.generated and one.parent is None]
        for place, column in enumerate(free):
            name = quoted(column.name)
            if column.type in KEYS and kind in ("plain", "nokey") and self.chance(0.25):
                nulls = self.dice.choice(("", "", " nulls not distinct"))
                late = self.dice.choice(LATE)
                parts.append(f"constraint u{table.number}_{place} unique{nulls} ({name}){late}")
                column.ruled = True
            if column.type == "int4range" and kind == "plain" and self.chance(0.5):
                late = self.dice.choice(("", " deferrable initially deferred"))
                parts.append(f"constraint x{table.number}_{place} exclude using gist ({name} with &&){late}")
                column.ruled = True
            if column.type in KEYS and self.chance(0.2):
                rule = f"{name} is null or {name} <> {self.value(column.type)}"
                parts.append(f"constraint c{table.number}_{place} check ({rule})")
                column.ruled = True
        return parts

    def _indexes(self, table: Table, kind: str) -> None:
        """Unique indexes over expressions, and over a part of the rows; a rule of one partition alone."""
        texts = [one for one in table.columns if one.type in ("text", "varchar(12)") and one not in table.key]
        if kind in ("plain", "nokey") and texts and self.chance(0.4):
            name = quoted(texts[0].name)
            over = self.dice.choice((f"(lower({name}))", f"({name}) where {name} <> 'a'"))
            self.world.before.append(f"?create unique index i{table.number} on {quoted(table.name)} {over}")
            texts[0].ruled = True
        if table.leaves and self.chance(0.3):
            column = self.dice.choice(table.columns)
            if column.type in KEYS and not column.generated:
                rule = f"check ({quoted(column.name)} is null or {quoted(column.name)} <> {self.value(column.type)})"
                leaf = quoted(table.leaves[0])
                self.world.before.append(f"alter table {leaf} add constraint l{table.number} {rule}")
                column.ruled = True

    def _leaves(self, table: Table, kind: str) -> None:
        name = quoted(table.name)
        one, other, under = (f"{table.name}_{end}" for end in ("a", "b", "ad"))
        a, b = quoted(one), quoted(other)
        table.leaves = (one, other) if kind in ("list", "hash") else (under, other) if kind == "range" else ()
        self.world.before += {
            "list": [
                f"create table {a} partition of {name} for values in ('low', 'high')",
                f"create table {b} partition of {name} default",
            ],
            "hash": [
                f"create table {a} partition of {name} for values with (modulus 2, remainder 0)",
                f"create table {b} partition of {name} for values with (modulus 2, remainder 1)",
            ],
            "range": [
                f"create table {a} partition of {name} for values from (minvalue) to (2) partition by list (part)",
                f"create table {quoted(under)} partition of {a} default",
                f"create table {b} partition of {name} default",
            ],
        }.get(kind, [])

    def _rows(self, table: Table) -> None:
        for _ in range(self.dice.randint(0, 8)):
            self.world.before.append("?" + self._insert(table, old=True))

    # -- writes --------------------------------------------------------------------------------------------------

    def transaction(self) -> list[str]:
        return [self._statement() for _ in range(self.dice.randint(1, 5))]

    def _insert(self, table: Table, *, old: bool = False) -> str:
        cells = {}
        for column in table.columns:
            name = column.name if old else column.now
            left_out = 0.7 if column.identity else 0 if column.filled else 0.3
            if name is not None and not column.generated and not self.chance(left_out):
                cells[quoted(name)] = self._cell(column, old=old)
        into = f"insert into {quoted(table.name if old else table.now)}"
        if not cells:
            return f"{into} default values"
        clash = "" if old or self.chance(0.8) else " on conflict do nothing"
        return f"{into} ({', '.join(cells)}) overriding system value values ({', '.join(cells.values())}){clash}"

    def _cell(self, column: Column, *, old: bool = False) -> str:
        if column.parent is not None and self.chance(0.9):
            parent = column.parent
            key = quoted(str(parent.key[0].name if old else parent.key[0].now))
            name = quoted(parent.name if old else parent.now)
            return f"(select {key} from {name} order by {key}::text offset {self.dice.randint(0, 4)} limit 1)"
        if not column.filled and self.chance(0.15):
            return "null"
        if column.parts:
            return f"array[{', '.join(f'({self.value(one)})::text' for one in column.parts)}]"
        if column.identity:
            return str(self.dice.randint(1, 12))
        if column.beyond and not old and self.world.relaxes and self.chance(0.3):
            return column.beyond
        return self.value(column.type)

    def _where(self, table: Table, target: str) -> str:
        roll = self.dice.random()
        if roll < 0.6:
            # By the columns that all have who play it: of removed ones only some know.
            known = ", ".join(f"t.{quoted(one.now)}" for one in table.columns if one.now is not None)
            which = f"from {target} t order by row({known})::text, ctid offset {self.dice.randint(0, 6)} limit 1"
            return f"(tableoid, ctid) = (select tableoid, ctid {which})"
        choices = [one for one in table.columns if one.now is not None and one.type in KEYS and not one.generated]
        if roll < 0.7 or not choices:
            return "true"
        column = self.dice.choice(choices)
        return f"{quoted(str(column.now))} = {self.value(column.type)}"

    def _statement(self) -> str:
        table = self.dice.choice(self.world.tables)
        only = "only " if self.chance(0.3) and not table.leaves else ""
        target = f"{only}{quoted(table.now)}"
        if table.leaves and self.chance(0.2):
            target = quoted(self.dice.choice(table.leaves))
        roll = self.dice.random()
        if roll < 0.42:
            return self._insert(table)
        if roll < 0.80:
            choices = [one for one in table.columns if one.now is not None and not one.generated]
            chosen = self.dice.sample(choices, min(len(choices), self.dice.randint(1, 2)))
            sets = ", ".join(f"{quoted(str(one.now))} = {self._set(one)}" for one in chosen)
            return f"update {target} set {sets} where {self._where(table, target)}"
        if roll < 0.96:
            return f"delete from {target} where {self._where(table, target)}"
        return f"truncate {target} {self.dice.choice(('', 'cascade', 'restart identity cascade'))}"

    def _set(self, column: Column) -> str:
        further = column.now_type == column.type or self.world.relaxes
        if column.type in ("int4", "int8", "int2") and further and self.chance(0.3):
            return f"{quoted(str(column.now))} + {self.dice.choice(('1', '-1', '100'))}"
        if column.identity and self.chance(0.9):
            return str(self.dice.randint(1, 12))
        return self._cell(column)
