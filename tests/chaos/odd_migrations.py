"""The migration of an odd world, drawn step by step, each with what Django would tell of it. Pure."""

from __future__ import annotations

import random

from odd_values import NARROWER, WIDER
from odd_worlds import Column, Effect, Table, World, quoted


class Migration:
    """Draws the migration of `world` with `dice`."""

    dice: random.Random
    world: World

    def chance(self, part: float) -> bool:
        return self.dice.random() < part

    def migrate(self) -> None:
        """Draw the migration. What PostgreSQL refuses of it has to be told by `refused`."""
        if self.chance(0.3):
            self._new_word()
        for table in self.world.tables:
            if self.chance(0.3):
                self._rename_table(table, f"{table.name} new")
                if self.chance(0.3):
                    self._rename_table(table, f"{table.name} newer")
            if not table.heir:
                self._change_columns(table)
        if self.chance(0.2):
            self._exchange_tables()
        if self.chance(0.3):
            made = "create table fresh (id int generated always as identity primary key, what text)"
            self.world.steps.append((made, None, None))

    def refused(self, effect: Effect | None, column: Column | None) -> None:
        """PostgreSQL refused a step of the migration: the column is as it was."""
        if column is not None and effect is not None:
            column.now, column.now_type, column.beyond, column.back = effect[3], column.type, "", None

    # -- tables --------------------------------------------------------------------------------------------------

    def _rename_table(self, table: Table, after: str) -> None:
        if '"' in table.now:  # Django has no way to quote that
            return
        effect: Effect = ("table-renamed", table.now, after, None, None)
        self.world.steps.append((f"alter table {quoted(table.now)} rename to {quoted(after)}", effect, None))
        table.now = after

    def _exchange_tables(self) -> None:
        """Two tables take each other's names."""
        some = [one for one in self.world.tables if '"' not in one.now]
        if len(some) > 1:
            one, other = self.dice.sample(some, 2)
            names = one.now, other.now
            self._rename_table(one, "on its way")
            self._rename_table(other, names[0])
            self._rename_table(one, names[1])

    def _new_word(self) -> None:
        """An enum has one value more."""
        where = self.dice.choice(("", " before 'low'", " after 'low'"))
        self.world.steps.append((f"alter type mood add value 'fresh'{where}", None, None))
        for table in self.world.tables:
            for column in table.columns:
                if column.type == "mood":
                    column.beyond = "'fresh'::mood"

    # -- columns -------------------------------------------------------------------------------------------------

    def _change_columns(self, table: Table) -> None:
        if self.chance(0.3):
            self._widen_key(table)
        for column in list(table.columns):
            self._change(table, column)
        self._change_several(table)
        if self.chance(0.4):
            effect: Effect = ("column-added", table.now, table.now, "added one", None)
            self._step(table, "add \"added one\" text default 'f'", effect)
            table.columns.append(Column("", "text", now="added one", now_type="text"))
        if self.world.relaxes:
            self._relax(table)

    def _step(self, table: Table, words: str, effect: Effect | None = None, column: Column | None = None) -> None:
        self.world.steps.append((f"alter table {quoted(table.now)} {words}", effect, column))

    def _change(self, table: Table, column: Column) -> None:
        roll, now = self.dice.random(), str(column.now)
        bound = column in table.key or column.parent is not None
        if column.generated or column.now_type != column.type:
            return
        if roll < 0.15:
            self._rename(table, column, f"{now}_ren")
            if self.chance(0.3):
                self._rename(table, column, f"{now}_again")
        elif roll < 0.25 and not bound and not column.filled and not column.ruled:
            column.now = None
            self._step(table, f"drop {quoted(now)}", ("column-removed", table.now, table.now, now, None), column)
        elif 0.6 < roll <= 0.7 and not bound and column.type in NARROWER:
            self._retype(table, column, self.dice.choice(NARROWER[column.type]), "")
        elif roll > 0.7 and not bound and column.type in WIDER:
            self._retype(table, column, *self.dice.choice(WIDER[column.type]))

    def _rename(self, table: Table, column: Column, after: str) -> None:
        effect: Effect = ("column-renamed", table.now, table.now, column.now, after)
        self._step(table, f"rename {quoted(str(column.now))} to {quoted(after)}", effect, column)
        column.now = after

    def _retype(self, table: Table, column: Column, type_: str, beyond: str) -> None:
        now = str(column.now)
        column.now_type, column.beyond = type_, beyond
        effect: Effect = ("column-altered", table.now, table.now, now, None)
        self._step(table, f"alter {quoted(now)} type {type_}", effect, column)

    def _widen_key(self, table: Table) -> None:
        """As where DEFAULT_AUTO_FIELD becomes bigger: the key, and what refers to it."""
        key = table.key[0] if len(table.key) == 1 else None
        if key is None or key.type not in ("int2", "int4") or key.parent is not None or table.leaves:
            return
        self._retype(table, key, "int8", "5000000000")
        for other in self.world.tables:
            for column in other.columns if not other.heir else ():
                if column.parent is table and column.now_type == column.type:
                    self._retype(other, column, "int8", "")

    def _change_several(self, table: Table) -> None:
        """What concerns two columns: they take each other's names, one is made anew, both are merged."""
        free = [
            one
            for one in table.columns
            if one.now is not None and one.now == one.name and one.now_type == one.type and not one.generated
        ]
        loose = [one for one in free if not (one.filled or one.ruled or one in table.key or one.parent or one.beyond)]
        if len(free) > 1 and self.chance(0.15):
            one, other = self.dice.sample(free, 2)
            names = str(one.now), str(other.now)
            self._rename(table, one, "on its way")
            self._rename(table, other, names[0])
            self._rename(table, one, names[1])
        elif len(loose) > 1 and self.chance(0.2):
            self._merge(table, *self.dice.sample(loose, 2))
        elif loose and self.chance(0.1):
            self._make_anew(table, self.dice.choice(loose))

    def _merge(self, table: Table, one: Column, other: Column) -> None:
        """Two columns become one; the plan says how each is made of it."""
        merged = Column("", "text[]", now="merged", now_type="text[]", parts=(one.type, other.type))
        self._step(table, "add merged text[]", ("column-added", table.now, table.now, "merged", None))
        both = ", ".join(f"{quoted(str(part.now))}::text" for part in (one, other))
        self._step(table, f"alter merged type text[] using array[{both}]")
        for place, part in enumerate((one, other), 1):
            type_ = part.type.split(" collate")[0]
            part.back = f"(new.merged)[{place}]::{type_}"
            effect: Effect = ("column-removed", table.now, table.now, part.now, None)
            self._step(table, f"drop {quoted(str(part.now))}", effect, part)
            part.now = None
        table.columns.append(merged)

    def _make_anew(self, table: Table, column: Column) -> None:
        """Removed, and another one of its name is added."""
        now = str(column.now)
        self._step(table, f"drop {quoted(now)}", ("column-removed", table.now, table.now, now, None), column)
        self._step(table, f"add {quoted(now)} int4 default 3", ("column-added", table.now, table.now, now, None))
        column.now, self.world.reuses = None, True
        table.columns.append(Column("", "int4", now=now, now_type="int4"))

    def _relax(self, table: Table) -> None:
        for kind in ("u", "x", "c"):
            for place in range(6):
                if self.chance(0.7):
                    self._step(table, f"drop constraint {kind}{table.number}_{place}")
        for column in table.columns:
            if column.filled and column.now is not None and column not in table.key and self.chance(0.6):
                self._step(table, f"alter {quoted(column.now)} drop not null")
        if table.leaves:
            self.world.steps.append(
                (f"alter table {quoted(table.leaves[0])} drop constraint l{table.number}", None, None)
            )
