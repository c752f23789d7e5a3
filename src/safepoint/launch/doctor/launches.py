"""The preflight check of earlier launches: one that stands by for its way back is retired before the next begins."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from safepoint.config import PlanFile
from safepoint.launch.doctor.finding import Finding, Look, failure, ok
from safepoint.postgres.connections import connect
from safepoint.postgres.target import target
from safepoint.wayback.names import Mark, read_mark, twin_name

_MARKED: Final = """
SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database
WHERE shobj_description(oid, 'pg_database') LIKE 'made by Safepoint for launch %' ORDER BY 1
"""


def launches(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """Asked of the server, and not of the state folder: an earlier launch may have been conducted elsewhere."""
    del now
    live = plan.database.name
    with connect(
        target(plan.database).on(plan.database.maintenance), application_name="safepoint doctor"
    ) as connection:
        marked = {str(name): read_mark(comment) for name, comment in connection.execute(_MARKED).fetchall()}
    standing = [name for name, mark in marked.items() if mark is not None and _stands_by(name, mark, live, plan)]
    if not standing:
        yield ok("launches", "No earlier launch stands by for a way back")
    for name in standing:
        mark = marked[name]
        launch = "" if mark is None else mark.launch_id
        yield failure(
            "launches",
            f"The launch {launch} stands by with its twin {name}: once the schema has changed further, its rollback "
            "could carry nothing, and would swap that twin in all the same.",
            f"`safepoint retire --now` with the plan file of {launch}, or `safepoint rollback` it. Where its state "
            f"folder is lost, drop the database {name} and the replication slot of that launch.",
        )


def _stands_by(name: str, mark: Mark, live: str, plan: PlanFile) -> bool:
    return mark.launch_id != plan.launch_id and name == twin_name(live, mark.launch_id)


LOOKS: dict[str, Look] = {"launches": launches}
