"""What a capture cannot promise, a sentence each: told before the launch, and with the list of what was captured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from safepoint.postgres.connections import Connection
from safepoint.wayback.capture import triggers
from safepoint.wayback.capture.identity import Uncovered, decide, survey

Mode = Literal["logical", "triggers", "none"]

_SHOWN: Final = 3
_NAMED: Final = 20
RIGHTS: Final = "SELECT rolsuper, rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user"
HIDDEN: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.relrowsecurity AND row_security_active(c.oid)
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1
"""
HAS_LARGE_OBJECTS: Final = "SELECT EXISTS (SELECT FROM pg_largeobject_metadata)"


def gaps(
    mode: Mode, reason: str | None, uncovered: Iterable[Uncovered], *, large: bool, later: bool
) -> tuple[str, ...]:
    """What is not captured; empty is everything but sequences and DDL. Pure.

    Args:
        reason: why nothing can be decoded, where the mode is none.
        large: there are large objects.
        later: tables that are made after the launch are captured, too.
    """
    why: dict[str, list[str]] = {}
    for one in uncovered:
        why.setdefault(one.reason, []).append(one.table)
    found = [_not_captured(tables, because) for because, tables in why.items()]
    if large:
        found.append("Large objects are not captured: neither decoding nor triggers see them.")
    if mode == "logical" and not later:
        found.append(
            "Tables that are made after the launch are not captured, nor are new partitions of a table without a "
            "primary key: the publication has to name its tables."
        )
    if mode == "triggers" and not later:
        found.append("Tables that are made after the launch are not captured: they have no triggers.")
    if mode == "none":
        found.append(
            f"Changes cannot be decoded ({reason}): new and changed rows can be listed from the tables, but "
            "deleted rows, earlier versions of a row and (without track_commit_timestamp) times cannot."
        )
    return tuple(found)


def _not_captured(tables: Sequence[str], because: str) -> str:
    if len(tables) == 1:
        return f"{tables[0]} is not captured: {because}."
    more = f" and {len(tables) - _NAMED} more" if len(tables) > _NAMED else ""
    return f"{', '.join(tables[:_NAMED])}{more} are not captured; of each: {because}."


def foresee_gaps(connection: Connection, mode: Mode) -> tuple[str, ...]:
    """What a capture of that mode that is armed here and now would not promise. Nothing is changed."""
    superuser, _ = connection.execute(RIGHTS).fetchone() or (False, False)
    row = connection.execute(HAS_LARGE_OBJECTS).fetchone()
    if mode == "triggers":
        uncovered, later = triggers.not_owned(connection), bool(superuser)
    else:
        uncovered = decide(survey(connection))[1] if mode == "logical" else []
        later = covers_all(uncovered, superuser=bool(superuser))
    return gaps(mode, None, uncovered, large=bool(row and row[0]), later=later)


def covers_all(uncovered: Iterable[Uncovered], *, superuser: bool) -> bool:
    """May the publication be FOR ALL TABLES? What cannot be covered must not be published at all, or the application's
    own UPDATE fails there. Pure."""
    return superuser and not any(one.published_fails for one in uncovered)


def shown(sentences: Sequence[str]) -> str:
    """The first of them, and how many more there are; for a summary."""
    more = len(sentences) - _SHOWN
    return " ".join([*sentences[:_SHOWN], *([f"And {more} more."] if more > 0 else [])])
