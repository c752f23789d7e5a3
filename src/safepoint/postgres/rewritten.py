"""Tables that ALTER TABLE rewrites while a capture of ours stands: neither log nor triggers tell of their rows then.

`SET UNLOGGED` and back again (for a bulk import) leaves out all that was written between; `ALTER COLUMN ... TYPE ...
USING` may change each value, and the column has the type that it had. No catalogue tells either from a TRUNCATE
afterwards. So an event trigger notes such tables, in the schema of a publication (see `raised_identities`) or of the
capture's triggers: an empty enum for each, named by the table's oid. Nothing of it can make a statement of the
application fail.
"""

from __future__ import annotations

from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection

LOGGED: Final = 1
"""A table became unlogged, or logged: between the two the log has nothing of it, but triggers have."""
TYPE: Final = 4
"""A column got a type. The other reasons are a new column's default, and an access method (PostgreSQL's page on event
trigger functions)."""
_WATCH: Final = """
CREATE FUNCTION {name}.rewritten() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $rewritten$
BEGIN
    IF pg_event_trigger_table_rewrite_reason() & {reasons} <> 0
        AND EXISTS (SELECT FROM pg_class
                    WHERE oid = pg_event_trigger_table_rewrite_oid() AND relpersistence <> 't')
        AND to_regtype(format('%I.r%s', {schema}, pg_event_trigger_table_rewrite_oid())) IS NULL
    THEN
        EXECUTE format('CREATE TYPE %I.r%s AS ENUM ()', {schema}, pg_event_trigger_table_rewrite_oid());
    END IF;
EXCEPTION WHEN OTHERS THEN
    NULL;
END $rewritten$;
REVOKE ALL ON FUNCTION {name}.rewritten() FROM PUBLIC;
CREATE EVENT TRIGGER {trigger} ON table_rewrite EXECUTE FUNCTION {name}.rewritten();
ALTER EVENT TRIGGER {trigger} ENABLE ALWAYS;
"""
_NOTED: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_type t JOIN pg_namespace s ON s.oid = t.typnamespace
JOIN pg_class c ON 'r' || c.oid::text = t.typname JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE s.nspname = %s AND t.typtype = 'e' ORDER BY 1
"""


def watch_rewrites(connection: Connection, name: str, reasons: int = LOGGED | TYPE) -> None:
    """Make it, in the schema of that name, inside the caller's transaction."""
    words: dict[str, sql.Composable] = {"name": sql.Identifier(name), "schema": sql.Literal(name)}
    words |= {"trigger": _trigger(name), "reasons": sql.Literal(reasons)}
    connection.execute(sql.SQL(_WATCH).format(**words))


def unwatch_rewrites(connection: Connection, name: str) -> None:
    """Take it away; its function and its notes go with the schema."""
    connection.execute(sql.SQL("DROP EVENT TRIGGER IF EXISTS {}").format(_trigger(name)))


def rewritten(connection: Connection, name: str) -> tuple[str, ...]:
    """Which tables were rewritten since."""
    return tuple(str(row[0]) for row in connection.execute(_NOTED, [name]).fetchall())


def _trigger(name: str) -> sql.Identifier:
    return sql.Identifier(f"{name} rewritten")  # a word of its own behind the name: so it is known as ours (`traces`)
