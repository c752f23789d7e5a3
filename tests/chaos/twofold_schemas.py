"""Schemas that applications really have, drawn from a seed as SQL text. Pure.

Other than in `odd_schemas` the types are few and the structure is rich: most of what is written into such a world is
accepted, so that transactions become long, deep and entangled (`twofold_writes`).
"""

from __future__ import annotations

import random

from odd_worlds import Effect, quoted
from twofold_migrations import Migration
from twofold_shapes import Shapes
from twofold_worlds import (
    ACTIONS,
    COMPUTED,
    KEYED,
    KINDS,
    LATE,
    NAMES,
    PRELUDE,
    SPANS,
    VALUES,
    Column,
    Reference,
    Table,
    insertion,
)


class World(Migration, Shapes):
    """Draws a schema and its migration. `before`: the statements of the old schema; those that begin with ? may fail.
    `steps`: the migration, each statement with what Django would tell of it; none where a twin is kept level."""

    def __init__(self, seed: int, major: int) -> None:
        self.dice, self.major = random.Random(seed), major  # a game, not secrets
        self.migrates = self.chance(0.8)
        self.relaxes = self.migrates and self.chance(0.5)
        self.chained = self.chance(0.2)  # each table refers to the one before
        self.regions = 7
        self.before: list[str] = [PRELUDE]
        self.tables: list[Table] = []
        self.steps: list[tuple[str, Effect | None]] = []
        self.both: set[str] = set()
        self.unlike = False
        for number in range(self.dice.randint(3, 7)):
            self._table(number)
        for table in self.tables:
            self._refer(table)
        for table in self.tables:
            self._fill(table)
        self.decoys: list[str] = []
        self.before.append("create schema other; create schema side")
        if self.chance(0.4):
            self._spread()
        for table in self.tables:
            table.now = table.name
            for column in table.columns:
                column.now, column.now_type = column.name, column.type
        if self.migrates:
            self.migrate()
        said = Column("what", "text", "what", "text")
        self.tables.append(Table(98, "noted", "none", [], [said], now="noted"))

    def _spread(self) -> None:
        """Over two schemas, which the application looks through; in a third one are tables of the same names."""
        for table in self.tables:
            if self.chance(0.5):
                table.schema = "other"
                moving = [table.name, *(leaf for leaf in table.leaves if self.chance(0.5))]
                self.before += [f"alter table {quoted(name)} set schema other" for name in moving]
            elif self.chance(0.5):
                self.decoys.append(table.name)
                self.before.append(f'create table side.{quoted(table.name)} ("id" int primary key, "what" text)')
        if self.chance(0.5):
            self.before.append("alter type mood set schema other; alter domain word set schema other")

    def alone(self, table: Table) -> bool:
        """Whether no rule that a trigger asks for is about its rows: a foreign key, or what is asked for at the end."""
        named = [statement for statement in self.before if quoted(table.name) in statement]
        referred = any(one.parent is table for other in self.tables for one in other.references)
        late = any("deferrable" in statement for statement in named)
        return not (table.references or referred or late)

    def value(self, type_: str) -> str:
        return f"{self.dice.choice(VALUES[type_])}::{type_}"

    # -- the old schema ------------------------------------------------------------------------------------------

    def _table(self, number: int) -> None:
        dice = self.dice
        kind = dice.choice((*KINDS, "span") if self.major >= 18 else KINDS)
        parents = [one for one in self.tables if one.kind in ("id", "uuid", "nat")]
        if kind in ("line", "ptr") and not parents:
            kind = "id"
        name = f"{dice.choice(NAMES)}{number}"
        table = Table(number, name, kind, self._key(kind), [])
        if kind in ("line", "ptr"):
            parent = dice.choice(parents)
            first = Column("parent", parent.key[0].type, filled=True, bound=True)
            table.key.insert(0, first)
            table.references.append(Reference([first], parent, parent.key))
        table.columns = [*table.key]
        for place in range(dice.randint(2, 5)):
            type_ = dice.choice(tuple(VALUES))
            filled = self.chance(0.25)
            column = Column(f"{dice.choice(NAMES)}_{place}", type_, filled=filled)
            if filled or self.chance(0.3):
                column.default = self.value(type_)
            table.columns.append(column)
        if self.chance(0.3):
            table.columns.append(Column("touched", "int4", default="0", bound=True))
        parts = self._parts(table)
        how = {"list": "list (region)", "hash": "hash (region)", "deep": "range (region)"}.get(kind)
        tail = f" partition by {how}" if how else ""
        holes = self.chance(0.2)
        whole = self.with_holes(parts) if holes else parts
        self.before.append(f"create table {quoted(name)} ({', '.join(whole)}){tail}")
        if holes:
            self.before.append(f'alter table {quoted(name)} drop "junk"')
        names = ('"made" ', *(f"{quoted(one.name)} " for one in table.columns))
        self._leaves(table, [one for one in parts if one.startswith(names)])
        self._besides(table)
        self._indexes(table)
        self.shape(table)
        self.tables.append(table)

    def _parts(self, table: Table) -> list[str]:
        """Its columns and constraints, as they stand in CREATE TABLE."""
        parts = [self._definition(one) for one in table.columns]
        if table.kind not in ("none", "late"):
            alone = " without overlaps" if table.kind == "span" else ""
            parts.append(f"primary key ({', '.join(quoted(one.name) for one in table.key)}{alone})")
        if table.kind == "late":
            parts.append(f'primary key ("id") deferrable initially {self.dice.choice(("deferred", "immediate"))}')
        if self.chance(0.3):
            parts.append(f'"made" int generated always as ({self._computed(table)}) {self._kept(table)}')
        if table.kind != "none" and self.chance(0.2):
            table.columns.append(Column("number", "int4", filled=True, bound=True, identity=True))
            parts.append(self._definition(table.columns[-1]))
        parts += self._rules(table)
        if len(table.key) == 2 and not table.parted and self.chance(0.3):
            parts.append(f"unique ({quoted(self.dice.choice(table.key).name)}){self.dice.choice(LATE)}")
        elif table.kind == "late" and self.chance(0.4):
            parts.append(f'unique ("id", {quoted(table.columns[1].name)})')
        return parts

    def _computed(self, table: Table) -> str:
        """An expression over some of its columns, which are to stay as they are."""
        some = [one for one in table.columns[len(table.key) :] if one.name != "touched"]
        some = self.dice.sample(some, self.dice.randint(1, min(3, len(some))))
        for column in some:
            column.bound = True
        table.own = any(one.type in ("mood", "word") for one in some)
        forms = [(COMPUTED.get(one.type, "case when {} is null then 0 else 1 end"), one) for one in some]
        return " + ".join(form.format(quoted(one.name)) for form, one in forms)

    def _kept(self, table: Table) -> str:
        """Whether a generated column is stored; rows that are named by all that they say have no others."""
        plain = table.kind not in ("none", "late") and not table.own
        table.virtual = self.major >= 18 and plain and self.chance(0.5)
        return "virtual" if table.virtual else "stored"

    def _besides(self, table: Table) -> None:
        """What changes how its rows are logged and stored, and its triggers."""
        name = table.name
        if self.chance(0.12) and not table.virtual:
            self.before.append(f"alter table {quoted(name)} replica identity full")
        for column in table.columns:
            if column.type in ("text", "bytea", "jsonb") and self.chance(0.7):
                self.before.append(f"alter table {quoted(name)} alter {quoted(column.name)} set storage external")
        if any(one.name == "touched" for one in table.columns):
            on = f"before update on {quoted(name)} for each row execute function touch()"
            self.before.append(f"create trigger touch {on}")
        if self.chance(0.3):
            when = self.dice.choice(("after delete", "before insert", "after insert or update or delete"))
            on = f"{when} on {quoted(name)} for each row execute function note()"
            self.before.append(f"create trigger {self.dice.choice(('tell', 'aa'))} {on}")

    def _key(self, kind: str) -> list[Column]:
        if kind in ("id", "late"):
            return [Column("id", "int4", filled=True, bound=True, identity=kind == "id")]
        if kind == "uuid":
            return [Column("id", "uuid", filled=True, bound=True, default="gen_random_uuid()")]
        if kind == "nat":
            return [Column("code", "text", filled=True, bound=True)]
        if kind == "pair":
            return [Column("id", "int4", filled=True, bound=True), Column("lang", "text", filled=True, bound=True)]
        if kind == "span":
            return [
                Column("id", "int4", filled=True, bound=True),
                Column("during", "daterange", filled=True, bound=True),
            ]
        if kind == "line":
            return [Column("no", "int4", filled=True, bound=True)]
        if kind in ("list", "hash", "deep"):
            some = [Column("id", "int4", filled=True, bound=True), Column("region", "int4", filled=True, bound=True)]
            return some if self.chance(0.5) else some[::-1]
        return []

    def _definition(self, column: Column) -> str:
        words = [quoted(column.name), column.type]
        if column.identity:
            steps = self.dice.choice(("", "", " (increment by 5 start 3)", " (increment by -1 maxvalue 900 start 800)"))
            words.append(f"generated {self.dice.choice(('always', 'by default'))} as identity{steps}")
        if column.filled:
            words.append("not null")
        if column.default:
            words.append(f"default {column.default}")
        return " ".join(words)

    def _rules(self, table: Table) -> list[str]:
        found = []
        for place, column in enumerate(table.columns):
            name = quoted(column.name)
            if column in table.key or column.name == "touched" or table.parted:
                continue
            rule = f"r{table.number}_{place}"
            if column.type in KEYED and self.chance(0.25):
                nulls = self.dice.choice(("", "", " nulls not distinct"))
                other = [one for one in table.columns if one.type in KEYED and one is not column]
                both = name if not other or self.chance(0.5) else f"{name}, {quoted(self.dice.choice(other).name)}"
                found.append(f"constraint {rule} unique{nulls} ({both}){self.dice.choice(LATE)}")
            elif column.type == "daterange" and self.chance(0.6):
                late = self.dice.choice(("", " deferrable initially deferred"))
                other = [one for one in table.columns if one.type in ("int4", "date")]
                also = f"{quoted(self.dice.choice(other).name)} with =, " if other and self.chance(0.4) else ""
                where = f" where (not isempty({name}))" if self.chance(0.3) else ""
                found.append(f"constraint {rule} exclude using gist ({also}{name} with &&){where}{late}")
            elif column.type in KEYED and self.chance(0.2):
                found.append(f"constraint {rule} check ({name} <> {self.value(column.type)})")
            else:
                continue
            table.rules.append(rule)
            column.bound = True
        return found

    def _indexes(self, table: Table) -> None:
        """Unique ones over a part of the rows, or over an expression."""
        free = [one for one in table.columns if one.type in ("varchar(5)", "word", "int4") and not one.bound]
        if not free or table.parted or self.chance(0.6):
            return
        column = self.dice.choice(free)
        name = quoted(column.name)
        over = f"(lower({name}::text))" if self.chance(0.4) else f"({name}) where {name} <> {self.value(column.type)}"
        self.before.append(f"create unique index i{table.number} on {quoted(table.name)} {over}")
        column.bound = True

    def _leaves(self, table: Table, parts: list[str]) -> None:
        name, ends = quoted(table.name), ("a", "b", "c")
        a, b, c = (quoted(f"{table.name}_{end}") for end in ends)
        table.leaves = tuple(f"{table.name}_{end}" for end in ends[: 2 if table.kind == "list" else 3])
        if table.kind == "list" and self.chance(0.5):
            self.attach_leaf(table, a, "for values in (0, 1, 2)", parts)
            self.before.append(f"create table {b} partition of {name} default")
            return
        self.before += {
            "list": [
                f"create table {a} partition of {name} for values in (0, 1, 2)",
                f"create table {b} partition of {name} default",
            ],
            "hash": [
                f"create table {one} partition of {name} for values with (modulus 3, remainder {place})"
                for place, one in enumerate((a, b, c))
            ],
            "deep": [
                f'create table "deep{table.number}" partition of {name} for values from (minvalue) to (3) '
                "partition by list (id)",
                f'create table {a} partition of "deep{table.number}" for values in (1, 2, 3, 4)',
                f'create table {b} partition of "deep{table.number}" default',
                f"create table {c} partition of {name} default",
            ],
        }.get(table.kind, [])
        if not table.parted:
            table.leaves = ()

    def _refer(self, table: Table) -> None:
        """Foreign keys to any table: itself, one that comes later, one that refers to this."""
        for reference in table.references:  # its own key
            action = self.dice.choice(ACTIONS[:4])
            self._constrain(table, reference, action)
        for place in range(self.dice.choice((1, 1, 2) if self.chained else (0, 1, 1, 2))):
            parents = [one for one in self.tables if one.kind not in ("none", "late")]
            if not parents:
                return
            parent = table if table in parents and self.chance(0.25) else self.dice.choice(parents)
            before = [one for one in parents if one.number < table.number]
            if self.chained and not place and before:
                parent = before[-1]
            filled = self.chance(0.2)
            some = [Column(f"to{place}_{one.name}", one.type, filled=False, bound=True) for one in parent.key]
            table.columns += some
            for column in some:
                usual = " default 2" if column.type == "int4" and self.chance(0.3) else ""
                self.before.append(f"alter table {quoted(table.name)} add {quoted(column.name)} {column.type}{usual}")
            reference = Reference(some, parent, parent.key)
            table.references.append(reference)
            self._constrain(table, reference, self.dice.choice(ACTIONS[:4] if filled else ACTIONS))

    def _constrain(self, table: Table, reference: Reference, action: str) -> None:
        own, there = (", ".join(quoted(one.name) for one in some) for some in (reference.columns, reference.targets))
        match = ""
        if reference.parent.kind == "span":
            own, there, action = (*(words.replace(", ", ", period ") for words in (own, there)), "")
        elif action == ACTIONS[4] and len(reference.columns) > 1 and self.chance(0.5):
            action += f" ({quoted(reference.columns[1].name)})"
        elif len(reference.columns) > 1 and self.chance(0.3):
            match = " match full"
        rule = f"f{table.number}_{len(table.rules)}"
        late = self.dice.choice(LATE)
        self.before.append(
            f"alter table {quoted(table.name)} add constraint {rule} foreign key ({own}) "
            f"references {quoted(reference.parent.name)} ({there}){match}{action}{late}"
        )
        table.rules.append(rule)

    def _fill(self, table: Table) -> None:
        for number in range(1, self.dice.randint(2, 9)):
            cells = self.cells(table, number, old=True)
            self.before.append("?" + insertion(table.name, cells))

    def cells(self, table: Table, number: int, *, old: bool = False) -> dict[str, str]:
        """A row's values by column, as SQL. `number`: what its key is made of."""
        found: dict[str, str] = {}
        referring = {id(one): reference for reference in table.references for one in reference.columns}
        for column in table.columns if old else table.current:
            name = column.name if old else str(column.now)
            if id(column) in referring:
                reference = referring[id(column)]
                if column is reference.columns[0]:
                    found.update(self.reference(reference, old=old))
            elif column in table.key:
                if not (column.identity and self.chance(0.5)):
                    found[name] = self.key_value(column, number)
            elif column.identity:
                if self.chance(0.3):
                    found[name] = str(self.dice.randint(1, 30))
            elif not (column.default and self.chance(0.4)):
                found[name] = self.cell(column, old=old)
        return found

    def key_value(self, column: Column, number: int) -> str:
        """A part of the key that is made of this number."""
        if column.type == "uuid":
            return f"md5('{number}')::uuid"
        if column.type == "daterange":
            return self.dice.choice(SPANS)
        if column.name == "lang":
            return self.dice.choice(("'de'", "'en'"))
        if column.name == "region":
            return str(self.dice.randrange(self.regions))
        return f"'k{number}'" if column.type == "text" else str(number)

    def cell(self, column: Column, *, old: bool = False) -> str:
        """Some value for it."""
        if not column.filled and self.chance(0.2):
            return "null"
        if column.beyond and self.relaxes and not old and self.chance(0.25):
            return column.beyond
        return column.default if column.type not in VALUES else self.value(column.type)

    def reference(self, reference: Reference, *, old: bool) -> dict[str, str]:
        """What names some row that is there, by column."""
        own = [one.name if old else str(one.now) for one in reference.columns]
        there = [quoted(one.name if old else str(one.now)) for one in reference.targets]
        if self.chance(0.15) and not reference.columns[0].filled:
            return dict.fromkeys(own, "null")
        parent = quoted(reference.parent.name if old else reference.parent.now)
        which = f"from {parent} order by {', '.join(there)} offset {self.dice.randint(0, 5)} limit 1"
        return {name: f"(select {target} {which})" for name, target in zip(own, there, strict=True)}
