"""Where each old table and column goes while the operations of a launch go by. Pure.

A name says nothing by itself: it may be given to something new once the old one has left it. So what the launch makes
is followed as well, and what had a name that is given away unseen is lost, which is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from safepoint.django.operations import Effect, Operation
from safepoint.wayback.catalogue import Table

Place = tuple[str, str]
"""Schema and table."""


@dataclass
class Course:
    """An old table on its way. `now` is where it stands, `gone` the operation that removed it.

    `columns` are the old columns that it still has, by the names they have now; `added` those that are new in it, by
    the operations that made them. `doubts` say why a person has to decide about a removed one.
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

    def own(self, name: str | None) -> str | None:
        """The old column that has this name now; None where a new one has it, or none."""
        return next((own for own, now in self.columns.items() if now == name), None)

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
        self.created: dict[Place, str] = {}
        self.models: dict[str, str] = {}
        self.problems: list[str] = []
        # Where Django's own record stands, there it makes its tables.
        homes = [course.now[0] for course in self.of.values() if course.now[1] == "django_migrations"]
        self.home = homes[0] if len(homes) == 1 else "public"

    def follow(self, operations: Iterable[Operation]) -> None:
        """Walk through the operations in their order."""
        opaque: dict[str, str] = {}
        for operation in operations:
            app = operation.migration.partition(".")[0]
            for effect in operation.effects:
                self._advance(effect, str(operation), opaque.get(app))
            if operation.opaque:
                opaque[app] = str(operation)

    def _advance(self, effect: Effect, reason: str, opaque: str | None) -> None:
        if effect.what == "model-renamed":
            self.models[str(effect.name)] = self.models.pop(effect.model, effect.model)
        elif effect.what == "table-created":
            place = placed(effect.after, self.home)
            self._displace(place, reason)
            self.created[place] = reason
        elif effect.what == "table-renamed":
            before = self._place(effect.before, reason)
            self._rename(before, placed(effect.after, before[0]), reason)
        elif effect.what == "table-deleted":
            place = self._place(effect.before, reason)
            course = self._at(place)
            self.created.pop(place, None)
            if course is not None:
                course.gone = reason
        elif (course := self._at(self._place(effect.after, reason))) is not None:
            _advance(course, effect, reason, opaque)

    def _place(self, table: str, reason: str) -> Place:
        """Where a model's table stands that is there by now."""
        exact = placed(table, "")
        if exact[0]:
            return exact
        there = {course.now for course in self.of.values() if course.gone is None} | set(self.created)
        schemas = sorted(schema for schema, relation in there if relation == exact[1])
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
        return next((one for one in self.of.values() if one.gone is None and one.now == place), None)

    def _rename(self, before: Place, after: Place, reason: str) -> None:
        if before == after:
            return
        course = self._at(before)
        self._displace(after, reason)
        if course is not None:
            course.now = after
            course.because.append(reason)
        elif before in self.created:
            self.created[after] = self.created.pop(before)

    def _displace(self, place: Place, reason: str) -> None:
        """A name is given to another table: who still has it was taken away by something that nobody saw."""
        course = self._at(place)
        if course is not None:
            course.gone, course.doubt = (
                f"{reason}, which has its name now",
                "nobody knows where its rows are written now",
            )


def _advance(course: Course, effect: Effect, reason: str, opaque: str | None) -> None:
    """One effect on a column of an old table, or on one that is new in it."""
    name, own = str(effect.name), course.own(effect.name)
    if effect.what == "column-added":
        _displace(course, own, reason)
        course.added[name] = reason
    elif name in course.added:
        if effect.what == "column-removed":
            del course.added[name]
        elif effect.what == "column-renamed" and effect.now is not None:
            _displace(course, course.own(effect.now), reason)
            course.added[effect.now] = course.added.pop(name)
    elif own is None:
        return  # neither an old one nor one that we saw coming: the catalogues say whether it is there
    elif effect.what == "column-removed":
        doubt = None if opaque is None else f"a data migration ran before ({opaque}) and may have moved its values"
        course.lose(own, reason, doubt)
    elif effect.what == "column-renamed" and effect.now is not None:
        if effect.now != name:
            _displace(course, course.own(effect.now), reason)
        course.columns[own] = effect.now
        course.explain(own, reason)
    elif effect.what == "column-altered":
        course.explain(own, reason)


def _displace(course: Course, own: str | None, reason: str) -> None:
    """A name is given to another column: who still has it was taken away by something that nobody saw."""
    if own is not None:
        course.lose(own, f"{reason}, which has its name now", "nobody knows where its values went")


def placed(table: str, schema: str) -> Place:
    """Where a model's table stands: in this schema, unless its name has one. Django lets `db_table` be
    'schema"."table'; a dot alone is a part of the name, as Django quotes it."""
    given, _, relation = table.rpartition('"."')
    return given.strip('"') or schema, relation.strip('"')
