"""The temporary tables that staged rows stand in, one for each new table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from safepoint.postgres.connections import Connection
from safepoint.wayback.mapping.catalogue import Table
from safepoint.wayback.mapping.expressions import quote
from safepoint.wayback.replay.staged import META, Sink, Staged
from safepoint.wayback.replay.statements import run
from safepoint.wayback.replay.tuples import NULL, text_array

# Of a table of many columns the texts of numbers and times may be more than a row can have: PostgreSQL lays values
# away only from 24 bytes on. Of so many as these they are not.
_WIDE: Final = 200
# Types whose values are short, so that no UPDATE leaves one out of the log.
_SHORT: Final = frozenset(
    {
        *("smallint", "integer", "bigint", "real", "double precision", "boolean", "date", "uuid", "oid", "interval"),
        *("time without time zone", "time with time zone", "timestamp without time zone", "timestamp with time zone"),
    }
)


def make_sink(connection: Connection, table: Table, staged: Staged, brought: Collection[str] = ()) -> Sink:
    """The empty table for staged rows of one new table, among what is staged.

    Args:
        brought: columns whose values may be looked up later, and written.
    """
    sink = Sink(table, f"sp_stage_{len(staged.sinks)}")
    if len(sink.columns) > _WIDE and sink.own == sink.columns:
        sink.packed = tuple(
            name for name in sink.columns if table.by_name[name].base in _SHORT and name not in {*table.key, *brought}
        )
    columns = "".join(f", {quote(name)} text" for name in sink.columns if name not in sink.packed)
    columns += ", _sp_packed text[]" if sink.packed else ""
    run(
        connection,
        f"CREATE TEMP TABLE {sink.rows_in} (_sp_at int8, _sp_tx int4, _sp_leaf oid, _sp_from text[], "
        f"_sp_unchanged text[]{columns}) ON COMMIT DROP",
    )
    if sink.packed:
        places = {name: place for place, name in enumerate(sink.packed, start=1)}
        shown = (
            f"_sp_packed[{places[name]}] AS {quote(name)}" if name in places else quote(name) for name in sink.columns
        )
        run(
            connection,
            f"CREATE TEMP VIEW {sink.stage} AS SELECT {', '.join([*META, *shown])} FROM pg_temp.{sink.rows_in}",
        )
    staged.sinks[table.name] = sink
    return sink


def fields(sink: Sink) -> int:
    """How many fields a staged row has."""
    return len(META) + len(sink.columns) - (len(sink.packed) - 1 if sink.packed else 0)


def packed(sink: Sink, values: Sequence[bytes | None]) -> list[bytes | None]:
    """The values of a staged row, in the order of its table, where some are packed."""
    pairs = list(zip(sink.columns, values, strict=True))
    array = [value or NULL for name, value in pairs if name in sink.packed]
    return [*(value for name, value in pairs if name not in sink.packed), text_array(array)]
