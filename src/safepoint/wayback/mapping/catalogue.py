"""What a database's tables are like, as the mapping and the replay must know it: columns, keys, constraints, triggers.

Partitions are not listed: a partitioned table is one table here, and `leaves` says which relations hold its rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from psycopg import sql

from safepoint.postgres.connections import Connection
from safepoint.postgres.rows import FILLED
from safepoint.wayback.mapping.composites import Composites, read_composites

State = TypeVar("State")


def shared_identity(root: str, index: str) -> str:
    """Whether each partition of a table has this index of it as its replica identity, as SQL. Pure.

    Of thousands of partitions each is looked up once: they are counted, and those of their indexes that are one.

    Args:
        root: stands for a row of pg_class; true of a table without partitions.
        index: stands for a row of pg_index.
    """
    return (
        f"({root}.relkind <> 'p' OR (SELECT count(*) FROM pg_partition_tree({root}.oid) p WHERE p.isleaf) = ("
        f"SELECT count(*) FROM pg_partition_tree({index}.indexrelid) p JOIN pg_index x ON x.indexrelid = p.relid "
        f"JOIN pg_class l ON l.oid = x.indrelid WHERE p.isleaf AND x.indisreplident AND l.relreplident = 'i'))"
    )


# Tables of extensions are restored by CREATE EXTENSION, and Safepoint's own schema is not the application's.
_OWN = """
  n.nspname NOT IN ('pg_catalog', 'information_schema', 'safepoint') AND n.nspname NOT LIKE 'pg\\_%'
  AND n.nspname NOT LIKE 'safepoint\\_%'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
# REPLICA IDENTITY of a partitioned table is not handed down: it says what names its rows only where it is that of all
# partitions.
TABLES = f"""
SELECT c.oid::int8, n.nspname, c.relname, c.relkind = 'p',
       ARRAY(SELECT a.attname::text FROM pg_index i CROSS JOIN unnest(i.indkey[0:i.indnkeyatts - 1]) k
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k
             WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i' AND {shared_identity("c", "i")})
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND NOT c.relispartition AND {_OWN} ORDER BY 2, 3
"""
LEAVES = """
SELECT c.oid::int8, n.nspname || '.' || l.relname
FROM pg_class c CROSS JOIN LATERAL pg_partition_tree(c.oid) t
JOIN pg_class l ON l.oid = t.relid JOIN pg_namespace n ON n.oid = l.relnamespace
WHERE c.oid = ANY(%s) AND c.relkind = 'p' AND t.isleaf ORDER BY 1, 2
"""
PARTED_BY = """
SELECT c.oid::int8, a.attname::text FROM pg_class c CROSS JOIN LATERAL pg_partition_tree(c.oid) t
JOIN pg_partitioned_table p ON p.partrelid = t.relid CROSS JOIN unnest(p.partattrs::int2[]) k
JOIN pg_attribute a ON a.attrelid = t.relid AND a.attnum = k
WHERE c.oid = ANY(%s) AND c.relkind = 'p' GROUP BY 1, 2 ORDER BY 1, 2
"""
# A column's numbers come from the sequence that it owns, or else from the one that its default names.
# The collation with the number 100 is that of the database, and is deterministic.
COLUMNS = f"""
SELECT a.attrelid::int8, a.attname, format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, NULL),
       a.attnotnull, CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
       a.attidentity <> '', a.attgenerated <> '',
       coalesce(
           pg_get_serial_sequence(quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname),
           CASE WHEN a.atthasdef THEN (
               SELECT format('%%I.%%I', s.nspname, q.relname) FROM pg_depend p
               JOIN pg_class q ON q.oid = p.refobjid AND q.relkind = 'S' JOIN pg_namespace s ON s.oid = q.relnamespace
               WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
               LIMIT 1) END),
       (SELECT format('%%I.%%I', s.nspname, l.collname)
        FROM pg_collation l JOIN pg_namespace s ON s.oid = l.collnamespace
        WHERE l.oid = a.attcollation AND a.attcollation <> 100 AND NOT l.collisdeterministic),
       a.attnotnull AND NOT ({FILLED})
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, a.attnum
"""
# Only whole keys name a row: an index over an expression, or over a part of the rows, is looked at as text.
INDEXES = """
SELECT i.indrelid::int8, x.relname, i.indisprimary, i.indimmediate,
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false) FROM generate_series(1, i.indnkeyatts) k),
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k(n, o)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n ORDER BY k.o),
       pg_get_expr(i.indpred, i.indrelid), coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false)
FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = ANY(%s) AND i.indisunique AND i.indisvalid ORDER BY 1, NOT i.indisprimary, 2
"""
# Values are compared by the parent's collation, which has to be said where the child has another one.
_COLLATIONS = """
ARRAY(SELECT CASE WHEN a.attcollation <> p.attcollation THEN (
          SELECT format('%%I.%%I', s.nspname, l.collname) FROM pg_collation l
          JOIN pg_namespace s ON s.oid = l.collnamespace WHERE l.oid = p.attcollation) END
      FROM unnest(o.conkey, o.confkey) WITH ORDINALITY k(own, other, i)
      JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.own
      JOIN pg_attribute p ON p.attrelid = o.confrelid AND p.attnum = k.other ORDER BY k.i)
"""
# PostgreSQL 18 has constraints that are only told, and keys whose last column is a PERIOD: parents cover it together.
_ENFORCED = "coalesce((to_jsonb(o) ->> 'conenforced')::bool, true)"
_PERIOD = "coalesce((to_jsonb(o) ->> 'conperiod')::bool, false)"
# MATCH FULL is a check besides: of its columns all are NULL, or none is.
CONSTRAINTS = f"""
SELECT o.conrelid::int8, o.contype::text, o.conname, pg_get_expr(o.conbin, o.conrelid), o.confrelid::int8,
       ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.n ORDER BY k.i),
       ARRAY(SELECT a.attname::text FROM unnest(o.confkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.n ORDER BY k.i), {_COLLATIONS}, {_PERIOD}
FROM pg_constraint o WHERE o.conrelid = ANY(%s) AND o.contype IN ('c', 'f') AND {_ENFORCED}
UNION ALL
SELECT o.conrelid::int8, 'c', o.conname,
       format('num_nulls(%%s) IN (0, %%s)', string_agg(quote_ident(a.attname), ', '), count(*)), NULL,
       '{{}}', '{{}}', '{{}}', false
FROM pg_constraint o JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = ANY(o.conkey)
WHERE o.conrelid = ANY(%s) AND o.contype = 'f' AND o.confmatchtype = 'f' AND cardinality(o.conkey) > 1 AND {_ENFORCED}
GROUP BY o.oid, o.conrelid, o.conname
ORDER BY 1, 3, 2
"""
# Foreign keys of a partition alone, or to one: they are their root's, for the rows that belong into that partition.
# A partition's other rules are PostgreSQL's to ask, a deferrable unique index of its own excepted.
PARTIAL_KEYS = f"""
SELECT child.root::int8, o.conname, parent.root::int8,
       ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.n ORDER BY k.i),
       ARRAY(SELECT a.attname::text FROM unnest(o.confkey) WITH ORDINALITY k(n, i)
             JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.n ORDER BY k.i), {_COLLATIONS},
       CASE WHEN o.conrelid <> child.root THEN pg_get_partition_constraintdef(o.conrelid) END,
       CASE WHEN o.confrelid <> parent.root THEN pg_get_partition_constraintdef(o.confrelid) END, {_PERIOD}
FROM pg_constraint o
CROSS JOIN LATERAL (SELECT coalesce(pg_partition_root(o.conrelid), o.conrelid)::oid AS root) child
CROSS JOIN LATERAL (SELECT coalesce(pg_partition_root(o.confrelid), o.confrelid)::oid AS root) parent
WHERE child.root = ANY(%s) AND o.contype = 'f' AND o.conparentid = 0 AND {_ENFORCED}
  AND (o.conrelid <> child.root OR o.confrelid <> parent.root) ORDER BY 1, 2
"""
# The others are looked at by their index, row by row. Keys WITHOUT OVERLAPS (PostgreSQL 18) are exclusions, too.
EXCLUSIONS = """
SELECT o.conrelid::int8, o.conname,
       ARRAY(SELECT pg_get_indexdef(o.conindid, k, false) FROM generate_series(1, cardinality(o.conexclop)) k),
       ARRAY(SELECT format('OPERATOR(%%I.%%s)', n.nspname, p.oprname) FROM unnest(o.conexclop) WITH ORDINALITY k(id, i)
             JOIN pg_operator p ON p.oid = k.id JOIN pg_namespace n ON n.oid = p.oprnamespace ORDER BY k.i),
       pg_get_expr(i.indpred, i.indrelid)
FROM pg_constraint o JOIN pg_index i ON i.indexrelid = o.conindid
WHERE o.conrelid = ANY(%s) AND o.conexclop IS NOT NULL AND o.condeferrable ORDER BY 1, 2
"""
TRIGGERS = """
SELECT t.tgrelid::int8, t.tgname, t.tgenabled::text, t.tgconstraint <> 0
FROM pg_trigger t WHERE t.tgrelid = ANY(%s) AND NOT t.tgisinternal ORDER BY 1, 2
"""
# A type that is there can be cast to itself, which pg_cast does not say. Rows of tables are no columns' types.
CASTS = """
SELECT format_type(castsource, NULL), format_type(casttarget, NULL) FROM pg_cast
UNION
SELECT format_type(t.oid, NULL), format_type(t.oid, NULL) FROM pg_type t
LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
LEFT JOIN pg_class c ON c.oid = coalesce(nullif(t.typrelid, 0), e.typrelid)
WHERE t.typtype <> 'p' AND coalesce(c.relkind, 'c') = 'c'
"""


@dataclass(frozen=True)
class Column:
    """A column. `type` has its modifier (`numeric(14,2)`), `base` has not; `default` is SQL, not of generated ones;
    `collation`, as SQL: texts that are written otherwise may be equal by it, else None; `unchecked`: only new rows have
    to keep NOT NULL; `made`: see `reading`."""

    name: str
    type: str
    base: str
    not_null: bool
    default: str | None = None
    identity: bool = False
    generated: bool = False
    sequence: str | None = None
    collation: str | None = None
    unchecked: bool = False
    made: str | None = None


@dataclass(frozen=True)
class Unique:
    """A unique index: its key as SQL expressions, and its columns where all of them are plain."""

    name: str
    expressions: tuple[str, ...]
    columns: tuple[str, ...]
    predicate: str | None = None
    nulls_equal: bool = False
    immediate: bool = True

    @property
    def plain(self) -> bool:
        """Is it over whole columns and all rows?"""
        return self.predicate is None and len(self.columns) == len(self.expressions)


@dataclass(frozen=True)
class Exclusion:
    """A deferrable exclusion constraint: no two rows may have all of its expressions related by its operators."""

    name: str
    expressions: tuple[str, ...]
    operators: tuple[str, ...]
    predicate: str | None = None


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key to another table, `schema.table`. The conditions are of a partition that it belongs or leads to:
    SQL over the root's columns, None where it is the whole table's. `collations`: by column that of the parent's, as
    SQL, where it is not the column's own. `period`: the last columns are PERIODs."""

    name: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    condition: str | None = None
    parent_condition: str | None = None
    collations: tuple[str | None, ...] = ()
    period: bool = False


@dataclass(frozen=True)
class Trigger:
    """A trigger of the application's own. `enabled` as in `pg_trigger.tgenabled`: O origin, A always, R replica, D."""

    name: str
    enabled: str
    constraint: bool


@dataclass(frozen=True)
class Table:
    """A table. `leaves` are the partitions that hold its rows; empty for an ordinary table. `apart`: see `partitions`.

    `replica` are the columns of the index that REPLICA IDENTITY USING INDEX chose; `partial_keys` are the foreign keys
    that single partitions have, or that lead to one; `parted_by` are the columns that say which partition is a row's.
    """

    schema: str
    relation: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    uniques: tuple[Unique, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    partitioned: bool = False
    leaves: tuple[str, ...] = ()
    replica: tuple[str, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    partial_keys: tuple[ForeignKey, ...] = ()
    parted_by: tuple[str, ...] = ()
    apart: tuple[Table, ...] = ()

    @property
    def name(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.relation}"

    @property
    def identifier(self) -> sql.Identifier:
        """For SQL."""
        return sql.Identifier(self.schema, self.relation)

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """The columns by their names."""
        return {column.name: column for column in self.columns}

    @property
    def written(self) -> tuple[Column, ...]:
        """The columns that may be written: generated ones may not."""
        return tuple(column for column in self.columns if not column.generated)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns by which the log names a row: as `identity.decide` chooses them; empty where none do.

        A deferrable key does not: within a transaction several rows may have the same. Nor does one that is computed.
        """
        computed = {column.name for column in self.columns if column.generated}
        if self.replica and computed.isdisjoint(self.replica):
            return self.replica
        plain = [one for one in self.uniques if one.plain and one.immediate and computed.isdisjoint(one.columns)]
        if any(one.columns == self.primary_key for one in plain):
            return self.primary_key
        for unique in sorted(plain, key=lambda one: (len(one.expressions), one.name)):
            if all(one.not_null and not one.unchecked for one in map(self.by_name.__getitem__, unique.columns)):
                return unique.columns
        return ()


def meant(name: str, tables: Collection[str]) -> str | None:
    """Which of these tables (`schema.table`) a name means, with or without its schema; `public` before others.

    Django lets `db_table` be '"schema"."table"'; a dot alone is a part of the name, as Django quotes it. Pure.
    """
    if name in tables:
        return name
    bare = name.replace('"', "")
    found = sorted(key for key in tables if bare in (key, key.partition(".")[2]))
    return next((key for key in found if key.startswith("public.")), found[0] if found else None)


@dataclass(frozen=True)
class Catalogue:
    """The tables of a database by `schema.table`, between which types PostgreSQL has a cast, and composite types."""

    tables: Mapping[str, Table]
    casts: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    composites: Composites = field(default_factory=dict)

    def find(self, name: str) -> Table | None:
        """The table that a name means: see `meant`."""
        found = self._meant(name)
        return None if found is None else self.tables[found]

    def of_django(self, states: Mapping[str, State], table: Table) -> State | None:
        """What Django knows of a table, by the names that its models give to theirs (`db_table`)."""
        names = (name for name in states if name.strip('"').endswith(table.relation))
        return next((states[name] for name in names if self._meant(name) == table.name), None)

    def _meant(self, name: str) -> str | None:
        """As `meant`, among those that it could be: there may be ten thousand tables."""
        bare = name.replace('"', "")
        return meant(name, {*self.by_relation.get(bare, ()), *self.tables.keys() & {name, bare}})

    @cached_property
    def by_relation(self) -> Mapping[str, Collection[str]]:
        """The tables by their names without the schema."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.tables:
            found[name.partition(".")[2]].append(name)
        return found

    @cached_property
    def roots(self) -> Mapping[str, str]:
        """Which table a relation's rows belong to: partitions lead to their root."""
        leaves = {leaf: table.name for table in self.tables.values() for leaf in table.leaves}
        return {**leaves, **{name: name for name in self.tables}}


def read_catalogue(connection: Connection) -> Catalogue:
    """Read it; some milliseconds, whatever the size of the database."""
    found = {oid: tuple(row) for oid, *row in connection.execute(TABLES).fetchall()}
    queries = LEAVES, COLUMNS, INDEXES, CONSTRAINTS, EXCLUSIONS, TRIGGERS, PARTIAL_KEYS, PARTED_BY
    rows = {query: _by_table(connection, query, list(found)) for query in queries}
    names = {oid: f"{schema}.{name}" for oid, (schema, name, *_) in found.items()}
    tables = {}
    for oid, (schema, name, partitioned, replica) in found.items():
        indexes = rows[INDEXES][oid]
        tables[names[oid]] = Table(
            schema,
            name,
            tuple(Column(*row) for row in rows[COLUMNS][oid]),
            next((tuple(columns) for _, primary, _, _, columns, _, _ in indexes if primary), ()),
            tuple(
                Unique(index, tuple(keys), tuple(columns), predicate, nulls, immediate)
                for index, _, immediate, keys, columns, predicate, nulls in indexes
            ),
            tuple((row[1], row[2]) for row in rows[CONSTRAINTS][oid] if row[0] == "c"),
            tuple(
                ForeignKey(row[1], tuple(row[4]), names[row[3]], tuple(row[5]), collations=tuple(row[6]), period=row[7])
                for row in rows[CONSTRAINTS][oid]
                if row[0] == "f" and row[3] in names
            ),
            tuple(Trigger(*row) for row in rows[TRIGGERS][oid]),
            partitioned,
            tuple(row[0] for row in rows[LEAVES][oid]),
            tuple(replica),
            tuple(
                Exclusion(constraint, tuple(keys), tuple(operators), predicate)
                for constraint, keys, operators, predicate in rows[EXCLUSIONS][oid]
            ),
            tuple(
                ForeignKey(
                    constraint, tuple(own), names[parent], tuple(others), condition, parents, tuple(collations), period
                )
                for constraint, parent, own, others, collations, condition, parents, period in rows[PARTIAL_KEYS][oid]
                if parent in names
            ),
            tuple(row[0] for row in rows[PARTED_BY][oid]),
        )
    return Catalogue(tables, frozenset(connection.execute(CASTS).fetchall()), read_composites(connection))


def _by_table(connection: Connection, query: str, oids: list[int]) -> dict[int, list[tuple[Any, ...]]]:
    found: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for oid, *row in connection.execute(query, (oids,) * query.count("ANY(%s)")).fetchall():
        found[oid].append(tuple(row))
    return found
