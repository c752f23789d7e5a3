"""The migration of an entangled world, drawn step by step, each with what Django would tell of it. Pure."""

from __future__ import annotations

from odd_worlds import Effect, quoted
from twofold_moves import Moves
from twofold_worlds import WIDER, Column, Reference, Table


class Migration(Moves):
    """Draws the migration of `tables` with `dice`, into `steps`."""

    def migrate(self) -> None:
        """Draw the migration."""
        for table in list(self.tables):
            if self.chance(0.2):
                after = f"{table.name} moved"
                self._step(f"rename to {quoted(after)}", table, ("table-renamed", table.now, after, None, None))
                table.now = after
            self._widen_key(table)
            for column in table.columns:
                self._change(table, column)
            self._change_key(table)
            self.move_values(table)
            if self.chance(0.4):
                effect: Effect = ("column-added", table.now, table.now, "extra", None)
                self._step("add extra text default 'usual'", table, effect)
                table.columns.append(Column("", "text", "extra", "text", default="'usual'"))
            if self.relaxes:
                self._relax(table)
        for table in list(self.tables):
            self.change_rows(table)
        self._make_fresh()
        self._count()

    def _change_key(self, table: Table) -> None:
        """The same columns in another order, or no primary key any more."""
        referred = any(one.parent is table for other in self.tables for one in other.references)
        if table.kind in ("pair", "line", "nat") and not referred and self.chance(0.3):
            key = ", ".join(quoted(str(one.now)) for one in table.key[::-1])
            self._step(f"drop constraint {quoted(f'{table.name}_pkey')}", table)
            what = self.dice.choice(("primary key", "unique"))
            self._step(f"add {what} ({key})", table)
            table.primary = what == "primary key"

    def _relax(self, table: Table) -> None:
        for rule in table.rules:
            if self.chance(0.5):
                self._step(f"drop constraint if exists {rule}", table)
        for column in table.columns:
            if column.filled and not column.identity and column not in table.key and column.now and self.chance(0.5):
                self._step(f"alter {quoted(column.now)} drop not null", table)
                column.filled = False

    def _make_fresh(self) -> None:
        """A table that the old schema does not have, perhaps a partitioned one."""
        parents = [one for one in self.tables if one.kind in ("id", "uuid", "nat")]
        if parents and self.chance(0.5):
            parent = self.dice.choice(parents)
            key = parent.key[0]
            refers = f"references {quoted(parent.now)} on delete cascade on update cascade"
            ident = Column("", "int4", "id", "int4", filled=True, bound=True)
            region = Column("", "int4", "region", "int4", filled=True, bound=True)
            region.name = "region"  # by which values are drawn
            parted = self.chance(0.5)
            names, tail = ("id, region", " partition by list (region)") if parted else ("id", "")
            more = ", region int" if parted else ""
            made = (
                f"create table fresh (id int{more}, what text, at {key.now_type} {refers}, primary key ({names})){tail}"
            )
            self.steps.append((made, None))
            if parted:
                self.steps.append(("create table fresh_a partition of fresh for values in (0, 1, 2)", None))
                self.steps.append(("create table fresh_b partition of fresh default", None))
            fresh = Table(99, "", "list" if parted else "pair", [ident, region] if parted else [ident], [], now="fresh")
            fresh.leaves = ("fresh_a", "fresh_b") if parted else ()
            at = Column("", key.type, "at", key.now_type, bound=True)
            fresh.columns = [*fresh.key, Column("", "text", "what", "text"), at]
            fresh.references.append(Reference([at], parent, parent.key))
            self.tables.append(fresh)

    def _step(self, words: str, table: Table, effect: Effect | None = None) -> None:
        self.steps.append((f"alter table {quoted(table.now)} {words}", effect))

    def _widen_key(self, table: Table) -> None:
        """As where DEFAULT_AUTO_FIELD becomes bigger: the key, and what refers to it."""
        if table.kind != "id" or not self.chance(0.3):
            return
        pairs = [(table, table.key[0])]
        seen = {id(table.key[0])}
        for owner, column in pairs:
            for other in self.tables:
                for reference in other.references:
                    if reference.parent is owner and column in reference.targets:
                        one = reference.columns[reference.targets.index(column)]
                        if id(one) not in seen:
                            seen.add(id(one))
                            pairs.append((other, one))
        for owner, column in pairs:
            if column.now_type == "int4":
                self._retype(owner, column, "int8")
                column.beyond = "" if owner is not table else column.beyond

    def _retype(self, table: Table, column: Column, type_: str) -> None:
        effect: Effect = ("column-altered", table.now, table.now, column.now, None)
        self._step(f"alter {quoted(str(column.now))} type {type_}", table, effect)
        column.now_type = type_

    def _change(self, table: Table, column: Column) -> None:
        roll, now = self.dice.random(), str(column.now)
        if column.name == "touched" or (column in table.key and table.parted and column.name != "id"):
            return
        if roll < 0.12:
            effect: Effect = ("column-renamed", table.now, table.now, now, f"{now} ren")
            self._step(f"rename {quoted(now)} to {quoted(f'{now} ren')}", table, effect)
            column.now = f"{now} ren"
        elif roll < 0.3 and not column.bound and (column.default or not column.filled):
            effect = ("column-removed", table.now, table.now, now, None)
            self._step(f"drop {quoted(now)} cascade", table, effect)
            column.now = None
        elif roll > 0.75 and not column.bound and column.type in WIDER and column not in table.key:
            type_, beyond = WIDER[column.type]
            self._retype(table, column, type_)
            column.beyond = beyond

    def _count(self) -> None:
        """The new release counts in a parent's row how many children it has."""
        for table in self.tables:
            for reference in table.references:
                counters = [one for one in reference.parent.columns if one.name == "touched"]
                if len(reference.columns) != 1 or not counters or reference.parent is table or self.chance(0.5):
                    continue
                own, there = quoted(str(reference.columns[0].now)), quoted(str(reference.targets[0].now))
                name = f'"count {table.number}"'
                change = f'update {quoted(reference.parent.now)} set "touched" = coalesce("touched", 0) + 10'
                self.steps.append(
                    (
                        f"create function {name}() returns trigger language plpgsql as $$ begin "
                        f"{change} where {there} = case tg_op when 'DELETE' then old.{own} else new.{own} end; "
                        f"return null; end $$",
                        None,
                    )
                )
                on = f"after insert or delete on {quoted(table.now)} for each row execute function {name}()"
                self.steps.append((f"create trigger counts {on}", None))
                break
