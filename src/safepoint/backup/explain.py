"""In which rows and columns two databases differ, found without moving their rows.

Both sides sum the hashes of their rows by buckets of the rows' keys, in one scan. Only of buckets that differ are keys
and hashes fetched, and only of rows that differ are columns compared, by hash too: no value leaves its server but the
keys, and of those no secret one is told. Each side is read in one snapshot, so a database that others write to is seen
as of one instant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import psycopg
from psycopg import sql

from safepoint.backup.contents import SEEDS, reading
from safepoint.backup.statements import names
from safepoint.errors import DatabaseError
from safepoint.postgres.connections import Connection, ask_with, cancellable
from safepoint.postgres.masking import is_secret
from safepoint.postgres.rows import FILLED
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Progress, Report, never, silent

LIMIT = 20
_ROWS_A_BUCKET = 500
_MOST_BUCKETS = 65536
_MOST_ROWS = 50_000  # fetched of one table, of each side: some 40 MB
_BUCKET_SEED = 0x6B6579
_SHOWN_KEY = 200

Kind = Literal["changed", "missing", "added"]

# A virtual column is nothing but what others say, and may be such that computing it fails.
_COLUMNS = """
    select a.attname::text from pg_attribute a
    where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v' order by a.attnum
"""

# The primary key, else the narrowest unique index over plain columns that are never NULL.
_KEY = f"""
    select array_agg(a.attname::text order by k.place)
    from pg_index i, unnest(i.indkey::int2[]) with ordinality k (number, place), pg_attribute a
    where i.indrelid = $1::regclass and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
      and k.place <= i.indnkeyatts and a.attrelid = i.indrelid and a.attnum = k.number
    group by i.indexrelid, i.indisprimary having bool_and({FILLED})
    order by i.indisprimary desc, count(*), i.indexrelid limit 1
"""

_LINES = """
    (select {key} as key, line from (select {identity} as identity, {row} as line
     from {table} as safepoint_whole_row offset 0) as rows offset 0) as lines
"""
_BUCKETS = """
    select (hashtextextended(key collate "C", {seed}) & {mask})::int, count(*),
           sum(hashtextextended(line collate "C", {seed_1})), sum(hashtextextended(line collate "C", {seed_2}))
    from {lines} group by 1
"""
_ROWS = """
    select key, hashtextextended(line collate "C", {seed_1}), hashtextextended(line collate "C", {seed_2})
    from {lines} where (hashtextextended(key collate "C", {seed}) & {mask})::int = any ($1)
"""
_SIZE = """
    select sum(greatest(p.reltuples, pg_relation_size(p.oid) / 200))::int8, bool_or(c.relkind = 'p')
    from pg_class c join pg_class p on p.oid = c.oid
        or c.relkind = 'p' and p.oid in (select relid from pg_partition_tree(c.oid) where isleaf)
    where c.oid = $1::regclass
"""


@dataclass(frozen=True)
class RowDifference:
    """One row. `columns` are those that differ, where both sides have the row; `key` is the key as text.

    Values of columns whose names say that they are secret are masked in it.
    """

    kind: Kind
    key: str
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.key}" + (f": {', '.join(self.columns)}" if self.columns else "")


@dataclass(frozen=True)
class TableDifference:
    """How one table differs.

    `key` are the columns that tell its rows apart (none: a row is told by all its columns). `columns` counts in how
    many of the compared rows each column differs. `complete` is false where so much differs that only a part of it
    was looked at: the counts are minima then.
    """

    table: str
    key: tuple[str, ...]
    changed: int = 0
    missing: int = 0
    added: int = 0
    columns: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[RowDifference, ...] = ()
    columns_missing: tuple[str, ...] = ()
    columns_added: tuple[str, ...] = ()
    complete: bool = True

    def as_json(self) -> dict[str, Any]:
        """For `verify --explain --json`."""
        lists = ("key", "columns_missing", "columns_added")
        examples = [{**asdict(one), "columns": list(one.columns)} for one in self.examples]
        own = {**asdict(self), "columns": dict(self.columns), "examples": examples}
        return own | {name: list(getattr(self, name)) for name in lists}

    def lines(self) -> list[str]:
        """As a person reads it."""
        least = "" if self.complete else "at least "
        counts = [
            f"{least}{count:,} {word}"
            for count, word in ((self.changed, "changed"), (self.missing, "missing"), (self.added, "added"))
            if count
        ]
        if self.columns:
            counts.append("columns " + ", ".join(f"{name} ({count})" for name, count in self.columns.items()))
        counts += [f"column {name} is missing" for name in self.columns_missing]
        counts += [f"column {name} is new" for name in self.columns_added]
        return [f"table {self.table}: {'; '.join(counts) or 'no difference'}"] + [
            f"  {one.kind} {self._named(one.key)}" + (f": {', '.join(one.columns)}" if one.columns else "")
            for one in self.examples
        ]

    def _named(self, key: str) -> str:
        """A row's key with the names of its columns."""
        if len(self.key) == 1:
            return f"{self.key[0]} = {key.removeprefix('(').removesuffix(')')}"
        return f"({', '.join(self.key)}) = {key}" if self.key else key


def explain(
    expected: Target,
    found: Target,
    tables: Iterable[str],
    *,
    limit: int = LIMIT,
    report: Report = silent,
    cancelled: Cancelled = never,
) -> tuple[TableDifference, ...]:
    """Say in which rows and columns these tables of two databases differ; those that do not are left out.

    Args:
        tables: as a fingerprint names them; both databases must have them.
        limit: how many rows to name in each table.

    Raises:
        DatabaseError: a table cannot be read.
        Interrupted: `cancelled` became true.
    """
    wanted = list(tables)
    differences = []
    try:
        with ExitStack() as stack:
            sides = [stack.enter_context(reading(target)) for target in (expected, found)]
            for side in sides:
                stack.enter_context(cancellable(side, cancelled))
            pool = stack.enter_context(ThreadPoolExecutor(max_workers=2, thread_name_prefix="explain"))
            for number, table in enumerate(wanted):
                report(Progress("compare tables", number, len(wanted), "tables"))
                difference = _Comparison(table, sides[0], sides[1], pool, limit).run()
                if difference is not None:
                    differences.append(difference)
            report(Progress("compare tables", len(wanted), len(wanted), "tables"))
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.Error as error:
        raise DatabaseError(
            f"The databases {expected.dbname} and {found.dbname} cannot be compared: {' '.join(str(error).split())}",
            subject=found.dbname,
            remedy="May the login read all tables of both, and are they still there?",
        ) from error
    return tuple(differences)


@dataclass(frozen=True)
class _Shape:
    """How the rows of one table are read on both sides."""

    table: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    mask: int
    partitioned: bool

    def row(self, columns: Sequence[str]) -> sql.Composed:
        cells = [sql.SQL("safepoint_whole_row.{}").format(sql.Identifier(name)) for name in columns]
        return sql.SQL("row({})::text").format(sql.SQL(", ").join(cells))

    def told(self) -> sql.Composed:
        """What a row is told by. A session's key is what somebody is logged in with."""
        cells = [
            sql.SQL("'***'").format()
            if is_secret(name, self.table)
            else sql.SQL("safepoint_whole_row.{}").format(sql.Identifier(name))
            for name in self.key or self.columns
        ]
        return sql.SQL("left(row({})::text, {})").format(sql.SQL(", ").join(cells), sql.Literal(_SHOWN_KEY))

    def lines(self) -> sql.Composed:
        """Key and text of each row. Without a key a row is told by a hash of its text."""
        line = self.row(self.columns)
        key = sql.SQL("identity") if self.key else sql.SQL("md5(line)")
        identity = self.row(self.key) if self.key else sql.SQL("null::text")
        return sql.SQL(_LINES).format(key=key, identity=identity, row=line, table=self.source)

    @property
    def source(self) -> sql.Composed:
        """Rows of its own alone; those of a partitioned table are where its partitions' rows may be elsewhere."""
        only = "" if self.partitioned else "only "
        return sql.SQL("{}{}").format(sql.SQL(only), sql.Identifier(*names(self.table)))

    def query(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(
            seed=sql.Literal(_BUCKET_SEED),
            mask=sql.Literal(self.mask),
            seed_1=sql.Literal(SEEDS[0]),
            seed_2=sql.Literal(SEEDS[1]),
            lines=self.lines(),
        )

    def cells(self) -> sql.Composed:
        """A hash of each column of the rows with certain keys; NULL stays NULL."""
        key = self.row(self.key) if self.key else sql.SQL("md5({})").format(self.row(self.columns))
        cells = [sql.SQL("md5(safepoint_whole_row.{}::text)").format(sql.Identifier(name)) for name in self.columns]
        return sql.SQL(
            "select {key}, {shown}, array[{cells}]::text[] from {table} as safepoint_whole_row where {key} = any ($1)"
        ).format(key=key, shown=self.told(), cells=sql.SQL(", ").join(cells), table=self.source)


@dataclass(frozen=True)
class _Comparison:
    table: str
    expected: Connection
    found: Connection
    pool: ThreadPoolExecutor
    limit: int

    def run(self) -> TableDifference | None:
        ours, theirs = self._both(_COLUMNS, [self.table])
        mine, other = [str(row[0]) for row in ours], [str(row[0]) for row in theirs]
        common = tuple(name for name in mine if name in other)
        gone, new = tuple(n for n in mine if n not in other), tuple(n for n in other if n not in mine)
        keys = self._both(_KEY, [self.table])
        first, second = (tuple(rows[0][0]) if rows else () for rows in keys)
        key = first if first == second and set(first) <= set(common) else ()
        if not common:
            return TableDifference(self.table, (), columns_missing=gone, columns_added=new) if gone or new else None
        shape = _Shape(self.table, common, key, *self._size())
        ours, theirs, complete = self._rows(shape)
        missing, added, changed = _sorted_out(ours, theirs)
        if not (missing or added or changed or gone or new):
            return None
        examples, columns, paired = self._examples(shape, missing, added, changed)
        return TableDifference(
            self.table,
            key,
            changed=len(changed) + paired,
            missing=sum(missing.values()) - paired,
            added=sum(added.values()) - paired,
            columns=dict(columns.most_common()),
            examples=tuple(examples),
            columns_missing=gone,
            columns_added=new,
            complete=complete,
        )

    def _size(self) -> tuple[int, bool]:
        """The mask for as many buckets as its rows need, and whether it is partitioned."""
        found = [rows[0] for rows in self._both(_SIZE, [self.table])]
        rows = max(int(size) for size, _ in found)
        buckets = 1
        while buckets * _ROWS_A_BUCKET < rows and buckets < _MOST_BUCKETS:
            buckets *= 2
        return buckets - 1, all(partitioned for _, partitioned in found)

    def _rows(self, shape: _Shape) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], bool]:
        """Keys and hashes of the rows in the buckets that differ, as many as fit."""
        ours, theirs = ({row[0]: tuple(row[1:]) for row in rows} for rows in self._both(shape.query(_BUCKETS), []))
        differing = sorted(bucket for bucket in {*ours, *theirs} if ours.get(bucket) != theirs.get(bucket))
        chosen: list[int] = []
        rows = 0
        for bucket in differing:
            rows += max(ours.get(bucket, (0,))[0], theirs.get(bucket, (0,))[0])
            if chosen and rows > _MOST_ROWS:
                break
            chosen.append(bucket)
        if not chosen:
            return [], [], True
        mine, other = self._both(shape.query(_ROWS), [chosen])
        return mine, other, len(chosen) == len(differing)

    def _examples(
        self, shape: _Shape, missing: Counter[str], added: Counter[str], changed: list[str]
    ) -> tuple[list[RowDifference], Counter[str], int]:
        """Rows by name with the columns that differ, how often each column does, and how many rows were paired.

        Without a key a changed row is one that is missing and one that is added: those that are most alike are paired.
        With one, so are those that differ in their keys alone.
        """
        wanted = [changed[: self.limit], list(missing)[: self.limit], list(added)[: self.limit]]
        keys = [key for part in wanted for key in part]
        if not keys:
            return [], Counter(), 0
        ours, theirs = ({row[0]: (row[1], row[2]) for row in rows} for rows in self._both(shape.cells(), [keys]))
        examples, columns = [], Counter[str]()
        for key in wanted[0]:
            different = _unlike(shape.columns, ours[key][1], theirs[key][1])
            columns.update(different)
            examples.append(RowDifference("changed", ours[key][0], different))
        same = [place for place, name in enumerate(shape.columns) if name not in shape.key] if shape.key else []
        pairs = [
            pair
            for pair in _pairs(wanted[1], wanted[2], ours, theirs)
            if not shape.key or (same and all(ours[pair[0]][1][at] == theirs[pair[1]][1][at] for at in same))
        ]
        for one, two in pairs:
            different = _unlike(shape.columns, ours[one][1], theirs[two][1])
            columns.update(different)
            examples.append(RowDifference("changed", ours[one][0], different))
        done = {key for pair in pairs for key in pair}
        examples += [RowDifference("missing", ours[key][0]) for key in wanted[1] if key not in done]
        examples += [RowDifference("added", theirs[key][0]) for key in wanted[2] if key not in done]
        return examples[: self.limit], columns, len(pairs)

    def _both(self, query: Any, arguments: list[Any]) -> list[list[tuple[Any, ...]]]:
        """The same query on both sides at the same time."""
        futures = [
            self.pool.submit(ask_with, connection, query, arguments) for connection in (self.expected, self.found)
        ]
        return [future.result() for future in futures]


def _sorted_out(
    ours: list[tuple[Any, ...]], theirs: list[tuple[Any, ...]]
) -> tuple[Counter[str], Counter[str], list[str]]:
    """Keys that are missing, that are added (each with how often), and that are there with another content. Pure."""
    mine, other = Counter(ours), Counter(theirs)
    missing = Counter[str]()
    added = Counter[str]()
    for (key, *_), count in (mine - other).items():
        missing[key] += count
    for (key, *_), count in (other - mine).items():
        added[key] += count
    changed = sorted(key for key in missing if key in added)
    for key in changed:
        del missing[key], added[key]
    return missing, added, changed


def _unlike(columns: Sequence[str], ours: Sequence[str | None], theirs: Sequence[str | None]) -> tuple[str, ...]:
    return tuple(name for name, one, two in zip(columns, ours, theirs, strict=True) if one != two)


def _pairs(
    missing: list[str], added: list[str], ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Missing and added rows that are alike in more than half of their columns, the most alike first. Pure."""
    ranked = sorted(
        (sum(a != b for a, b in zip(ours[one][1], theirs[two][1], strict=True)), place, one, two)
        for place, one in enumerate(missing)
        for two in added
    )
    pairs: list[tuple[str, str]] = []
    used: set[str] = set()
    for unlike, _place, one, two in ranked:
        if unlike * 2 <= len(ours[one][1]) and one not in used and two not in used:
            used |= {one, two}
            pairs.append((one, two))
    return pairs
