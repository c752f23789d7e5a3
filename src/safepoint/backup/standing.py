"""Which table stood under a name at a snapshot, and whether it is that one still.

Rows are read by the names of a table and its columns, which mean those of the present, whatever the snapshot: who
renames a column and gives its name to a new one has a dump read the new one, and the old one's values are in no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

# The columns of `Standing`, of a table `c` in a schema `n`.
STANDING: Final = """c.oid, c.relfilenode,
           array(select a.attnum from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum),
           array(select format('%I.%I.%I', n.nspname, c.relname, a.attname) from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)"""

# Unlike a query of the catalogue, these functions see the present; a number of 0 stands for the table itself.
_NOW = """
    select pg_relation_filenode({table}), array(
        select (pg_identify_object('pg_class'::regclass, {table}, number)).identity
        from unnest(0 || {columns}::int[]) number)
"""


@dataclass(frozen=True)
class Standing:
    """A table at a snapshot: its oid, its file, its columns' numbers, and their names with the table's before them."""

    table: int
    file: int
    numbers: Sequence[int]
    names: Sequence[str]

    def now(self) -> sql.Composed:
        """The query that tells which file it is in, and what it and its columns are called, at present. Pure."""
        return sql.SQL(_NOW).format(table=sql.Literal(self.table), columns=sql.Literal(list(self.numbers)))

    def is_called(self, name: str, found: Sequence[str | None]) -> bool:
        """Whether it and all its columns are called as they were. Pure.

        Args:
            name: the table's, as SQL writes it.
        """
        return [name, *self.names] == list(found)
