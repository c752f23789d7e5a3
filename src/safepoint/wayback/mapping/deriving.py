"""The way back worked out: derived from the migrations' operations, and checked against both catalogues. Pure.

What cannot be derived is a problem that is named, never a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from safepoint.django.operations import NONE, Operations
from safepoint.wayback.mapping import composites, expressions
from safepoint.wayback.mapping.catalogue import Catalogue, Column, Table
from safepoint.wayback.mapping.courses import Course, Courses
from safepoint.wayback.mapping.expressions import ID_TABLES
from safepoint.wayback.mapping.leads import Keys, Leads
from safepoint.wayback.mapping.loose import loose_references, references_to_made
from safepoint.wayback.mapping.mapping import NOT_CARRIED, SAME, ColumnRule, Kind, Mappers, TableRule, WayBack, short
from safepoint.wayback.mapping.tenants import named


def plan_mapping(
    old: Catalogue, new: Catalogue, operations: Operations = NONE, mappers: Mappers | None = None
) -> WayBack:
    """Work out the way back.

    Args:
        old: the twin's catalogue.
        new: the migrated database's.
        operations: what the migrations in between did.
        mappers: the plan's own expressions, which win over everything that is derived.
    """
    return _Planning(old, new, operations, mappers or {}).plan()


class _Planning:
    def __init__(self, old: Catalogue, new: Catalogue, operations: Operations, mappers: Mappers) -> None:
        self.old, self.new, self.operations = old, new, operations
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.mappers = self._checked(mappers)
        self.courses = Courses(old.tables.values())
        self.successors: dict[str, Table | None] = {}
        self.old_keys = Keys(old, operations.before, self.courses.home)
        self.new_keys = Keys(new, operations.after, self.courses.home)

    def plan(self) -> WayBack:
        self.courses.follow(self.operations)
        self.courses.settle(self.old.tables, self.new.tables)
        self.problems += self.courses.problems
        self.successors = {
            name: None if self.courses.of[name].gone else self._successor(table, self.courses.of[name])
            for name, table in self.old.tables.items()
        }
        rules: list[TableRule] = []
        kept: dict[str, str] = {}
        for name, table in self.old.tables.items():
            course, successor = self.courses.of[name], self.successors[name]
            if table.relation in NOT_CARRIED:
                kept[name] = NOT_CARRIED[table.relation]
            elif successor is None:
                kept[name] = self._left(table, course)
            else:
                rules.append(self._table(table, successor, course))
        fed = {rule.new for rule in rules}
        self._check_feeds(rules)
        stash = {
            name: self.courses.created.get((table.schema, table.relation))
            or NOT_CARRIED.get(table.relation)
            or "not in the old schema"
            for name, table in self.new.tables.items()
            if name not in fed and table.relation != "django_migrations"
        }
        self.notes += [
            f"{one} may have changed values: only the round trip tells."
            for one in self.operations.operations
            if one.opaque
        ]
        loose = tuple(loose_references(rules, self.old_keys, self.new, self.operations))
        labels = {
            label: name for label, name in self.old_keys.models.items() if any(one.kind is not None for one in loose)
        }
        told = tuple(self.problems), tuple(dict.fromkeys(self.notes))  # a migration may have run SQL ten times
        to_made = tuple(references_to_made(stash, self.new_keys, self.operations))
        made = {label: name for label, name in self.new_keys.models.items() if to_made and name in stash}
        return WayBack(tuple(rules), stash, kept, self._models(), *told, loose, labels, to_made, made)

    def _models(self) -> dict[str, str]:
        """Renamed models, and those that went to another app with their table: new label -> old label."""
        now = {name: label for label, name in self.new_keys.models.items()}
        moved = {
            label: before
            for before, name in self.old_keys.models.items()
            if (heir := self.successors[name]) is not None
            and (label := now.get(heir.name, before)) not in self.old_keys.models
            and before not in self.new_keys.models
            and label.count(".") == before.count(".") == 1  # not a many-to-many table
        }
        known = {
            new: old for new, old in self.courses.models.items() if old in self.old_keys.models or new not in moved
        }
        return {**moved, **known}

    def _check_feeds(self, rules: list[TableRule]) -> None:
        """What two would be made of is one's own, and nobody knows whose."""
        rivals: dict[str, list[str]] = {}
        for rule in rules:
            rivals.setdefault(rule.new, []).append(short(rule.old))
        self.problems += [
            f"{', '.join(names)} would all be made of {short(new)}: only one can be."
            for new, names in rivals.items()
            if len(names) > 1
        ]
        for rule in rules:
            for column in rule.columns:
                names = [one.column for one in rule.columns if one.new is not None and one.new == column.new]
                if len(names) > 1 and names[0] == column.column:
                    self.problems.append(
                        f"{short(rule.old)}: {', '.join(names)} would all be made of {column.new}: all but one need "
                        "a mapper."
                    )

    def _checked(self, mappers: Mappers) -> dict[str, Mapping[str, str]]:
        found: dict[str, Mapping[str, str]] = {}
        for name in sorted(mappers, key=self.old.tables.__contains__):  # what is said of a single tenant's comes last
            columns, tables = mappers[name], named(self.old, name)
            if not tables:
                self.problems.append(f"wayback.tables.{name}: the old schema has no such table.")
            unknown = [one for one in columns if tables and not any(one in table.by_name for table in tables)]
            self.problems += [f"wayback.tables.{name}: the table has no column {column}." for column in unknown]
            for table in tables:
                own = {column: mapper for column, mapper in columns.items() if column in table.by_name}
                found[table.name] = {**found.get(table.name, {}), **own}
        return found

    def _left(self, table: Table, course: Course) -> str:
        """Why an old table stays as it was: a note where that is known, or where the plan names it; else a problem."""
        why = course.gone or course.said_gone or "the new schema has no such table, and no operation says why"
        there = ".".join(course.now) in self.new.tables and not self.courses.taken(course.now)
        name, doubt = short(table.name), course.doubt
        if course.gone is None or (there and doubt is None):
            doubt = "and yet it is there" if there else "nobody knows where its rows are written now"
        if doubt is None:
            self.notes.append(f"{name} stays as it was at the safe point: {why}.")
        elif table.name in self.mappers:  # who names the table in the plan has seen it
            self.notes.append(f"{name} stays as it was at the safe point, as the plan has it: {why}.")
        else:
            self.problems.append(
                f"{name} stays as it was at the safe point: {why}; {doubt}. "
                f"Where it may stay so, put [wayback.tables.{keyed(table.name)}] into the plan."
            )
        return why

    def _successor(self, table: Table, course: Course) -> Table | None:
        place = ".".join(course.now)
        stays = self.courses.stays(course, self.new.tables)
        if place in self.new.tables and stays:
            self.problems.append(
                f"{short(table.name)}: {'; '.join(course.because)}; and yet {', '.join(stays)} and {place} are both "
                "there, and nobody knows which one is written to. Let the migration drop the one that is not."
            )
        # An operation that changes only Django's state (SeparateDatabaseAndState) left the table its name.
        own = [] if self.courses.taken((table.schema, table.relation)) else [table.name]
        found = [name for name in (place, *stays, *own) if name in self.new.tables]
        if found:
            return self.new.tables[found[0]]
        # SQL may have given it another schema; a table that stood there before is another one.
        moved = [
            one
            for one in self.new.tables.values()
            if one.relation == course.now[1]
            and one.name not in self.old.tables
            and (one.schema, one.relation) not in self.courses.created
        ]
        return moved[0] if len(moved) == 1 else None

    def _table(self, old: Table, new: Table, course: Course) -> TableRule:
        columns = tuple(self._column(old, new, column, course) for column in old.columns)
        homes = {rule.new: rule.column for rule in columns if rule.new is not None}
        key = tuple((homes[name], name) for name in new.key if name in homes)
        columns = tuple(self._as_key(old, rule) if rule.column in dict(key) else rule for rule in columns)
        self._check_key(old, columns, key)
        if len(key) < len(new.key):
            lost = ", ".join(name for name in new.key if name not in homes)
            self.problems.append(
                f"{short(old.name)}: its rows are named by {lost} in the new schema, which the old one does not have."
            )
            key = ()
        mapped = [rule.expression or "" for rule in columns if rule.kind == "mapped"]
        free = [column.name for column in new.columns if column.name not in homes and not column.generated]
        read = {name for name in free if any(expressions.mentions(one, name) for one in mapped)}
        whole = {name for name in read if any(expressions.is_column(one, name) for one in mapped)}
        stash = tuple(name for name in free if name not in read)
        source = "; ".join(course.because) or SAME
        return TableRule(old.name, new.name, source, key, columns, stash, tuple(sorted(read - whole)))

    def _check_key(self, old: Table, columns: tuple[ColumnRule, ...], key: tuple[tuple[str, str], ...]) -> None:
        names = {name for name, _ in key}
        if names and not any(one.plain and set(one.columns) <= names for one in old.uniques):
            self.problems.append(
                f"{short(old.name)}: {', '.join(sorted(names))} names a row in the new schema, but not in the old one."
            )
        self.problems += [
            f"{short(old.name)}.{rule.column} names a row, and its values differ between the databases."
            for rule in columns
            if rule.column in names and rule.kind == "remapped" and _identified(self.old, old, rule.column) is None
        ]

    def _as_key(self, table: Table, rule: ColumnRule) -> ColumnRule:
        """A column that names its row by what it is about: a setting of each model, whose key is its content type.

        Rows are matched by their keys as they stand, so only an id that both databases have for the same one may pass;
        the foreign key's check finds any other.
        """
        if rule.kind != "remapped" or rule.new is None or rule.home is None:
            return rule
        if _identified(self.old, table, rule.column) is None:
            return rule
        return replace(rule, expression=expressions.unmoved(rule.new, rule.home))

    def _column(self, old: Table, new: Table, column: Column, course: Course) -> ColumnRule:
        mapper = self.mappers.get(old.name, {}).get(column.name)
        if column.generated:
            return ColumnRule(column.name, "generated", None, "computed by PostgreSQL")
        if mapper is not None:
            source = f"launch.toml: wayback.tables.{old.relation}.columns.{column.name}"
            return ColumnRule(column.name, "mapped", f"({mapper})", source, type=column.type)
        successor = self._heir(new, column.name, course)
        if successor is None:
            return self._restored(old, new, column, course)
        rule = self._taken(old, column, successor, course)
        doubt = self._doubt(old, new, rule, course)
        if doubt is not None:
            self._ask(old, column, rule.source, doubt)
            return replace(rule, doubt=doubt)
        return rule

    def _doubt(self, old: Table, new: Table, rule: ColumnRule, course: Course) -> str | None:
        """Why a column of the new table may not be what the old one was."""
        stays = course.stays(rule.column, new.by_name)
        if stays and rule.new == course.columns[rule.column]:
            return f"{', '.join(stays)} and {rule.new} are both there, and nobody knows which one is written to"
        bases = old.by_name[rule.column].base, new.by_name[str(rule.new)].base
        if moved := composites.moved(self.old.composites, bases[0], self.new.composites, bases[1]):
            return f"{', '.join(moved)} of {bases[1]} stand at other places, and a value says no attribute's name"
        was, now = self.old_keys.leads(old, rule.column), self.new_keys.leads(new, str(rule.new))
        if was.first and now.first and not self._today(was).meet(now):
            names = [", ".join(short(name) for name in sorted(one.first)) for one in (was, now)]
            if names[0] == names[1]:
                return f"its values named rows of {names[0]}, and name them by another column now"
            return f"its values named rows of {names[0]}, and name rows of {names[1]} now"
        return None

    def _today(self, was: Leads) -> Leads:
        """Where a column led, by the names that it all has in the new schema."""
        ends = {
            (heir.name, self.courses.of[table].columns.get(column, column))
            for table, column in was.ends
            if (heir := self.successors[table]) is not None
        }
        return replace(was, ends=frozenset(ends))

    def _ask(self, old: Table, column: Column, why: str, doubt: str) -> None:
        self.problems.append(f"{short(old.name)}.{column.name} needs a mapper: {why}; {doubt}.")

    def _heir(self, new: Table, column: str, course: Course) -> Column | None:
        """The new column that an old one became."""
        if column in course.removed:
            return None
        # An operation that changes only Django's state (SeparateDatabaseAndState) left the column its name.
        own = [] if column in course.taken else [column]
        names = (course.columns[column], *course.stays(column, new.by_name), *own)
        return next((new.by_name[name] for name in names if name in new.by_name), None)

    def _taken(self, old: Table, column: Column, new: Column, course: Course) -> ColumnRule:
        parent = _identified(self.old, old, column.name)
        told = self._told(old, column.name) if parent is None else None
        source = course.reasons.get(column.name, SAME)
        if (parent or told) and column.type == new.type:
            home = parent or str(told)
            words = f"by natural key of {short(home)}" + ("" if source == SAME else f"; {source}")
            remapped = expressions.remapped(new.name, home)
            # Without a constraint there may be ids of nothing, which stay as they are.
            value = remapped if parent else f"coalesce({remapped}, {expressions.of_new(new.name)})"
            return ColumnRule(column.name, "remapped", value, words, new.name, home=home)
        if column.type == new.type:
            kind: Kind = "same" if column.name == new.name else "renamed"
            if kind == "renamed" and source == SAME:
                source = "column renamed"
            return ColumnRule(column.name, kind, expressions.of_new(new.name), source, new.name)
        words = f"{new.type} -> {column.type}"
        expression = expressions.retyped(column, new, self.old.casts)
        return ColumnRule(column.name, "retyped", expression, f"{source}; {words}", new.name)

    def _told(self, old: Table, column: str) -> str | None:
        """As `_identified`, where the models say it and no constraint does (`db_constraint = False`)."""
        leads = self.old_keys.leads(old, column)
        parents = () if leads.exact else sorted(leads.first)
        return next((name for name in parents if self.old.tables[name].relation in ID_TABLES), None)

    def _restored(self, old: Table, new: Table, column: Column, course: Course) -> ColumnRule:
        source = course.removed.get(column.name) or course.said_removed.get(column.name)
        doubt = course.doubts.get(column.name)
        if column.name not in course.removed:
            doubt = "nobody knows where its values went"
        elif column.name in new.by_name and column.name not in course.taken:
            doubt = "and yet a column of its name is there"
        elif column.name in new.by_name and new.by_name[column.name].generated:
            doubt = "a column of its name is computed by PostgreSQL now, of values that may change"
        source = source or "not in the new catalogue, and no operation says why"
        default = self._default(old, column)
        if default is None and column.not_null:
            self._ask(old, column, source, "a new row would be NULL")
            return ColumnRule(column.name, "none", expressions.restored(column.name, None), source, doubt="no value")
        if doubt is not None:
            self._ask(old, column, source, doubt)
        expression = expressions.restored(column.name, default)
        return ColumnRule(column.name, "restored", expression, f"the twin's own value; {source}", doubt=doubt)

    def _default(self, old: Table, column: Column) -> str | None:
        if column.default is not None:
            return column.default
        state = self.old.of_django(self.operations.before, old)
        known = state.columns.get(column.name) if state else None
        if known is not None and known.default is not None:
            return f"{expressions.literal(known.default)}::{column.type}"
        return None


def _identified(catalogue: Catalogue, table: Table, column: str) -> str | None:
    """The table of content types or permissions that this column refers to."""
    for key in table.foreign_keys:
        if key.columns == (column,) and catalogue.tables[key.parent].relation in ID_TABLES:
            return key.parent
    return None


def keyed(name: str) -> str:
    """A name, of a table of `public` without its schema, as a key of the plan file."""
    said = short(name)
    return said if re.fullmatch(r"[\w-]+", said, re.ASCII) else json.dumps(said)
