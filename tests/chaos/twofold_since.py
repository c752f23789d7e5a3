"""What somebody does to the schema of a world (`twofold_schemas`) after its launch, as SQL; a part is taken back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from odd_worlds import quoted
from twofold_schemas import World
from twofold_worlds import Column, Table, insertion


@dataclass
class Since:
    """Draws statements, each with what takes the world for changed once it has been carried out."""

    world: World
    dice: random.Random
    count: int = 0

    def draw(self) -> tuple[str, Callable[[], None]]:
        """A column comes or goes, a partition or a table of the new schema does, or a type gets a value."""
        roll = self.dice.random()
        fresh = [one for one in self.world.tables if one.now == "fresh"]
        if roll < 0.05 and fresh and self.world.relaxes:
            return 'drop table "fresh"', lambda: self.world.tables.remove(fresh[0])
        if roll < 0.1 and self.world.relaxes:
            return self._mood()
        roll = self.dice.random()
        listed = [one for one in self.world.tables if one.name and f"{one.name}_a" in one.leaves and one.kind == "list"]
        if roll < 0.12 and listed:
            return self._detach(self.dice.choice(listed))
        if roll < 0.4 and (some := [one for one in self.world.tables if one.name and one.kind in ("list", "deep")]):
            return self._partition(self.dice.choice(some))
        added = [(table, one) for table in self.world.tables for one in table.columns if one.is_since]
        if roll < 0.6 and added:
            table, column = self.dice.choice(added)
            words = f"alter table {quoted(table.now)} drop {quoted(str(column.now))}"
            return words, lambda: table.columns.remove(column)
        return self._column()

    def rename(self) -> tuple[str, str, Callable[[], None], Callable[[], None]]:
        """A table or a column gets another name, and its own again: both statements, and what is known then."""
        table = self.dice.choice([one for one in self.world.tables if one.name])
        if self.dice.random() < 0.5:
            was = table.now
            words = f"alter table {quoted(was)} rename to {quoted('off')}", f"alter table off rename to {quoted(was)}"
            return *words, lambda: setattr(table, "now", "off"), lambda: setattr(table, "now", was)
        column = self.dice.choice([one for one in table.current if not one.is_since])
        name, place = str(column.now), quoted(table.now)
        return (
            f"alter table {place} rename {quoted(name)} to off",
            f"alter table {place} rename off to {quoted(name)}",
            lambda: setattr(column, "now", "off"),
            lambda: setattr(column, "now", name),
        )

    def _column(self) -> tuple[str, Callable[[], None]]:
        table = self.dice.choice([one for one in self.world.tables if one.name])
        self.count += 1
        column = Column("", "text", f"since {self.count}", "text", default="'usual'")
        words = f"alter table {quoted(table.now)} add {quoted(str(column.now))} text default 'usual'"
        return words, lambda: table.columns.append(column)

    def _mood(self) -> tuple[str, Callable[[], None]]:
        """A value that the old schema's type has not."""
        self.count += 1
        value = f"mood {self.count}"

        def known() -> None:
            for column in (one for table in self.world.tables for one in table.current):
                if column.type == column.now_type == "mood":
                    column.beyond = f"'{value}'::mood"

        place = self.dice.choice((" before 'mid'", " after 'low'", ""))
        return f"alter type mood add value '{value}'{place}", known

    def _partition(self, table: Table) -> tuple[str, Callable[[], None]]:
        self.count += 1
        name, region = f"{table.name}_{self.count}", self.world.regions
        bound = f"in ({region})" if table.kind == "list" else f"from ({region}) to ({region + 1})"

        def known() -> None:
            table.leaves = (*table.leaves, name)
            self.world.regions = region + 1

        if table.kind == "list" and self.dice.random() < 0.4:
            return self._attach(table, name, region), known
        return f"create table {quoted(name)} partition of {quoted(table.now)} for values {bound}", known

    def _attach(self, table: Table, name: str, region: int) -> str:
        """A table that had rows before it became a partition."""
        words = [f"create table {quoted(name)} (like {quoted(table.now)} including defaults including generated)"]
        for number in range(self.dice.randint(0, 3)):
            cells = self.world.cells(table, 60 + number)
            part = next(str(one.now) for one in table.key if one.name == "region")
            words.append(insertion(name, {**cells, part: str(region)}).replace(" overriding system value", ""))
        words.append(f"alter table {quoted(table.now)} attach partition {quoted(name)} for values in ({region})")
        return "; ".join(words)

    def _detach(self, table: Table) -> tuple[str, Callable[[], None]]:
        leaf = f"{table.name}_a"  # which was there before the launch, so that its rows stay the table's

        def known() -> None:
            table.leaves = tuple(one for one in table.leaves if one != leaf)
            table.detached = (*table.detached, leaf)

        words = f"alter table {quoted(table.now)} detach partition {quoted(leaf)}"
        if self.dice.random() < 0.5:
            self.count += 1
            archive = f'side."archive {self.count}"'
            like = f"(like {quoted(table.now)} including defaults including generated)"
            words += f"; create table {archive} {like} partition by list (region)"
            words += f"; alter table {archive} attach partition {quoted(leaf)} for values in (0, 1, 2)"
        return words, known
