"""What Django gives to columns in which nobody filled anything: a re-attachment knows by it what nobody wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safepoint.django.operations import Operations


def django_defaults(proof: Mapping[str, Any] | None) -> dict[str, dict[str, str | None]]:
    """`defaults_of` what was proven; empty where nothing was."""
    if proof is None or not proof["proven"]:
        return {}
    return defaults_of(Operations.from_json(dict(proof["operations"])))


def defaults_of(known: Operations) -> dict[str, dict[str, str | None]]:
    """By the new tables, as Django calls them, and columns: what it gives to a row in which nobody filled them in."""
    states = known.after.items()
    return {table: {name: column.default for name, column in state.columns.items()} for table, state in states}
