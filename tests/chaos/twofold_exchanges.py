"""What is written to an entangled world so that rows have one another's values: at once, or one after the other; and
what no trigger of the application looks at. Drawn as SQL text. Pure."""

from __future__ import annotations

import random

from odd_worlds import quoted
from twofold_schemas import World
from twofold_worlds import VALUES, Column, Table, insertion


class Exchanges:
    """Draws them for `world` with `dice`."""

    world: World
    dice: random.Random

    def exchanges(self, table: Table) -> list[str]:
        """Statements of one transaction, or none."""
        some = [one for one in table.current if one.type in VALUES and not one.identity and one not in table.key]
        roll = self.dice.random()
        if roll < 0.25:
            return self._silent(table, some)
        if not table.key:
            return []
        if roll < 0.45 and table.parted:
            return [self._away(table, some)]
        if roll < 0.65:
            free = [one for one in some if not one.filled and one.type not in ("jsonb", "text[]", "bytea")]
            return self._parked(table, self.dice.choice(free)) if free else []
        column = self.dice.choice([*some, *table.key])
        return [self._between(table, column)]

    def _pair(self, table: Table, more: str) -> str:
        """Two rows that are next to one another, numbered."""
        key = ", ".join(quoted(str(one.now)) for one in table.key)
        order = ", ".join(f"{quoted(str(one.now))}::text" for one in table.key)
        return (
            f"(select {key}{more}, row_number() over (order by {order}) as nth from {quoted(table.now)} "
            f"order by {order} offset {self.dice.randint(0, 4)} limit 2)"
        )

    def _between(self, table: Table, column: Column) -> str:
        """Two rows exchange what they have in a column, as two that swap their places in a list do."""
        name, keyed = quoted(str(column.now)), column in table.key
        match = " and ".join(f"t.{quoted(str(one.now))} = s.{quoted(str(one.now))}" for one in table.key)
        pair = self._pair(table, "" if keyed else f", {name}")
        # With a NULL it would depend on which row comes first whether both have the same for a moment.
        return (
            f"with pair as materialized {pair} update {quoted(table.now)} t set {name} = o.{name} "
            f"from pair s, pair o where {match} and s.nth <> o.nth and (s.{name} is null) = (o.{name} is null)"
        )

    def _parked(self, table: Table, column: Column) -> list[str]:
        """The same of two values, one after the other: one row's is nowhere meanwhile."""
        name, place = quoted(str(column.now)), quoted(table.now)
        one, other = (f"{value}::{column.type}" for value in self.dice.sample(VALUES[column.type], 2))
        key = ", ".join(quoted(str(part.now)) for part in table.key)
        order = ", ".join(f"{quoted(str(part.now))}::text" for part in table.key)
        row = f"({key}) = (select {key} from {place} where {name} {{}} order by {order} limit 1)"
        return [
            f"update {place} set {name} = null where {row.format(f'= {one}')}",
            f"update {place} set {name} = {one} where {row.format(f'= {other}')}",
            f"update {place} set {name} = {other} where {row.format('is null')}",
        ]

    def _away(self, table: Table, some: list[Column]) -> str:
        """To another partition, with other values. Under another number it would be another row: see `design.md`."""
        sets = [f"{quoted(str(one.now))} = {self.world.cell(one)}" for one in some if self.dice.random() < 0.3]
        region = next(quoted(str(one.now)) for one in table.key if one.name == "region")
        sets.append(f"{region} = {self.dice.choice((f'6 - {region}', f'{region} + 1', f'{region} - 3'))}")
        key = ", ".join(quoted(str(one.now)) for one in table.key)
        order = ", ".join(f"{quoted(str(one.now))}::text" for one in table.key)
        few = f"select {key} from {quoted(table.now)} order by {order} offset {self.dice.randint(0, 4)}"
        return (
            f"update {quoted(table.now)} set {', '.join(sets)} where ({key}) in ({few} limit {self.dice.randint(1, 3)})"
        )

    def _silent(self, table: Table, some: list[Column]) -> list[str]:
        """As a job writes that wants no trigger to be called: PostgreSQL asks for no foreign key then, so that only
        what none is about is written."""
        free = [one for one in some if not one.bound]
        if self.world.alone(table) and self.dice.random() < 0.6:
            key = ", ".join(quoted(str(one.now)) for one in (table.key or table.current))
            row = f"row({key})::text"
            words = self.dice.choice(
                (
                    insertion(table.now, self.world.cells(table, self.dice.randint(1, 30))),
                    f"delete from {quoted(table.now)} where {row} = (select min({row}) from {quoted(table.now)})",
                )
            )
        elif free and table.key:
            sets = ", ".join(f"{quoted(str(one.now))} = {self.world.cell(one)}" for one in free[:2])
            words = f"update {quoted(table.now)} set {sets}"
        else:
            return []
        role = "set local session_replication_role = "
        return [f"{role}replica; {words}; {role}origin"]
