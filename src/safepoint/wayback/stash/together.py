"""Stashed lines of transactions that were put aside whole: they come back together, or not at all.

`pg_temp.sp_lines` holds all lines; of those of such a transaction `grp` says which belong together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.replay.groups import join_groups
from safepoint.wayback.replay.statements import ask, run

_MARKED: Final = """
UPDATE sp_lines l SET grp = g.grp FROM sp_groups g
WHERE g.place = l.place AND g.together = l.line ->> 'together'
"""
_GROUPS: Final = """
CREATE TEMP TABLE sp_groups ON COMMIT DROP AS
SELECT place, together, row_number() OVER () AS label, row_number() OVER () AS grp FROM (
    SELECT DISTINCT place, line ->> 'together' AS together FROM sp_lines WHERE line ->> 'together' IS NOT NULL) g
"""
# Several rollbacks may have put transactions aside that changed the same row.
_SHARED: Final = """
SELECT DISTINCT g.label, ROW(l.line ->> 'relation', l.line -> 'key') AS what
FROM sp_lines l JOIN sp_groups g ON g.place = l.place AND g.together = l.line ->> 'together'
WHERE l.line -> 'key' <> '{}'
"""
# Who has no key is told by all values.
_TORN: Final = """
SELECT DISTINCT ON (s.grp) s.grp, f.relation, f.key::text, f.reason FROM sp_left f
JOIN sp_stash s ON s.relation = f.relation AND s.key = f.key AND (f.key <> '{}' OR f.value = s.vals::text)
WHERE s.grp IS NOT NULL
ORDER BY s.grp, f.relation, f.key
"""
_LEAVE: Final = """
WITH torn AS (SELECT * FROM unnest(%s::int8[], %s::text[], %s::text[], %s::text[]) t(grp, relation, key, reason)),
gone AS (DELETE FROM sp_lines l USING torn t WHERE l.grp = t.grp RETURNING l.line, t.*)
INSERT INTO sp_left
SELECT DISTINCT ON (line ->> 'relation', line -> 'key', CASE line ->> 'key' WHEN '{}' THEN line END)
       line ->> 'relation', line -> 'key', '*',
       CASE WHEN (line ->> 'relation', line ->> 'key') = (relation, key) THEN reason
            ELSE 'a row of ' || relation || ' of the same transaction does not come back' END,
       line ->> 'values'
FROM gone
"""

Torn = Mapping[int, tuple[str, str, str]]
"""By group: the table and the key of a row that does not come back, and why."""


def mark(connection: Connection) -> None:
    """See which lines belong together."""
    if run(connection, _GROUPS):
        join_groups(connection, "pg_temp.sp_groups", "label", [_SHARED])
        run(connection, _MARKED)


def torn(connection: Connection) -> Torn:
    """The groups of which something could not be re-attached."""
    return {row[0]: row[1:] for row in ask(connection, _TORN)}


def leave(connection: Connection, found: Torn) -> None:
    """These groups do not come back; all of theirs is told."""
    columns = zip(*((grp, *said) for grp, said in found.items()), strict=True)
    connection.execute(_LEAVE, [list(column) for column in columns])
