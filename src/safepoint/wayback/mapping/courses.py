"""Where each old table and column goes while the operations of a launch go by. Pure.

A name says nothing by itself: it may be given to something new once the old one has left it. So what the launch makes
is followed as well, and what had a name that is given away unseen is lost, which is said.

What is only claimed (the models' state says so of somebody's SQL) takes nothing away: a name that was left by a claim
is remembered, and the new catalogue says which one there is.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from safepoint.django.operations import Effect, Operation, Operations
from safepoint.wayback.mapping.catalogue import Table

Place = tuple[str, str]
"""Schema and table."""


@dataclass
class Course:
    """An old table on its way. `now` is where it stands, `gone` the operation that removed it.

    `columns` are the old columns that it still has, by the names they have now; `added` those that are new in it, by
    the operations that made them. `doubts` say why a person has to decide about a removed one. `left` are names that
    were left by a claim, and `said_gone` and `said_removed` what is removed by one.
    """

    now: Place
    columns: dict[str, str]
    gone: str | None = None
    doubt: str | None = None
    because: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    left: list[Place] = field(default_factory=list)
    left_by: dict[str, list[str]] = field(default_factory=dict)
    said_gone: str | None = None
    said_removed: dict[str, str] = field(default_factory=dict)

    def own(self, name: str | None) -> str | None:
        """The old column that has this name now; None where a new one has it, or none."""
        return next((own for own, now in self.columns.items() if now == name), None)

    def stays(self, column: str, names: Container[str]) -> list[str]:
        """The names that an old column left by a claim and that are there all the same, of nothing else."""
        left = dict.fromkeys(self.left_by.get(column, ()))
        return [name for name in left if name in names and name not in self.taken]

    @property
    def taken(self) -> set[str]:
        """The names of its columns, old and new ones."""
        return {*self.added, *self.columns.values()}

    def lose(self, column: str, reason: str, doubt: str | None) -> None:
        """An old column is no longer there."""
        del self.columns[column]
        self.removed[column] = reason
        if doubt is not None:
            self.doubts[column] = doubt

    def explain(self, column: str, reason: str) -> None:
        """Note what was done to a column that is still there."""
        before = self.reasons.get(column)
        self.reasons[column] = reason if before is None else f"{before}; {reason}"


class Courses:
    """All old tables on their way. `created` are new tables, by the operations that made them; `models` are renamed
    models, new label -> old label; `problems` what an operation is about that cannot be told."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self.of = {
            one.name: Course((one.schema, one.relation), {column.name: column.name for column in one.columns})
            for one in tables
        }
        self._standing = {course.now: course for course in self.of.values()}
        self.created: dict[Place, str] = {}
        self.models: dict[str, str] = {}
        self.problems: list[str] = []
        # Where Django's own record stands, there it makes its tables: for each tenant in a schema of its own, perhaps.
        self.homes = [course.now[0] for course in self.of.values() if course.now[1] == "django_migrations"]
        self.home = self.homes[0] if len(self.homes) == 1 else "public"

    def follow(self, operations: Operations) -> None:
        """Walk through the operations in their order."""
        opaque: list[Operation] = []
        for operation in operations.operations:
            doubt = None
            if operation.opaque:
                opaque.append(operation)
                doubt = "it may have moved the values itself"
            elif before := [one for one in opaque if operations.related(one.migration, operation.migration)]:
                doubt = f"a data migration ran before ({before[-1]}) and may have moved the values"
            for effect in operation.effects:
                self._advance(effect, operation, doubt)

    def settle(self, old: Mapping[str, Table], new: Mapping[str, Table]) -> None:
        """Of several homes some may have a table that the operations passed by: an application that went from the
        tenants to what they share leaves one. It is as it was, and what is said of it contradicts the new catalogue.
        """
        for name, table in old.items() if len(self.homes) > 1 else ():
            course, now = self.of[name], new.get(name)
            untouched = now is not None and [(one.name, one.type) for one in now.columns] == [
                (one.name, one.type) for one in table.columns
            ]
            if untouched and (course.gone or course.removed or course.now != (table.schema, table.relation)):
                self._standing.pop(course.now, None)
                self.of[name] = Course((table.schema, table.relation), {one: one for one in table.by_name})
                self._standing[table.schema, table.relation] = self.of[name]

    def stays(self, course: Course, names: Container[str]) -> list[str]:
        """The same of a table: `schema.table`."""
        places = [".".join(place) for place in dict.fromkeys(course.left) if not self.taken(place)]
        return [name for name in places if name in names]

    def taken(self, place: Place) -> bool:
        """Is it a new table's place, or that of an old one on its way?"""
        return place in self.created or self._at(place) is not None

    def _advance(self, effect: Effect, operation: Operation, doubt: str | None) -> None:
        reason = str(operation)
        if effect.what == "model-renamed":
            self.models[str(effect.name)] = self.models.pop(effect.model, effect.model)
        elif effect.what == "table-created":
            self._create(effect, reason)
        elif effect.what == "table-renamed":
            for before in self._places(effect.before, reason):
                self._rename(before, placed(effect.after, before[0]), reason, effect.claimed)
        elif effect.what == "table-deleted":
            for place in self._places(effect.before, reason):
                self._delete(place, effect, reason, doubt)
        else:
            for place in self._places(effect.after, reason):
                if (course := self._at(place)) is not None:
                    _advance(course, effect, reason, doubt)

    def _create(self, effect: Effect, reason: str) -> None:
        for place in dict.fromkeys(placed(effect.after, home) for home in (self.home, *self.homes)):
            if effect.claimed and self._at(place) is not None:
                continue  # a model that takes over a table that is there
            self._displace(place, reason)
            self.created[place] = reason

    def _delete(self, place: Place, effect: Effect, reason: str, doubt: str | None) -> None:
        course = self._at(place)
        if not effect.claimed:
            self.created.pop(place, None)
            self._leave(place, reason, doubt)
        elif course is not None:
            course.said_gone = reason

    def _places(self, table: str, reason: str) -> list[Place]:
        """Where a model's table stands that is there by now: of several tenants, each has one."""
        exact = placed(table, "")
        if exact[0]:
            return [exact]
        places = [(home, exact[1]) for home in self.homes]
        return [one for one in places if self.taken(one)] or [self._place(exact, reason)]

    def _place(self, exact: Place, reason: str) -> Place:
        there = (place for places in (self._standing, self.created) for place in places)
        schemas = sorted({schema for schema, relation in there if relation == exact[1]})
        if not schemas or self.home in schemas:
            return self.home, exact[1]
        if len(schemas) > 1 and "public" not in schemas:
            self.problems.append(
                f"{exact[1]} stands in the schemas {', '.join(schemas)}, and nobody knows which one is meant by "
                f"{reason}. Give another name to the one that is not the application's."
            )
        return ("public" if "public" in schemas else schemas[0]), exact[1]

    def _at(self, place: Place) -> Course | None:
        """The old table that stands here now."""
        return self._standing.get(place)

    def _leave(self, place: Place, reason: str, doubt: str | None) -> None:
        """The old table that stands here is no longer there."""
        course = self._standing.pop(place, None)
        if course is not None:
            course.gone, course.doubt = reason, doubt

    def _rename(self, before: Place, after: Place, reason: str, claimed: bool) -> None:
        if before == after:
            return
        course = self._at(before)
        if claimed and self._at(after) is not None:
            return  # a model goes over to another table that was there before
        self._displace(after, reason)
        if course is not None:
            if claimed:
                course.left.append(before)
            self._standing[after] = self._standing.pop(before)
            course.now = after
            self.created.pop(after, None)
            course.because.append(reason)
        elif before in self.created:
            self.created[after] = self.created.pop(before)

    def _displace(self, place: Place, reason: str) -> None:
        """A name is given to another table: who still has it was taken away by something that nobody saw."""
        self._leave(place, f"{reason}, which has its name now", "nobody knows where its rows are written now")


def _advance(course: Course, effect: Effect, reason: str, doubt: str | None) -> None:
    """One effect on a column of an old table, or on one that is new in it."""
    name, own = str(effect.name), course.own(effect.name)
    if effect.what == "column-added":
        if not (effect.claimed and (own is not None or name in course.added)):  # else a field takes over what is there
            _displace(course, own, reason)
            course.added[name] = reason
    elif name in course.added:
        _advance_added(course, name, effect, reason)
    elif own is not None:  # else nobody saw it coming: the catalogues say whether it is there
        _advance_own(course, own, effect, reason, doubt)


def _advance_own(course: Course, own: str, effect: Effect, reason: str, doubt: str | None) -> None:
    if effect.what == "column-removed" and effect.claimed:
        course.said_removed[own] = reason
    elif effect.what == "column-removed":
        course.lose(own, reason, doubt)
    elif effect.what == "column-renamed" and effect.now is not None:
        if effect.claimed and course.own(effect.now) not in (None, own):
            return  # a field goes over to another column that was there before
        if effect.now != effect.name:
            _displace(course, course.own(effect.now), reason)
        if effect.claimed:
            course.left_by.setdefault(own, []).append(course.columns[own])
        course.columns[own] = effect.now
        course.added.pop(effect.now, None)
        course.explain(own, reason)
    elif effect.what == "column-altered":
        course.explain(own, reason)


def _advance_added(course: Course, name: str, effect: Effect, reason: str) -> None:
    if effect.what == "column-removed" and not effect.claimed:
        del course.added[name]
    elif effect.what == "column-renamed" and effect.now is not None:
        _displace(course, course.own(effect.now), reason)
        course.added[effect.now] = course.added.pop(name)


def _displace(course: Course, own: str | None, reason: str) -> None:
    """A name is given to another column: who still has it was taken away by something that nobody saw."""
    if own is not None:
        said = course.said_removed.get(own) or f"{reason}, which has its name now"
        course.lose(own, said, "nobody knows where its values went")


def placed(table: str, schema: str) -> Place:
    """Where a model's table stands: in this schema, unless its name has one. Django lets `db_table` be
    'schema"."table'; a dot alone is a part of the name, as Django quotes it."""
    given, _, relation = table.rpartition('"."')
    return given.strip('"') or schema, relation.strip('"')
