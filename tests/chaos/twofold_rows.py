"""Rows of a database as a truth (`twofold_truth`) compares them, and the queries for what they must hold."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from odd_worlds import quoted

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target

# Each foreign key of a database, as a query for its rows without a parent.
ORPHANS = """
select format('select count(*) from %s c where %s and not exists (select from %s p where %s)',
    conrelid::regclass,
    (select string_agg(format('c.%I is not null', a.attname), ' and ')
     from unnest(conkey) k join pg_attribute a on a.attrelid = conrelid and a.attnum = k),
    confrelid::regclass,
    (select string_agg(format('p.%I = c.%I', b.attname, a.attname), ' and ')
     from unnest(conkey, confkey) k(own, there) join pg_attribute a on a.attrelid = conrelid and a.attnum = own
     join pg_attribute b on b.attrelid = confrelid and b.attnum = there))
from pg_constraint o where contype = 'f' and conparentid = 0
and not coalesce((to_jsonb(o) ->> 'conperiod')::bool, false)
union all
select format('select count(*) from %s c where c.%I is not null and c.%I is not null and not coalesce(c.%I <@ '
    '(select range_agg(p.%I) from %s p where p.%I = c.%I), false)',
    conrelid::regclass, a.attname, b.attname, b.attname, q.attname, confrelid::regclass, p.attname, a.attname)
from pg_constraint o join pg_attribute a on a.attrelid = conrelid and a.attnum = conkey[1]
join pg_attribute b on b.attrelid = conrelid and b.attnum = conkey[2]
join pg_attribute p on p.attrelid = confrelid and p.attnum = confkey[1]
join pg_attribute q on q.attrelid = confrelid and q.attnum = confkey[2]
where coalesce((to_jsonb(o) ->> 'conperiod')::bool, false)
"""
SEQUENCES = """
select c.relname, a.attname, pg_sequence_last_value(s.oid) * sign(q.seqincrement)
from pg_class s join pg_sequence q on q.seqrelid = s.oid
join pg_depend d on d.objid = s.oid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
join pg_class c on c.oid = d.refobjid join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
join pg_namespace n on n.oid = c.relnamespace where s.relkind = 'S' and n.nspname in ('public', 'other')
"""

SCHEMAS = "public, other, side"

Row = tuple[str | None, ...]


def rows_of(target: Target, relation: str, values: Sequence[str]) -> Counter[Row]:
    """A table's rows as the output functions write them."""
    said = [f"case when {value} is distinct from null then format('%s', {value}) end" for value in values]
    with connect(target) as connection:
        return Counter(connection.execute(f"select {', '.join(said)} from {quoted(relation)} new".encode()).fetchall())


def bare(relation: str) -> str:
    """Its name without its schema's."""
    return relation.rpartition(".")[2]


def keys_of(rows: Counter[Row], places: Sequence[int]) -> set[Row]:
    return {tuple(row[place] for place in places) for row in rows}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def brief(rows: Counter[Row]) -> list[Row]:
    return [tuple(value if value is None else value[:20] for value in row) for row in list(rows)[:6]]


def difference(one: Counter[str], other: Counter[str]) -> tuple[str, list[str], list[str]]:
    return "stash", list((one - other).elements())[:4], list((other - one).elements())[:4]


def attempt(connection: Connection, statement: str) -> str | None:
    """What PostgreSQL said where it refused."""
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        return str(error).splitlines()[0]
    return None
