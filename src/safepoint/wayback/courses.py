"""Where each old table and column goes while the operations of a launch go by. Pure.

A name says nothing by itself: it may be given to something new once the old one has left it. So what the launch makes
is followed as well, and what had a name that is given away unseen is lost, which is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from safepoint.django.operations import Effect, Operation
from safepoint.wayback.catalogue import Table


@dataclass
class Course:
    """An old table on its way. `now` is its name, `gone` the operation that removed it.

    `columns` are the old columns that it still has, by the names they have now; `added` those that are new in it, by
    the operations that made them. `doubts` say why a person has to decide about a removed one.
    """

    now: str
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
    models, new label -> old label."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self.of = {
            one.name: Course(one.relation, {column.name: column.name for column in one.columns}) for one in tables
        }
        self.created: dict[str, str] = {}
        self.models: dict[str, str] = {}

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
            self._displace(bare(effect.after), reason)
            self.created[bare(effect.after)] = reason
        elif effect.what == "table-renamed":
            self._rename(bare(effect.before), bare(effect.after), reason)
        elif effect.what == "table-deleted":
            course = self._at(bare(effect.before))
            self.created.pop(bare(effect.before), None)
            if course is not None:
                course.gone = reason
        elif (course := self._at(bare(effect.after))) is not None:
            _advance(course, effect, reason, opaque)

    def _at(self, name: str) -> Course | None:
        """The old table that has this name now."""
        return next((one for one in self.of.values() if one.gone is None and one.now == name), None)

    def _rename(self, before: str, after: str, reason: str) -> None:
        if before == after:
            return
        course = self._at(before)
        self._displace(after, reason)
        if course is not None:
            course.now = after
            course.because.append(reason)
        elif before in self.created:
            self.created[after] = self.created.pop(before)

    def _displace(self, name: str, reason: str) -> None:
        """A name is given to another table: who still has it was taken away by something that nobody saw."""
        course = self._at(name)
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


def bare(table: str) -> str:
    """A model's table without quotes and schema: Django lets `db_table` be 'schema"."table'. A dot alone is a part of
    the name, as Django quotes it."""
    return table.rpartition('"."')[2].strip('"')
