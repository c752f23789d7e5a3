"""What a data migration does to the values of an entangled world: moves them to a table of their own, or says them in
another type; the plan says how each is made again. Pure."""

from __future__ import annotations

import random

from odd_worlds import Effect, quoted
from twofold_worlds import WIDER, Column, Reference, Table, insertion

# By old type: the new one, how a value is made new and old again, from what the new one's are drawn, and one beyond.
OTHERWISE = {
    "numeric(8,2)": ("int8", "round({} * 100)::int8", "round({} / 100.0, 2)", "int4", "999999999999"),
    "bool": ("mood", "case {} when true then 'high'::mood when false then 'low' end", "{} = 'high'", "mood", ""),
    "date": ("text", "{}::text", "{}::date", "text", ""),
    "mood": ("text", "{}::text", "{}::mood", "text", ""),
    "jsonb": ("text", "{}::text", "{}::jsonb", "text", ""),
}
# Any text is a value of such a new column: not of the old one.
DOUBTFUL = ("date", "mood", "jsonb")


class Moves:
    """Draws them for `tables` with `dice`, into `steps`.

    `both`: statements that take a column away in the shadow, too, for what it held is known by other rows.
    `unlike`: rows were added or removed.
    """

    dice: random.Random
    relaxes: bool
    tables: list[Table]
    steps: list[tuple[str, Effect | None]]
    both: set[str]
    unlike: bool

    def chance(self, part: float) -> bool:
        return self.dice.random() < part

    def move_values(self, table: Table) -> None:
        """Perhaps one column's go to another table, and another's are said in another type."""
        if table.keyed and table.kind != "span" and self.chance(0.25) and (free := self._free(table)):
            self._move_out(table, self.dice.choice(free))
        types = [one for one in self._free(table) if one.type in OTHERWISE]
        types = [one for one in types if self.relaxes or one.type not in DOUBTFUL]
        if types and self.chance(0.3):
            self._say_otherwise(table, self.dice.choice(types))

    def change_rows(self, table: Table) -> None:
        """Perhaps rows are added, or removed: the twin is without those, and with these."""
        if not (self.relaxes and table.keyed and table.name and self.chance(0.2)):
            return
        self.unlike = True
        if self.chance(0.6):
            key = ", ".join(quoted(str(one.now)) for one in table.key)
            some = f"select {key} from {quoted(table.now)} order by {key} offset {self.dice.randint(0, 3)} limit 2"
            self.steps.append((f"?delete from {quoted(table.now)} where ({key}) in ({some})", None))
        for number in self.dice.sample(range(1, 15), self.dice.choice((0, 1, 3))):
            self.steps.append(("?" + insertion(table.now, self.cells(table, number)), None))

    def cells(self, table: Table, number: int, *, old: bool = False) -> dict[str, str]:
        raise NotImplementedError  # the world, which these moves are a part of, has it

    def _free(self, table: Table) -> list[Column]:
        referring = {id(one) for reference in table.references for one in reference.columns}
        return [
            one
            for one in table.columns
            if one.now == one.name != "" and one.now_type == one.type and one.type in OTHERWISE.keys() | WIDER.keys()
            if one not in table.key and id(one) not in referring and not one.identity and one.name != "touched"
            if self.relaxes or not (one.bound or one.filled)
        ]

    def _remove(self, table: Table, column: Column, back: str) -> None:
        effect: Effect = ("column-removed", table.now, table.now, str(column.now), None)
        statement = f"alter table {quoted(table.now)} drop {quoted(str(column.now))} cascade"
        self.steps.append((statement, effect))
        self.both.add(statement)
        column.now, column.back, column.seen = None, back, back

    def _move_out(self, table: Table, column: Column) -> None:
        type_, beyond = WIDER.get(column.type, (column.type, ""))
        number = 200 + table.number
        name, key = f"more {table.number}", [Column("", one.type, f"own {one.now}", one.now_type) for one in table.key]
        for one, parent in zip(key, table.key, strict=True):
            one.name, one.filled, one.bound = parent.name, True, True
        key[0].name = "parent"
        value = Column("", column.type, "value", type_, beyond=beyond if self.relaxes else "")
        own, there = (", ".join(quoted(str(one.now)) for one in some) for some in (key, table.key))
        parts = [f"{quoted(str(one.now))} {one.now_type}" for one in (*key, value)]
        refers = f"foreign key ({own}) references {quoted(table.now)} ({there}) on delete cascade on update cascade"
        self.steps.append((f"create table {quoted(name)} ({', '.join(parts)}, primary key ({own}), {refers})", None))
        some = f" where {quoted(str(column.now))} is not null" if self.chance(0.5) else ""
        source = f"select {there}, {quoted(str(column.now))} from {quoted(table.now)}{some}"
        self.steps.append((f"insert into {quoted(name)} {source}", None))
        pairs = zip(key, table.key, strict=True)
        match = " and ".join(f"m.{quoted(str(one.now))} = new.{quoted(str(other.now))}" for one, other in pairs)
        self._remove(table, column, f'(select m."value" from {quoted(name)} m where {match})')
        column.now_type = type_
        more = Table(number, "", "ptr", key, [*key, value], now=name, moved=True)
        more.references.append(Reference(key, table, table.key))
        self.tables.append(more)

    def _say_otherwise(self, table: Table, column: Column) -> None:
        type_, forth, back, drawn, beyond = OTHERWISE[column.type]
        name, was = f"otherwise {table.number}", quoted(str(column.now))
        place = quoted(table.now)
        self.steps.append(
            (f"alter table {place} add {quoted(name)} {type_}", ("column-added", table.now, table.now, name, None))
        )
        words = f"alter {quoted(name)} type {type_} using {forth.format(was)}"
        self.steps.append((f"alter table {place} {words}", None))
        self._remove(table, column, back.format(f"new.{quoted(name)}"))
        if column.type in DOUBTFUL:  # what is none cannot be asked for as one
            column.seen, column.now_type = f"new.{quoted(name)}", "text"
        more = Column("", drawn, name, type_, beyond=beyond if self.relaxes else "", derived=True)
        table.columns.append(more)
