"""What a database's catalogue says about tables, columns, indexes, constraints and grants, as one picture.

Pictures are compared by PostgreSQL's own object ids: a renamed table keeps its id and a renamed column its number,
so that nobody has to be believed about what was renamed into what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safepoint.postgres.connections import Connection

# Tables, their storage and size; rows written as the statistics collector counted them.
_TABLES = """
    select c.oid, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), c.relkind::text,
           c.relfilenode::bigint,
           case when c.relkind = 'p' then 0 else pg_table_size(c.oid) end,
           coalesce(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0)
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join pg_stat_all_tables s on s.relid = c.oid
    where c.relkind in ('r', 'p', 'm') and c.relpersistence <> 't'
      and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname not like 'pg_temp%'
      and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                      and d.deptype = 'e')
    order by 4
"""

# A virtual column has no values: it is nothing but what others say, and may be such that computing it fails.
_COLUMNS = """
    select a.attrelid, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
    from pg_attribute a join pg_class c on c.oid = a.attrelid
    where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'm') and c.oid >= 16384
      and a.attgenerated <> 'v'
    order by 1, 2
"""

_KEYS = """
    select i.indrelid, i.indkey::int2[] from pg_index i where i.indisprimary and i.indisvalid and i.indrelid >= 16384
"""

_INDEXES = """
    select i.indexrelid, i.indrelid, c.relname, c.relfilenode::bigint, i.indisvalid, pg_relation_size(c.oid)
    from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
    where i.indrelid >= 16384 and t.relkind in ('r', 'p', 'm') and c.relkind = 'i'
    order by c.relname
"""

_UNCHECKED = """
    select format('%s of %s', conname, conrelid::regclass) from pg_constraint
    where contype in ('f', 'c') and not convalidated and conrelid >= 16384 order by 1
"""

# Who else than the owner may do what; NULL means the owner alone.
_GRANTS = """
    select c.oid, case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end, a.privilege_type
    from pg_class c, aclexplode(c.relacl) a
    where c.relkind in ('r', 'p', 'm', 'v', 'S') and c.oid >= 16384 and a.grantee <> c.relowner
"""


@dataclass(frozen=True)
class Column:
    """A column by its number in the table, which never changes."""

    number: int
    name: str
    type: str
    not_null: bool


@dataclass(frozen=True)
class Table:
    """A table or materialised view. `key` are the numbers of the primary key's columns; `filenode` its storage.

    `bytes` are those of the table with what is stored apart (TOAST), without indexes; `written` counts rows that were
    inserted, updated or deleted since the statistics began.
    """

    oid: int
    schema: str
    relation: str
    name: str
    kind: str
    filenode: int
    bytes: int
    written: int
    columns: tuple[Column, ...] = ()
    key: tuple[int, ...] = ()

    def column(self, number: int) -> Column | None:
        """The column with that number."""
        return next((one for one in self.columns if one.number == number), None)

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The primary key's columns in their order."""
        found = [self.column(number) for number in self.key]
        return tuple(one for one in found if one is not None)


@dataclass(frozen=True)
class Index:
    """An index of a table."""

    oid: int
    table: int
    name: str
    filenode: int
    valid: bool
    bytes: int


@dataclass(frozen=True)
class Picture:
    """The catalogue at one moment. `grants`: by table or sequence, pairs of role and privilege."""

    tables: Mapping[int, Table]
    indexes: Mapping[int, Index]
    unchecked: tuple[str, ...]
    grants: Mapping[int, frozenset[tuple[str, str]]]

    def named(self, name: str) -> Table | None:
        """The table of that name (`schema.table`, quoted where SQL needs it)."""
        return next((table for table in self.tables.values() if table.name == name), None)


def read_picture(connection: Connection) -> Picture:
    """Read it. Sizes take a weak lock on each table, so nobody may be changing them now."""
    columns: dict[int, list[Column]] = {}
    for oid, *facts in connection.execute(_COLUMNS):
        columns.setdefault(oid, []).append(Column(*facts))
    keys = {oid: tuple(numbers) for oid, numbers in connection.execute(_KEYS)}
    tables: dict[int, Table] = {}
    for row in connection.execute(_TABLES):
        words: tuple[Any, ...] = (*row, tuple(columns.get(row[0], ())), keys.get(row[0], ()))
        tables[row[0]] = Table(*words)
    grants: dict[int, set[tuple[str, str]]] = {}
    for oid, role, privilege in connection.execute(_GRANTS):
        grants.setdefault(oid, set()).add((role, privilege))
    return Picture(
        tables,
        {row[0]: Index(*row) for row in connection.execute(_INDEXES)},
        tuple(row[0] for row in connection.execute(_UNCHECKED)),
        {oid: frozenset(found) for oid, found in grants.items()},
    )
