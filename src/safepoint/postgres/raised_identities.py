"""Tables that lose their key, or come without one, while a publication FOR ALL TABLES of ours stands.

PostgreSQL refuses UPDATE and DELETE of a published table whose rows no replica identity names (its page on CREATE
PUBLICATION): so our publication would make a statement of the application fail. An event trigger sets the identity of
such a table to FULL in the very statement that makes it so, and back again once it has a key. It stands in a schema of
the publication's name; both are a superuser's, as such a publication is.

What it has set is noted beside it: a domain for each table, named by the table's oid, whose comment says what stood
there before and the table's name. A table of notes would be published by every publication FOR ALL TABLES of the user's
own, whose subscribers have no such table; a domain is not, it outlives a crash, and no two statements wait for each
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.postgres.replica_identity import Identity, restore

_MARK: Final = "made by Safepoint for launch "

# What needs it: an identity by the primary key without one, by an index without it, or none at all. Under FULL a table
# with generated columns refuses from PostgreSQL 18 on what it should allow: there is nothing to be done for it.
# pg_event_trigger_ddl_commands tells nothing of what is dropped. Nothing in it may make the application's statement
# fail, and it waits for nobody: what it alters is locked by that statement already.
_MAKE: Final = """
CREATE SCHEMA {name};
CREATE FUNCTION {name}.raise() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' SET row_security = off
AS $raise$
DECLARE
    one record;
BEGIN
    IF current_setting('safepoint.raising', true) = 'yes' OR (tg_tag <> 'DROP INDEX' AND NOT EXISTS (
        SELECT FROM pg_event_trigger_ddl_commands() WHERE schema_name IS DISTINCT FROM 'pg_temp')) THEN
        RETURN;
    END IF;
    PERFORM set_config('safepoint.raising', 'yes', true);
    FOR one IN
        WITH noted AS (
            SELECT t.typname::text::oid AS relation, obj_description(t.oid, 'pg_type') AS note
            FROM pg_type t WHERE t.typnamespace = {schema}::regnamespace AND t.typtype = 'd')
        SELECT c.oid, c.relreplident::text AS identity, left(r.note, 1) AS prior, r.note,
               format('%s %I.%I', left(r.note, 1), n.nspname, c.relname) AS now,
               format('%s %I.%I', c.relreplident, n.nspname, c.relname) AS told,
               CASE WHEN c.relreplident = 'f' THEN left(r.note, 1) ELSE c.relreplident::text END = 'd' AND EXISTS (
                   SELECT FROM pg_index i
                   WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid) AS has_key
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN noted r ON r.relation = c.oid
        WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND (r.relation IS NOT NULL OR c.relreplident <> 'f')
          AND NOT (c.relreplident = 'i' AND EXISTS (
              SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid))
          AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'safepoint')
          AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT LIKE 'safepoint\\_%'
          AND (current_setting('server_version_num')::int < 180000 OR NOT EXISTS (
              SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated <> '' AND NOT a.attisdropped))
    LOOP
        BEGIN
            IF one.identity <> 'f' AND NOT one.has_key THEN
                EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', one.oid::regclass);
                IF one.note IS NULL THEN
                    EXECUTE format('CREATE DOMAIN %I.%I AS bool', {schema}, one.oid);
                END IF;
                EXECUTE format('COMMENT ON DOMAIN %I.%I IS %L', {schema}, one.oid, one.told);
            ELSIF one.prior IS NOT NULL AND one.has_key THEN
                EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', one.oid::regclass);
                EXECUTE format('DROP DOMAIN %I.%I', {schema}, one.oid);
            ELSIF one.note <> one.now THEN  -- renamed
                EXECUTE format('COMMENT ON DOMAIN %I.%I IS %L', {schema}, one.oid, one.now);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    PERFORM set_config('safepoint.raising', '', true);
EXCEPTION WHEN OTHERS THEN
    NULL;
END $raise$;
REVOKE ALL ON FUNCTION {name}.raise() FROM PUBLIC;
CREATE EVENT TRIGGER {name} ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER TABLE', 'DROP INDEX')
    EXECUTE FUNCTION {name}.raise();
ALTER EVENT TRIGGER {name} ENABLE ALWAYS;
COMMENT ON SCHEMA {name} IS {mark};
"""
_OURS: Final = "SELECT obj_description(to_regnamespace(quote_ident(%s)), 'pg_namespace')"
# In a restored copy every table has another oid: there it is looked up by its name.
_RAISED: Final = """
SELECT n.nspname, c.relname, left(d.note, 1)
FROM (SELECT t.typname::text::oid AS relation, obj_description(t.oid, 'pg_type') AS note
      FROM pg_type t JOIN pg_namespace s ON s.oid = t.typnamespace
      WHERE s.nspname = %(schema)s AND t.typtype = 'd') d
JOIN pg_class c ON c.oid = CASE WHEN %(copy)s THEN to_regclass(substr(d.note, 3)) ELSE d.relation END
JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2
"""


def watch(connection: Connection, name: str, mark: str) -> None:
    """Make the event trigger for the publication of that name, inside the caller's transaction.

    Args:
        mark: what says whose it is, as the publication's comment has it.
    """
    words: dict[str, Any] = {"name": sql.Identifier(name), "schema": sql.Literal(name), "mark": sql.Literal(mark)}
    connection.execute(sql.SQL(_MAKE).format(**words))


def unwatch(connection: Connection, name: str, identities: Sequence[Identity] = (), *, copy: bool = False) -> None:
    """Take it away, and put back what it has set, inside the caller's transaction; may be run where there is none.

    Args:
        identities: those that were set with the publication: what stood before them is what is put back. They are
            still to be restored themselves.
        copy: the database is a restored one, not the one in which it was made.
    """
    row = connection.execute(_OURS, [name]).fetchone()
    if row is None or not str(row[0] or "").startswith(_MARK):
        return
    connection.execute(sql.SQL("DROP EVENT TRIGGER IF EXISTS {}").format(sql.Identifier(name)))
    set_before = {(one.schema, one.relation): one for one in identities}
    for schema, relation, prior in connection.execute(_RAISED, {"schema": name, "copy": copy}).fetchall():
        before = set_before.get((schema, relation))
        first, index = (prior, None) if before is None else (before.prior, before.prior_index)
        restore(connection, Identity(schema, relation, first, index, "f"))
    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
