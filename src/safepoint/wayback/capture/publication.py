"""The publication that a capture reads through: made with its replica identities, and taken back with them.

What was changed for it stands in its comment, written in the same transaction: whoever ends the capture finds it there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any, Final

from psycopg import sql

from safepoint.errors import Refused
from safepoint.postgres.connections import Connection
from safepoint.postgres.raised_identities import unwatch, watch
from safepoint.postgres.replica_identity import Identity, restore
from safepoint.postgres.rewritten import rewritten
from safepoint.wayback.capture.identity import Table, Uncovered, decide, survey, with_rows
from safepoint.wayback.capture.promises import covers_all
from safepoint.wayback.names import made_by

PUBLICATION: Final = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = %s"
# A partitioned table that is published publishes its partitions, also those that nobody listed.
_ABOVE: Final = """
SELECT DISTINCT s.nspname || '.' || r.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_partition_ancestors(c.oid) a JOIN pg_class r ON r.oid = a.relid
JOIN pg_namespace s ON s.oid = r.relnamespace
WHERE c.relispartition AND n.nspname || '.' || c.relname = ANY(%s)
"""
# The application's own tables of which nothing is published: a publication tells nobody what it leaves out.
_UNPUBLISHED: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%%'
  AND n.nspname <> 'safepoint' AND n.nspname NOT LIKE 'safepoint\\_%%'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND (c.relpersistence = 'u' OR NOT EXISTS (
      SELECT FROM pg_publication p WHERE p.pubname = %s AND (p.puballtables OR EXISTS (
          SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND (r.prrelid = c.oid OR (
              c.relispartition AND r.prrelid IN (SELECT a FROM pg_partition_ancestors(c.oid) a)))))))
ORDER BY 1
"""
# From this version on a publication may send stored generated columns: where they name a row, it has to.
_SENDS_COMPUTED: Final = 180000


def publish(
    connection: Connection,
    launch_id: str,
    name: str,
    purpose: str = "capture",
    *,
    superuser: bool,
    dry: bool = False,
    whole: Collection[str] = (),
) -> tuple[tuple[Identity, ...], tuple[Uncovered, ...], bool]:
    """Replica identities, publication and its comment, in one transaction; or what is there of an earlier try.

    `dry` decides only; of the rows of `whole` that are there the log is to say what they were before they changed.
    """
    found = publication(connection, launch_id, name, purpose)
    if found is not None:
        return (
            tuple(Identity(**one) for one in found["identities"]),
            tuple(Uncovered(**one) for one in found["uncovered"]),
            bool(found["all_tables"]),
        )
    with connection.transaction():
        tables = survey(connection)
        identities, uncovered = decide(tables, with_rows(connection, whole))
        if dry:
            return (), tuple(uncovered), False
        for identity in identities:
            connection.execute(identity.statement())
        all_tables = covers_all(uncovered, superuser=superuser)
        scope: sql.Composable = sql.SQL(" FOR ALL TABLES")
        if not all_tables:
            listed = _listed(connection, tables, uncovered)
            names = sql.SQL(", ").join(sql.Identifier(table.schema, table.relation) for table in listed)
            scope = sql.SQL(" FOR TABLE {}").format(names) if listed else sql.SQL("")
        computed = connection.info.server_version >= _SENDS_COMPUTED
        sent = sql.SQL(" WITH (publish_generated_columns = stored)" if computed else "")
        connection.execute(sql.SQL("CREATE PUBLICATION {}{}{}").format(sql.Identifier(name), scope, sent))
        state = {
            "identities": [asdict(one) for one in identities],
            "uncovered": [asdict(one) for one in uncovered],
            "all_tables": all_tables,
        }
        if superuser:  # what is listed may lose its key as well
            watch(connection, name, made_by(launch_id, purpose))
        comment = made_by(launch_id, purpose) + "\n" + json.dumps(state)
        connection.execute(
            sql.SQL("COMMENT ON PUBLICATION {} IS {}").format(sql.Identifier(name), sql.Literal(comment))
        )
    return tuple(identities), tuple(uncovered), all_tables


def _listed(connection: Connection, tables: Sequence[Table], uncovered: Sequence[Uncovered]) -> list[Table]:
    """What can be published without harm to the application's own statements, now and later.

    A partition that comes later is published with its root, and without a primary key there nothing names its rows:
    UPDATE and DELETE would fail. So such a root is left out, as is one of a partition that must not be published; the
    partitions that are there are listed themselves.
    """
    harmed = [one.table for one in uncovered if one.published_fails]
    left_out = {one.table for one in uncovered}
    left_out |= {str(row[0]) for row in connection.execute(_ABOVE, [harmed]).fetchall()}
    return [table for table in tables if table.name not in left_out and (table.primary_key or not table.partitioned)]


def publication(connection: Connection, launch_id: str, name: str, purpose: str = "capture") -> dict[str, Any] | None:
    """What our publication's comment says; None when there is no publication of this name."""
    row = connection.execute(PUBLICATION, (name,)).fetchone()
    if row is None:
        return None
    first, _, rest = (row[0] or "").partition("\n")
    if first != made_by(launch_id, purpose):
        raise Refused(
            f"There is a publication {name} that Safepoint did not make for this launch.",
            subject=name,
            expected=f"the comment '{made_by(launch_id, purpose)}'",
            found=repr(row[0]),
            remedy="Look whose it is; rename it, then `safepoint retry`.",
        )
    state: dict[str, Any] = json.loads(rest)
    return state


def unpublished(connection: Connection, name: str, known: Sequence[Uncovered]) -> tuple[str, ...]:
    """Tables that are not captured through this publication, or not all that was done to them, and were not `known` not
    to be when it was made."""
    told = {one.table for one in known}
    found = {str(row[0]) for row in connection.execute(_UNPUBLISHED, [name]).fetchall()}
    return tuple(sorted({*found, *rewritten(connection, name)} - told))


def unpublish(
    connection: Connection, launch_id: str, name: str, purpose: str = "capture", *, copy: bool = False
) -> None:
    """Remove the publication and put the replica identities back. May be run again at any time.

    Args:
        copy: the database was restored from a dump of the one in which it was made.
    """
    state = publication(connection, launch_id, name, purpose)
    if state is None:
        with connection.transaction():
            unwatch(connection, name, copy=copy)  # somebody dropped the publication alone
        return
    identities = [Identity(**one) for one in state["identities"]]
    with connection.transaction():
        unwatch(connection, name, identities, copy=copy)
        for one in identities:
            restore(connection, one)
        connection.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name)))
