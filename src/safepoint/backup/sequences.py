"""The states of sequences, which obey no snapshot."""

from __future__ import annotations

from psycopg import sql

from safepoint.backup.contents import unlocking
from safepoint.backup.sequence_prints import SequencePrint
from safepoint.postgres.connections import Connection

# The catalogue is that of the snapshot: one that was dropped since has no state any more.
_SEQUENCES = """
    select n.nspname, c.relname, format('%I.%I', n.nspname, c.relname)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'S' and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema')
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                      and d.deptype = 'e')
      and to_regclass(format('%I.%I', n.nspname, c.relname)) is not null
    order by 3
"""


def read_sequences(connection: Connection) -> dict[str, SequencePrint]:
    """The state of all sequences. It obeys no snapshot: what is read is the state of this moment."""
    found = connection.execute(_SEQUENCES).fetchall()
    result: dict[str, SequencePrint] = {}
    for start in range(0, len(found), 200):
        queries = [
            sql.SQL("select {}, last_value, is_called from {}").format(sql.Literal(name), sql.Identifier(schema, table))
            for schema, table, name in found[start : start + 200]
        ]
        with unlocking(connection):
            for name, last, called in connection.execute(sql.SQL(" union all ").join(queries)):
                result[name] = SequencePrint(last, called)
    return result
