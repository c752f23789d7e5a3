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
from safepoint.postgres.own_schema import keep_to_ourselves
from safepoint.postgres.replica_identity import Identity, restore
from safepoint.postgres.rewritten import unwatch_rewrites, watch_rewrites

_MARK: Final = "made by Safepoint for launch "

# What needs it: an identity by the primary key without one, by an index without it, or none at all. A partition's
# primary key has to be its root's: the way back goes by no other (see `capture.identity`). Under FULL a table with
# virtual columns (PostgreSQL 18) refuses what it should allow: there is nothing to be done for it, but to take FULL
# back once there is a key. Nothing here may make the application's statement fail.
_LOOK: Final = """
CREATE SCHEMA {name};
COMMENT ON SCHEMA {name} IS {mark};
CREATE FUNCTION {name}.look() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' SET row_security = off
AS $look$
DECLARE
    one record;
BEGIN
    PERFORM set_config('safepoint.raising', 'yes', true);
    FOR one IN
        WITH noted AS (
            SELECT t.typname::text AS name, t.typname::text::oid AS relation, obj_description(t.oid, 'pg_type') AS note
            FROM pg_type t WHERE t.typnamespace = {schema}::regnamespace AND t.typtype = 'd'
        ), seen AS (
            SELECT c.oid, coalesce(r.name, c.oid::text) AS name, c.relreplident::text AS identity, r.note,
                   format('%s %I.%I', left(r.note, 1), n.nspname, c.relname) AS now,
                   format('%s %I.%I', c.relreplident, n.nspname, c.relname) AS told, n.oid AS schema,
                   CASE CASE WHEN c.relreplident = 'f' THEN left(r.note, 1) ELSE c.relreplident::text END
                       WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid
                                             AND i.indisprimary AND i.indimmediate AND i.indisvalid
                                             AND (NOT c.relispartition OR EXISTS (SELECT FROM pg_index o
                                                  WHERE o.indexrelid = pg_partition_root(i.indexrelid)
                                                  AND o.indrelid = pg_partition_root(c.oid))))
                       WHEN 'i' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid
                                             AND i.indisreplident AND i.indisvalid)
                       ELSE false END AS named
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN noted r ON r.relation = c.oid
            WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND (r.note IS NOT NULL OR c.relreplident <> 'f')
              AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'
        )
        SELECT 'raise' AS what, s.* FROM seen s
        WHERE NOT named AND identity <> 'f'
          AND coalesce(obj_description(schema, 'pg_namespace') NOT LIKE 'made by Safepoint for launch %', true)
          AND NOT EXISTS (
              SELECT FROM pg_attribute a WHERE a.attrelid = s.oid AND a.attgenerated = 'v' AND NOT a.attisdropped)
        UNION ALL SELECT 'lower', s.* FROM seen s WHERE note IS NOT NULL AND named
        UNION ALL SELECT 'name', s.* FROM seen s WHERE identity = 'f' AND NOT named AND note <> now
        UNION ALL SELECT 'gone', NULL, name, NULL, NULL, NULL, NULL, NULL, NULL FROM noted
                  WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = relation)
    LOOP
        BEGIN
            IF one.what = 'raise' THEN
                EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', one.oid::regclass);
                IF one.note IS NULL THEN
                    EXECUTE format('CREATE DOMAIN %I.%I AS bool', {schema}, one.name);
                END IF;
                EXECUTE format('COMMENT ON DOMAIN %I.%I IS %L', {schema}, one.name, one.told);
            ELSIF one.what = 'name' THEN
                EXECUTE format('COMMENT ON DOMAIN %I.%I IS %L', {schema}, one.name, one.now);
            ELSE
                IF one.identity = 'f' THEN
                    EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', one.oid::regclass);
                END IF;
                EXECUTE format('DROP DOMAIN %I.%I', {schema}, one.name);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    PERFORM set_config('safepoint.raising', '', true);
EXCEPTION WHEN OTHERS THEN
    NULL;
END $look$;
REVOKE ALL ON FUNCTION {name}.look() FROM PUBLIC;
"""
# What is dropped with CASCADE may take a column of a key with it; pg_event_trigger_ddl_commands tells nothing of that.
_TRIGGER: Final = """
CREATE FUNCTION {name}.raise() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $raise$
BEGIN
    IF coalesce(current_setting('safepoint.raising', true), '') <> 'yes' AND (tg_tag LIKE 'DROP %' OR EXISTS (
        SELECT FROM pg_event_trigger_ddl_commands() WHERE schema_name IS DISTINCT FROM 'pg_temp')) THEN
        PERFORM {name}.look();
    END IF;
EXCEPTION WHEN OTHERS THEN
    NULL;
END $raise$;
REVOKE ALL ON FUNCTION {name}.raise() FROM PUBLIC;
CREATE EVENT TRIGGER {name} ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'CREATE EXTENSION', 'ALTER TABLE',
                 'ALTER TYPE', 'ALTER SCHEMA', 'ALTER EXTENSION', 'DROP INDEX', 'DROP DOMAIN', 'DROP TYPE',
                 'DROP SCHEMA', 'DROP EXTENSION', 'DROP OWNED', 'DROP FUNCTION', 'DROP ROUTINE', 'DROP COLLATION',
                 'DROP CAST', 'DROP OPERATOR CLASS', 'DROP OPERATOR FAMILY', 'DROP VIEW')
    EXECUTE FUNCTION {name}.raise();
ALTER EVENT TRIGGER {name} ENABLE ALWAYS;
"""
_OURS: Final = "SELECT obj_description(to_regnamespace(quote_ident(%s)), 'pg_namespace')"
_THERE: Final = "SELECT to_regprocedure(quote_ident(%s) || '.look()') IS NOT NULL"
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
    connection.execute(sql.SQL(_LOOK).format(**words))
    keep_to_ourselves(connection, name)
    connection.execute(sql.SQL(_TRIGGER).format(**words))
    watch_rewrites(connection, name)


def look_again(connection: Connection, name: str) -> None:
    """Once what was under way while it was made has ended: tables that were not committed yet were not seen."""
    if connection.execute(_THERE, [name]).fetchone() == (True,):
        connection.execute(sql.SQL("SELECT {}.look()").format(sql.Identifier(name)))


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
    unwatch_rewrites(connection, name)
    set_before = {(one.schema, one.relation): one for one in identities}
    for schema, relation, prior in connection.execute(_RAISED, {"schema": name, "copy": copy}).fetchall():
        before = set_before.get((schema, relation))
        first, index = (prior, None) if before is None else (before.prior, before.prior_index)
        restore(connection, Identity(schema, relation, first, index, "f"))
    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
