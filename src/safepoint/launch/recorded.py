"""Which migrations ran: what the database has recorded since, whatever `migrate` and the migrations printed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from psycopg import sql

from safepoint.errors import ProofFailed
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.sessions import asking

# The application finds its own by its search_path, or has one for each tenant: all of them are looked at.
TABLES: Final = """
SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = 'django_migrations' AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' ORDER BY 1
"""

Records = Mapping[str, Sequence[str]]
"""By schema, the labels (`app.0002_name`) that its `django_migrations` has, in the order in which they came."""


def read_records(target: Target) -> dict[str, list[str]]:
    """Read them; empty where no migration was ever run.

    Raises:
        DatabaseError: they cannot be read.
    """
    with (
        connect(target, application_name="safepoint migrate", lock_timeout=5) as connection,
        asking("Reading which migrations are recorded", target.dbname),
    ):
        found = {}
        for (schema,) in connection.execute(TABLES).fetchall():
            query = sql.SQL("SELECT app || '.' || name FROM {} ORDER BY id").format(
                sql.Identifier(schema, "django_migrations")
            )
            found[str(schema)] = [str(label) for (label,) in connection.execute(query).fetchall()]
        return found


def ran_since(before: Records, now: Records) -> list[str]:
    """The labels that are new, each once. Pure."""
    new = [label for schema, labels in now.items() for label in labels if label not in set(before.get(schema, ()))]
    return list(dict.fromkeys(new))


def explained(
    known: Collection[str], recorded: Collection[str], replacements: Mapping[str, Collection[str]]
) -> set[str]:
    """Of what was recorded, what belongs to known migrations. Pure.

    Of a squashed migration Django records those that it replaces, and then itself; one whose replaced ones have all run
    is recorded by any `migrate`, and nothing of it is run.

    Args:
        known: those that were listed, and those recorded before.
    """
    found = set(known)
    while True:
        parts = {part for label in found for part in replacements.get(label, ())}
        wholes = {label for label, replaced in replacements.items() if found.issuperset(replaced)}
        if found.issuperset(parts | wholes):
            return found.intersection(recorded)
        found |= parts | wholes


def compare(
    planned: Sequence[str], before: Records, ran: Sequence[str], replacements: Callable[[], Mapping[str, Sequence[str]]]
) -> list[str]:
    """What ran must be what was listed before the window; gives it, in the order of the list.

    Args:
        replacements: asks the release; it takes a second, so it is asked only where something else is recorded.

    Raises:
        ProofFailed: it is not.
    """
    known = {*planned, *(label for labels in before.values() for label in labels)}
    others = [label for label in ran if label not in known]
    if others:
        fine = explained(known, others, replacements())
        others = [label for label in others if label not in fine]
    done = [label for label in planned if label in ran]
    if others or len(done) < len(planned):
        raise ProofFailed(
            "The migrations that ran are not the ones that were listed before the window.",
            subject="migrate",
            expected=", ".join(planned) or "none",
            found=", ".join([*done, *others]) or "none",
            remedy="The code changed after the freeze. Roll back, freeze again, and launch again.",
        )
    return done
