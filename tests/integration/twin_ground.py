"""A twin of the books, made at their safe point, and what the tests make beside them."""

from __future__ import annotations

from books import Books
from postgres_servers import drop_database

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.fence.quiet import safe_point
from safepoint.wayback.names import twin_name
from safepoint.wayback.twin.pair import Pair
from safepoint.wayback.twin.twin import TwinFacts, make_twin

LAUNCH = "books-2.0"
ENTRY = "insert into ledger_entry (memo, author_id) values (%s, 1)"


def drop_others(target: Target) -> None:
    """Drop what the tests made beside the database itself."""
    with connect(target.on("postgres")) as connection:
        names = connection.execute(
            "select datname from pg_database where datname like %s and datname <> %s",
            [target.dbname + "\\_%", target.dbname],
        ).fetchall()
    for (name,) in names:
        drop_database(target.on(name))


def twin_of(site: Books, **words: object) -> TwinFacts:
    name = twin_name(site.target.dbname, LAUNCH)
    return make_twin(site.target, name, LAUNCH, at=safe_point(site.target), **words)  # type: ignore[arg-type]


def pair(live: Target, facts: TwinFacts) -> Pair:
    return Pair.beside(live, facts.twin, facts.launch_id)
