"""Tables that lose their key, or come without one, while a publication FOR ALL TABLES of ours stands.

PostgreSQL refuses UPDATE and DELETE of a published table whose rows no replica identity names (its page on CREATE
PUBLICATION): so our publication would make a statement of the application fail. An event trigger sets the identity of
such a table to FULL in the very statement that makes it so, and back again once it has a key. It stands in a schema of
the publication's name, beside the table of what it has set; both are a superuser's, as such a publication is.
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
CREATE TABLE {name}.raised (relation regclass PRIMARY KEY, prior "char" NOT NULL);
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
        SELECT c.oid, c.relreplident AS identity, r.prior,
               CASE WHEN c.relreplident = 'f' THEN r.prior ELSE c.relreplident END = 'd' AND EXISTS (
                   SELECT FROM pg_index i
                   WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND i.indisvalid) AS has_key
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN {name}.raised r ON r.relation = c.oid
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
                INSERT INTO {name}.raised VALUES (one.oid, one.identity)
                ON CONFLICT (relation) DO UPDATE SET prior = excluded.prior;
            ELSIF one.prior IS NOT NULL AND one.has_key THEN
                EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', one.oid::regclass);
                DELETE FROM {name}.raised WHERE relation = one.oid;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    PERFORM set_config('safepoint.raising', '', true);
END $raise$;
REVOKE ALL ON FUNCTION {name}.raise() FROM PUBLIC;
CREATE EVENT TRIGGER {name} ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER TABLE', 'DROP INDEX')
    EXECUTE FUNCTION {name}.raise();
ALTER EVENT TRIGGER {name} ENABLE ALWAYS;
COMMENT ON SCHEMA {name} IS {mark};
"""
_OURS: Final = "SELECT obj_description(to_regnamespace(quote_ident(%s)), 'pg_namespace')"
_RAISED: Final = """
SELECT n.nspname, c.relname, r.prior::text FROM {}.raised r JOIN pg_class c ON c.oid = r.relation
JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1, 2
"""


def watch(connection: Connection, name: str, mark: str) -> None:
    """Make the event trigger for the publication of that name, inside the caller's transaction.

    Args:
        mark: what says whose it is, as the publication's comment has it.
    """
    words: dict[str, Any] = {"name": sql.Identifier(name), "mark": sql.Literal(mark)}
    connection.execute(sql.SQL(_MAKE).format(**words))


def unwatch(connection: Connection, name: str, identities: Sequence[Identity] = ()) -> None:
    """Take it away, and put back what it has set, inside the caller's transaction; may be run where there is none.

    Args:
        identities: those that were set with the publication: what stood before them is what is put back. They are
            still to be restored themselves.
    """
    row = connection.execute(_OURS, [name]).fetchone()
    if row is None or not str(row[0] or "").startswith(_MARK):
        return
    connection.execute(sql.SQL("DROP EVENT TRIGGER IF EXISTS {}").format(sql.Identifier(name)))
    set_before = {(one.schema, one.relation): one for one in identities}
    for schema, relation, prior in connection.execute(sql.SQL(_RAISED).format(sql.Identifier(name))).fetchall():
        before = set_before.get((schema, relation))
        first, index = (prior, None) if before is None else (before.prior, before.prior_index)
        restore(connection, Identity(schema, relation, first, index, "f"))
    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
