"""The rules of the lint by name: what a plan file may waive. Each says in which mode it speaks and how grave it is.

What is not here is never said. In a window nobody waits for a lock and no old code meets the new schema, so that
what remains to be said is little, and each line of it worth reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Mode = Literal["window", "rolling"]
Grade = Literal["breaks", "locks", "risk", "hint"]
"""`breaks`: old code that still runs fails. `locks`: it waits. `risk`: it may fail, or lose something, on the day."""


@dataclass(frozen=True)
class Rule:
    """One rule. `modes` says where it speaks; `safer` is the way that it recommends.

    Rules of squawk (https://squawkhq.com/docs/rules) are only taken where they add to our own: `covered` names those
    of ours after which it would say the same once more.
    """

    grade: Grade
    modes: tuple[Mode, ...]
    safer: str
    squawk: bool = False
    covered: tuple[str, ...] = ()


_ROLLING: tuple[Mode, ...] = ("rolling",)
_WINDOW: tuple[Mode, ...] = ("window",)
_BOTH: tuple[Mode, ...] = ("window", "rolling")

_OWN: dict[str, Rule] = {
    "removes-table": Rule(
        "breaks", _ROLLING, "Release code that no longer uses it first; remove the model in a later release."
    ),
    "renames-table": Rule(
        "breaks", _ROLLING, "Keep the name with `db_table`, or leave a view of the old name until the old code is gone."
    ),
    "removes-column": Rule(
        "breaks",
        _ROLLING,
        "Release code without the field first (SeparateDatabaseAndState), and drop the column in a later release.",
    ),
    "renames-column": Rule(
        "breaks", _ROLLING, "Keep the column's name with `db_column`, or add a new one, copy, and remove the old later."
    ),
    "requires-column": Rule(
        "breaks",
        _ROLLING,
        "Give it a `db_default` (Django 5.0), or make it nullable now and NOT NULL in a later release.",
    ),
    "retypes-column": Rule(
        "breaks", _ROLLING, "Add a column of the new type, copy in batches, and change over in a later release."
    ),
    "restricts-rows": Rule(
        "risk", _ROLLING, "Release code that keeps to it first, and add the constraint in a later release."
    ),
    "holds-lock": Rule("locks", _ROLLING, "Do it in a window, or in smaller steps."),
    "narrows-column": Rule(
        "risk",
        _BOTH,
        "Keep longer values out in the old release, or look again shortly before: rehearse on a fresh snapshot.",
    ),
    "half-applied": Rule(
        "risk",
        _BOTH,
        "One operation for each migration that is not atomic, so that there is nothing half-way.",
    ),
    "concurrently-in-window": Rule(
        "hint",
        _WINDOW,
        "In a window nobody writes: AddIndex takes half the time, and leaves nothing behind when it fails.",
    ),
    "small-key": Rule("hint", _BOTH, "BigAutoField: a 32-bit key ends at 2,147,483,647, and changing it rewrites."),
    "hides-schema": Rule(
        "risk", _BOTH, "Give RunSQL its `state_operations`: Django and the way back go by the models' state."
    ),
    "unexpected-change": Rule(
        "risk",
        _BOTH,
        "Is it meant? Then say so by a waiver with the reason. Else look at that data migration, or at a trigger.",
    ),
}

_SQUAWK: dict[str, Rule] = {
    "ban-drop-database": Rule("risk", _BOTH, "Leave it out of a migration.", True),
    "ban-drop-schema": Rule("risk", _BOTH, "See that nothing else lives in that schema.", True),
    "ban-drop-extension": Rule("risk", _BOTH, "See that no column and no index needs it.", True),
    "ban-truncate-cascade": Rule("risk", _BOTH, "Name the tables one by one: CASCADE empties more than it says.", True),
    "ban-uncommitted-transaction": Rule("risk", _BOTH, "Leave transactions to Django.", True),
    "ban-concurrent-index-creation-in-transaction": Rule(
        "risk", _BOTH, "Set `atomic = False` on this migration.", True
    ),
    "ban-disable-trigger": Rule("risk", _BOTH, "Turn them on again: nobody misses a trigger that stays off.", True),
    "identifier-too-long": Rule("risk", _BOTH, "PostgreSQL cuts names at 63 bytes: give a shorter one.", True),
    "ban-drop-table": Rule("breaks", _ROLLING, "Remove it in a later release.", True, ("removes-table",)),
    "ban-drop-column": Rule("breaks", _ROLLING, "Drop it in a later release.", True, ("removes-column",)),
    "renaming-table": Rule("breaks", _ROLLING, "Leave a view of the old name.", True, ("renames-table",)),
    "renaming-column": Rule("breaks", _ROLLING, "Add a new column and copy.", True, ("renames-column",)),
    "changing-column-type": Rule(
        "breaks", _ROLLING, "Add a new column and copy.", True, ("retypes-column", "narrows-column")
    ),
    "adding-not-nullable-field": Rule(
        "breaks", _ROLLING, "Add a CHECK ... NOT VALID, validate it, then SET NOT NULL.", True, ("requires-column",)
    ),
    "adding-required-field": Rule("breaks", _ROLLING, "Give it a DEFAULT.", True, ("requires-column",)),
    "require-concurrent-index-creation": Rule("locks", _ROLLING, "AddIndexConcurrently.", True, ("holds-lock",)),
    "require-concurrent-index-deletion": Rule("locks", _ROLLING, "RemoveIndexConcurrently.", True, ("holds-lock",)),
    "constraint-missing-not-valid": Rule(
        "locks", _ROLLING, "AddConstraintNotValid, then ValidateConstraint.", True, ("holds-lock",)
    ),
    "adding-foreign-key-constraint": Rule(
        "locks", _ROLLING, "NOT VALID first, then VALIDATE CONSTRAINT.", True, ("holds-lock",)
    ),
    "disallowed-unique-constraint": Rule(
        "locks", _ROLLING, "A unique index CONCURRENTLY, then USING INDEX.", True, ("holds-lock",)
    ),
    "adding-field-with-default": Rule(
        "locks", _ROLLING, "Add it without a default, then fill it in batches.", True, ("holds-lock",)
    ),
}

RULES: Mapping[str, Rule] = {**_OWN, **_SQUAWK}
