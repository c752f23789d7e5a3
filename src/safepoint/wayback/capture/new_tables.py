"""Tables that are made while triggers capture: an event trigger gives them theirs, where PostgreSQL lets us make one.

Event triggers are a superuser's (PostgreSQL's page on CREATE EVENT TRIGGER; some hosts allow them to others): it is
tried, and where it is refused such tables stay unseen, which every drain says. Nothing that the event trigger does may
make a statement of the application fail; where it cannot do its work, that table is unseen, too.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.postgres.rewritten import TYPE, unwatch_rewrites, watch_rewrites

NAME: Final = "safepoint_capture"
ROWS: Final = "!safepoint_rows"
"""The row trigger of a table that is no partition. Not the name of a partitioned table's: ATTACH PARTITION gives a
table those of its root, and would fail where it had one of that name already. Once attached, its own is taken away
again."""

# Which tables, as `triggers.TABLES` has it. What CREATE TABLE AS has filled its table with before any trigger was there
# is noted as well, by an alias that is no column's name: it would be that column. Every shape that a table
# has had is kept, with the number from which on it had it: who alters a table is alone with it.
MAKE: Final = """
CREATE FUNCTION safepoint_capture.follow() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, YMD' SET timezone = 'UTC' SET intervalstyle = 'iso_8601' SET extra_float_digits = 1
    SET bytea_output = 'hex' SET lc_monetary = 'C' SET row_security = off
AS $follow$
DECLARE
    one record;
    filled oid[];
BEGIN
    IF current_setting('safepoint.following', true) = 'yes' THEN
        RETURN;  -- its own ALTER TABLE
    END IF;
    filled := ARRAY(SELECT objid FROM pg_event_trigger_ddl_commands()
                    WHERE command_tag IN ('CREATE TABLE AS', 'SELECT INTO'));
    IF NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE schema_name IS DISTINCT FROM 'pg_temp') THEN
        RETURN;
    END IF;
    PERFORM set_config('safepoint.following', 'yes', true);
    FOR one IN
        SELECT c.oid, c.relkind, c.relispartition AS part, n.nspname || '.' || c.relname AS name,
               bool_or(t.tgtype & 1 = 1) AS rows, bool_or(t.tgtype & 1 = 0) AS emptied,
               bool_or(t.tgname = '!safepoint_rows') AND bool_or(t.tgparentid <> 0) AS twice
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN (pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
                   AND p.pronamespace = 'safepoint_capture'::regnamespace) ON t.tgrelid = c.oid
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
          AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
          AND n.nspname <> 'safepoint' AND n.nspname NOT LIKE 'safepoint\\_%'
          AND NOT EXISTS (SELECT FROM pg_depend d
                          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
        GROUP BY c.oid, n.nspname
    LOOP
        BEGIN
            IF one.twice THEN
                EXECUTE format('DROP TRIGGER %I ON %s', '!safepoint_rows', one.oid::regclass);
            END IF;
            IF one.rows IS NOT TRUE AND NOT one.part THEN
                EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW '
                               'EXECUTE FUNCTION safepoint_capture.note()', '!safepoint_rows', one.oid::regclass);
                EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', one.oid::regclass, '!safepoint_rows');
                IF one.oid = ANY (filled) THEN
                    EXECUTE format('INSERT INTO safepoint_capture.changes (relation, action, new) '
                                   'SELECT %s, ''I'', safepoint_whole_row::text FROM ONLY %s safepoint_whole_row',
                                   one.oid, one.oid::regclass);
                END IF;
            END IF;
            IF one.emptied IS NOT TRUE AND (one.relkind = 'r' OR NOT one.part) THEN
                EXECUTE format('CREATE TRIGGER %I AFTER TRUNCATE ON %s FOR EACH STATEMENT '
                               'EXECUTE FUNCTION safepoint_capture.note()', '!safepoint_truncate', one.oid::regclass);
                EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', one.oid::regclass, '!safepoint_truncate');
            END IF;
            INSERT INTO safepoint_capture.shapes (relation, since, name, columns, later)
            SELECT one.oid,
                   CASE WHEN s.relation IS NULL AND NOT one.part THEN 0
                        ELSE nextval('safepoint_capture.changes_seq_seq') END,
                   one.name, now.columns, coalesce(s.later, NOT one.part)
            FROM (SELECT ARRAY(
                SELECT CASE WHEN a.attgenerated = '' THEN '+' ELSE '-' END || a.attname FROM pg_attribute a
                WHERE a.attrelid = one.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)) now (columns)
            LEFT JOIN (SELECT * FROM safepoint_capture.shapes s WHERE s.relation = one.oid
                       ORDER BY since DESC LIMIT 1) s ON true
            WHERE one.relkind = 'r' AND (s.name, s.columns) IS DISTINCT FROM (one.name, now.columns);
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    PERFORM set_config('safepoint.following', '', true);
END $follow$;
REVOKE ALL ON FUNCTION safepoint_capture.follow() FROM PUBLIC;
CREATE EVENT TRIGGER safepoint_capture ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER TABLE')
    EXECUTE FUNCTION safepoint_capture.follow();
ALTER EVENT TRIGGER safepoint_capture ENABLE ALWAYS;
"""
OURS: Final = """
SELECT FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
WHERE e.evtname = 'safepoint_capture' AND p.pronamespace = to_regnamespace('safepoint_capture')
"""


def follow(connection: Connection) -> bool:
    """Make the event trigger, inside the caller's transaction and last of all; gives whether PostgreSQL let us."""
    try:
        with connection.transaction():
            connection.execute(MAKE.encode())
            watch_rewrites(connection, NAME, TYPE)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.DuplicateObject):
        return False
    return True


def unfollow(connection: Connection) -> None:
    """Take it away, before the triggers that it would make anew. Its function goes with the schema."""
    if connection.execute(OURS).fetchone() is not None:
        connection.execute(sql.SQL("DROP EVENT TRIGGER {}").format(sql.Identifier(NAME)))
        unwatch_rewrites(connection, NAME)
