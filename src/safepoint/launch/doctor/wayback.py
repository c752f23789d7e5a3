"""The preflight check of the names in `[wayback]`: a mapper of no table leaves the way back unproven, a day later."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import datetime
from difflib import get_close_matches

from safepoint.config import PlanFile
from safepoint.errors import Refused
from safepoint.launch.doctor.finding import Finding, Look, failure, ok, warning
from safepoint.launch.wayback.waybacks import newest_way_back
from safepoint.postgres.connections import connect
from safepoint.postgres.target import target
from safepoint.wayback.mapping.catalogue import Catalogue, read_catalogue
from safepoint.wayback.mapping.schemas import Schemas


def wayback_names(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """Tables and columns of the mappers are the old release's; those of `affected` are the new one's."""
    del now
    mappers, affected = plan.wayback.mappers, plan.wayback.affected
    if not mappers and not affected:
        yield ok("wayback", "The plan file names no table for the way back")
        return
    with connect(target(plan.database), application_name="safepoint doctor") as connection:
        live = read_catalogue(connection)
    known: Schemas | None = None
    with suppress(Refused):
        known = newest_way_back(plan).schemas
    wrong = [
        *_wrong_mappers(plan, live, None if known is None else known.old),
        *_wrong_affected(affected, live, None if known is None else known.new),
    ]
    yield from wrong
    if not wrong:
        yield ok("wayback", f"{len({*mappers, *affected})} tables that the plan file names for the way back are there")


def _wrong_mappers(plan: PlanFile, live: Catalogue, rehearsed: Catalogue | None) -> Iterator[Finding]:
    """What a copy of the old release's database had is right, too: the live one may be migrated already."""
    for name, columns in plan.wayback.mappers.items():
        there = [found for one in (live, rehearsed) if one is not None and (found := one.find(name)) is not None]
        if not there:
            yield _unknown(f"wayback.tables.{name}: there is no such table", name, live)
            continue
        for column in columns:
            if not any(column in table.by_name for table in there):
                near = _near(column, there[0].by_name)
                yield failure(
                    "wayback",
                    f"wayback.tables.{name}: {there[0].name} has no column {column}{near}",
                    "Correct the name in the plan file: a mapper names the old release's column.",
                )


def _unknown(said: str, name: str, live: Catalogue) -> Finding:
    return failure(
        "wayback",
        f"{said}{_near(name, _names(live))}",
        "Correct the name in the plan file: with a mapper for no table the way back is not proven, and carries "
        "nothing.",
    )


def _wrong_affected(affected: Collection[str], live: Catalogue, rehearsed: Catalogue | None) -> Iterator[Finding]:
    """The migrations may make the table; where they were rehearsed it is known whether they do."""
    for name in affected:
        if any(one is not None and one.find(name) is not None for one in (live, rehearsed)):
            continue
        names = {*_names(live), *(_names(rehearsed) if rehearsed is not None else ())}
        where = "neither here nor in the copy that was migrated" if rehearsed is not None else "here"
        yield warning(
            "wayback",
            f"wayback.affected.{name}: there is no such table {where}{_near(name, names)}",
            "Correct the name in the plan file, or be sure that the migrations make it: else a rollback cannot say "
            "whose its rows are.",
        )


def _names(catalogue: Catalogue) -> list[str]:
    return [table.relation if table.schema == "public" else name for name, table in catalogue.tables.items()]


def _near(name: str, known: Collection[str]) -> str:
    found = get_close_matches(name, known, 1)
    return f"; is it {found[0]}?" if found else "."


LOOKS: dict[str, Look] = {"wayback": wayback_names}
