"""Capture by triggers, for servers whose log cannot be decoded: installed, and taken away again.

AFTER row triggers and TRUNCATE triggers write each change into a table of the schema `safepoint_capture`. The function
runs with its owner's rights (so the application's roles need none) and with pinned settings (so a value's text does not
depend on who wrote it). It names nothing of a table's columns, so whatever becomes of the table, no write of the
application fails by it. `ALWAYS`: sessions with another `session_replication_role` are seen too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from psycopg import sql

from safepoint.errors import Refused
from safepoint.postgres.connections import Connection
from safepoint.postgres.own_schema import keep_to_ourselves
from safepoint.wayback.capture.identity import Uncovered
from safepoint.wayback.capture.new_tables import ROWS, follow, unfollow
from safepoint.wayback.capture.timelines import CURRENT
from safepoint.wayback.names import made_by

SCHEMA: Final = "safepoint_capture"
TRIGGER: Final = "!safepoint"
"""The row trigger of a partitioned table. Triggers fire in the order of their names: this one before any of the
application's, whose own writes come later. Ordinary tables have one of another name (`new_tables.ROWS`)."""
_PURPOSE: Final = "capture"

# `seq` is given out at the moment of the change and never again (CACHE 1): it orders what happened to one key, for
# whoever changes a row holds its lock until the end, so the next one comes later. `late` is the place of a row version
# that was changed again before its own trigger fired (by another trigger of the same statement), `was` that of the
# version before: by both the drain puts such pairs in order. A table that was attached as a partition has its own row
# trigger and its root's: one of them notes. Rows of a partition that is a foreign table are on another server, which
# the twin looks at as well: written again they would be there twice. A shape is that of the changes with a higher
# number than `since`, up to the next one's. `forgotten` says what some spool has, and is not noted here any more, and
# on which timeline that was: a standby that is promoted has the next one.
MAKE: Final = f"""
CREATE SCHEMA safepoint_capture;
CREATE TABLE safepoint_capture.changes (
    seq int8 GENERATED ALWAYS AS IDENTITY, xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(), relation oid NOT NULL, action "char" NOT NULL,
    was tid, late tid, old text, new text);
CREATE TABLE safepoint_capture.shapes (
    relation oid, since int8 DEFAULT 0, name text NOT NULL, columns text[] NOT NULL, later bool NOT NULL DEFAULT false,
    PRIMARY KEY (relation, since));
CREATE TABLE safepoint_capture.forgotten (
    snapshot pg_snapshot, timeline text NOT NULL DEFAULT {CURRENT});
INSERT INTO safepoint_capture.forgotten VALUES (NULL);
CREATE FUNCTION safepoint_capture.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, YMD' SET timezone = 'UTC' SET intervalstyle = 'iso_8601' SET extra_float_digits = 1
    SET bytea_output = 'hex' SET lc_monetary = 'C'
AS $note$
BEGIN
    IF TG_NAME = '!safepoint' AND (
        EXISTS (SELECT FROM pg_trigger WHERE tgrelid = TG_RELID AND tgname = '!safepoint_rows')
        OR EXISTS (SELECT FROM pg_class WHERE oid = TG_RELID AND relkind = 'f')) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO safepoint_capture.changes (relation, action, late, new)
        VALUES (TG_RELID, 'I', CASE WHEN NEW.xmax::text <> '0' THEN NEW.ctid END, NEW::text);
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO safepoint_capture.changes (relation, action, was, late, old, new)
        VALUES (TG_RELID, 'U', OLD.ctid, CASE WHEN NEW.xmax::text <> '0' THEN NEW.ctid END, OLD::text, NEW::text);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO safepoint_capture.changes (relation, action, was, old)
        VALUES (TG_RELID, 'D', OLD.ctid, OLD::text);
    ELSE
        INSERT INTO safepoint_capture.changes (relation, action) VALUES (TG_RELID, 'T');
    END IF;
    RETURN NULL;
END $note$;
REVOKE ALL ON FUNCTION safepoint_capture.note() FROM PUBLIC;
"""
# Partitions get the row trigger from their root, also those that come later. TRUNCATE fires where the rows are, and at
# the root that was named: a partition that came later has no trigger of its own for it.
TABLES: Final = """
SELECT c.oid::int8, n.nspname, c.relname, c.relkind::text, c.relispartition, pg_has_role(c.relowner, 'USAGE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
  AND n.nspname <> 'safepoint' AND n.nspname NOT LIKE 'safepoint\\_%'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 2, 3
"""
# A row's text has every column in order; generated ones (marked) are computed again in the old database.
SHAPES: Final = """
SELECT c.oid::int8, n.nspname || '.' || c.relname,
       ARRAY(SELECT CASE WHEN a.attgenerated = '' THEN '+' ELSE '-' END || a.attname FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY(%s)
"""
RIGHTS: Final = """
SELECT has_database_privilege(current_database(), 'CREATE'), EXISTS (SELECT FROM pg_language WHERE lanname = 'plpgsql')
"""
COMMENT: Final = "SELECT obj_description(to_regnamespace('safepoint_capture'), 'pg_namespace')"
THERE: Final = "SELECT to_regnamespace('safepoint_capture') IS NOT NULL"
TRIGGERED: Final = """
SELECT n.nspname, c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.oid = t.tgfoid
WHERE p.pronamespace = to_regnamespace('safepoint_capture') AND t.tgparentid = 0 ORDER BY 1, 2, 3
"""
# `DISABLE TRIGGER USER` for a bulk import switches ours off, too, and `ENABLE TRIGGER USER` makes them ordinary ones,
# not ALWAYS: by that it is known ever after that there was a time of which nothing is known. A partition that is
# detached loses the row trigger of its root, and keeps its own for TRUNCATE.
UNSEEN: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE t.tgtype & 1 = 1) AS rows, coalesce(bool_or(t.tgenabled <> 'A'), false) AS switched
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = c.oid AND p.pronamespace = to_regnamespace('safepoint_capture')) ours
WHERE c.oid = ANY(%s) AND (ours.switched OR (ours.rows = 0 AND c.relkind = 'r')) ORDER BY 1
"""


@dataclass(frozen=True)
class Installed:
    """Which tables are captured by triggers, and which cannot be. `follows`: those that are made later get theirs."""

    tables: int
    uncovered: tuple[Uncovered, ...]
    follows: bool = False


def cannot(connection: Connection) -> str | None:
    """Why there can be no triggers here; None where there can."""
    may, language = connection.execute(RIGHTS).fetchone() or (False, False)
    if not may:
        return "the conductor's role may not make a schema in the database"
    return None if language else "the database has no plpgsql"


def not_owned(connection: Connection) -> list[Uncovered]:
    """Tables that can be given no trigger."""
    return [
        Uncovered(f"{schema}.{name}", "the conductor's role does not own it")
        for _, schema, name, _, _, owned in connection.execute(TABLES).fetchall()
        if not owned
    ]


def install(connection: Connection, launch_id: str) -> Installed:
    """Make the schema and all triggers in one transaction; or find them there, of an earlier try.

    Raises:
        Refused: a schema of this name is there that is not this launch's.
    """
    found = state(connection, launch_id)
    if found is not None:
        uncovered = [Uncovered(**one) for one in found["uncovered"]]
        return Installed(found["tables"], tuple(uncovered), bool(found.get("follows")))
    with connection.transaction():
        connection.execute(MAKE.encode())
        keep_to_ourselves(connection, SCHEMA)
        tables = connection.execute(TABLES).fetchall()
        uncovered = not_owned(connection)
        left_out = {one.table for one in uncovered}
        seen = [row for row in tables if f"{row[1]}.{row[2]}" not in left_out]
        for _, schema, name, kind, partition, _ in seen:
            for statement in _statements(sql.Identifier(schema, name), kind, partition=partition):
                connection.execute(statement)
        connection.execute(
            f"INSERT INTO safepoint_capture.shapes (relation, name, columns) {SHAPES}".encode(),
            [[row[0] for row in seen]],
        )
        follows = follow(connection)
        data = {"tables": len(seen), "uncovered": [asdict(one) for one in uncovered], "follows": follows}
        comment = made_by(launch_id, _PURPOSE) + "\n" + json.dumps(data)
        connection.execute(sql.SQL("COMMENT ON SCHEMA safepoint_capture IS {}").format(sql.Literal(comment)))
    return Installed(len(seen), tuple(uncovered), follows)


def state(connection: Connection, launch_id: str) -> Mapping[str, Any] | None:
    """What the schema's comment says; None where there is no such schema.

    Raises:
        Refused: it is not this launch's.
    """
    there = connection.execute(THERE).fetchone()
    if there is None or not there[0]:
        return None
    row = connection.execute(COMMENT).fetchone()
    first, _, rest = str(row[0] or "" if row else "").partition("\n")
    if first != made_by(launch_id, _PURPOSE):
        raise Refused(
            f"There is a schema {SCHEMA} that Safepoint did not make for this launch.",
            subject=SCHEMA,
            expected=f"the comment '{made_by(launch_id, _PURPOSE)}'",
            found=repr(first),
            remedy="Look whose it is: `safepoint retire` of its launch removes it. Then `safepoint retry`.",
        )
    found: dict[str, Any] = json.loads(rest)
    return found


def _statements(table: sql.Identifier, kind: str, *, partition: bool) -> Sequence[sql.Composed]:
    name = ROWS if kind == "r" else TRIGGER
    words = {"table": table, "rows": sql.Identifier(name), "all": sql.Identifier(f"{TRIGGER}_truncate")}
    made = []
    if not partition:
        made.append(
            "CREATE TRIGGER {rows} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW "
            "EXECUTE FUNCTION safepoint_capture.note()"
        )
        made.append("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {rows}")
    if kind == "r" or not partition:
        made.append(
            "CREATE TRIGGER {all} AFTER TRUNCATE ON {table} FOR EACH STATEMENT "
            "EXECUTE FUNCTION safepoint_capture.note()"
        )
        made.append("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {all}")
    return [sql.SQL(one).format(**words) for one in made]


def unseen(connection: Connection) -> tuple[str, ...]:
    """Tables that were made later and have no triggers, and those whose triggers were off for a time: what was written
    to them is not captured, or not all of it."""
    tables = [row[0] for row in connection.execute(TABLES).fetchall()]
    return tuple(str(row[0]) for row in connection.execute(UNSEEN, [tables]).fetchall())


def uninstall(connection: Connection, launch_id: str) -> bool:
    """Take it all away, table by table, so that no lock is held for long; gives whether there was any.

    May be run again at any time; where a lock is not had, the rest stays until then, and captures on.
    """
    row = connection.execute(COMMENT).fetchone()
    if row is None or str(row[0] or "").partition("\n")[0] != made_by(launch_id, _PURPOSE):
        return False
    unfollow(connection)
    for schema, name, trigger in connection.execute(TRIGGERED).fetchall():
        connection.execute(
            sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(trigger), sql.Identifier(schema, name))
        )
    connection.execute("DROP SCHEMA safepoint_capture CASCADE")
    return True
