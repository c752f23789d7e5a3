"""What always must hold before and after a migration, and whether the launch has the time and the disk for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from psycopg import sql

from safepoint.config import format_bytes
from safepoint.postgres.connections import Connection
from safepoint.rehearsal.catalogue import Picture
from safepoint.rehearsal.changes import TableChange

Verdict = Literal["pass", "fail", "warning", "not rehearsed"]
_SHOWN = 5

# Sequences that fill a column (serial and identity), with that column.
_SEQUENCES = """
    select format('%I.%I', sn.nspname, s.relname), sn.nspname, s.relname, tn.nspname, t.relname, a.attname
    from pg_class s
    join pg_namespace sn on sn.oid = s.relnamespace
    join pg_sequence q on q.seqrelid = s.oid and q.seqincrement > 0
    join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = s.oid
     and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0 and d.deptype in ('a', 'i')
    join pg_class t on t.oid = d.refobjid and t.relkind in ('r', 'p')
    join pg_namespace tn on tn.oid = t.relnamespace
    join pg_attribute a on a.attrelid = t.oid and a.attnum = d.refobjsubid and a.atttypid = any (array[20, 21, 23])
    where s.relkind = 'S' order by 1
"""
_BEHIND = """
    select (select max({column}) from {table}), (select last_value from {sequence}),
           (select case when is_called then last_value else last_value - 1 end < (select max({column}) from {table})
            from {sequence})
"""


# Whether a role may write past foreign keys: a superuser can, and who may set this.
_BYPASSES = """
    select bool_or(r.rolsuper{parameter}) from pg_roles r where r.rolname = any(%s)
"""
_PARAMETER = " or has_parameter_privilege(r.oid, 'session_replication_role', 'SET')"
# Of each foreign key the tables, and by column both names, and the parent's collation where the child has another one.
# A partition's is that of its root.
_REFERENCES = """
    select format('%s of %s', k.conname, k.conrelid::regclass), n.nspname, c.relname, f.nspname, p.relname,
           array(select a.attname::text from unnest(k.conkey) with ordinality as x(number, place)
                 join pg_attribute a on a.attrelid = k.conrelid and a.attnum = x.number order by x.place),
           array(select a.attname::text from unnest(k.confkey) with ordinality as x(number, place)
                 join pg_attribute a on a.attrelid = k.confrelid and a.attnum = x.number order by x.place),
           array(select case when a.attcollation <> b.attcollation then (
                     select format('%I.%I', s.nspname, l.collname) from pg_collation l
                     join pg_namespace s on s.oid = l.collnamespace where l.oid = b.attcollation) end
                 from unnest(k.conkey, k.confkey) with ordinality as x(own, other, place)
                 join pg_attribute a on a.attrelid = k.conrelid and a.attnum = x.own
                 join pg_attribute b on b.attrelid = k.confrelid and b.attnum = x.other order by x.place)
    from pg_constraint k
    join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
    join pg_class p on p.oid = k.confrelid join pg_namespace f on f.oid = p.relnamespace
    where k.contype = 'f' and k.conparentid = 0 and k.conrelid >= 16384 order by 1
"""
_LOST_REFERENCE = """
    select exists (select from {table} as t where {filled}
                   and not exists (select from {parent} as p where {match}))
"""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `found` says what stands against it."""

    name: str
    verdict: Verdict
    summary: str
    found: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {**asdict(self), "found": list(self.found)}


def standing_checks(
    before: Picture, after: Picture, behind: tuple[str, ...], lost: tuple[str, ...] = ()
) -> tuple[Check, ...]:
    """What always must hold. Pure.

    Args:
        behind: what `sequences_behind` found after the migration and not before.
        lost: the same of `lost_references`.
    """
    invalid = [
        f"{index.name} on {after.tables[index.table].name}"
        for oid, index in after.indexes.items()
        if not index.valid and index.table in after.tables and (oid not in before.indexes or before.indexes[oid].valid)
    ]
    ungranted = _lost_grants(before, after)
    missing = _missing_grants(before, after)
    return (
        judged("indexes", "every index is valid", "invalid indexes", invalid),
        _references(unvalidated(before, after), lost),
        judged("sequences", "every sequence stands at or above its column", "sequences behind their column", behind),
        judged("grants", "no grant was lost", "grants lost", ungranted),
        judged("grants on new tables", "new tables have what all others have", "grants missing", missing, "warning"),
    )


def _references(unchecked: list[str], lost: tuple[str, ...]) -> Check:
    """A constraint may be left NOT VALID on purpose, to be validated when nobody waits: that alone is a warning."""
    if not lost:
        good, bad = "every constraint is validated", "constraints not validated (VALIDATE CONSTRAINT does it any time)"
        return judged("foreign keys and checks", good, bad, unchecked, "warning")
    others = [name for name in unchecked if name not in lost]
    found = [*(f"{name} refers to rows that are not there" for name in lost), *others]
    return judged("foreign keys and checks", "", "constraints do not hold", found)


def judged(name: str, good: str, bad: str, found: list[str] | tuple[str, ...], verdict: Verdict = "fail") -> Check:
    """Passed, where nothing was found. Pure."""
    if not found:
        return Check(name, "pass", good)
    return Check(name, verdict, f"{len(found)} {bad}: {'; '.join(found[:_SHOWN])}", tuple(found))


def _lost_grants(before: Picture, after: Picture) -> list[str]:
    return sorted(
        f"{privilege} on {after.tables[oid].name} of {role}"
        for oid, grants in before.grants.items()
        if oid in after.tables
        for role, privilege in grants - after.grants.get(oid, frozenset())
    )


def _missing_grants(before: Picture, after: Picture) -> list[str]:
    """What a role may do on every table that was there, and not on a new one."""
    old = [before.grants.get(oid, frozenset()) for oid, table in before.tables.items() if table.kind == "r"]
    everywhere = frozenset.intersection(*old) if old else frozenset()
    return sorted(
        f"{privilege} on {table.name} for {role}"
        for oid, table in after.tables.items()
        if oid not in before.tables
        for role, privilege in everywhere - after.grants.get(oid, frozenset())
    )


def may_go_around_references(connection: Connection, roles: Sequence[str]) -> bool:
    """Whether one of these roles could write rows that foreign keys refuse: nobody else needs to be asked about."""
    parameter = _PARAMETER if connection.info.server_version >= 150000 else ""
    row = connection.execute(_BYPASSES.format(parameter=parameter).encode(), [list(roles)]).fetchone()
    return row is not None and bool(row[0])


def lost_references(connection: Connection) -> tuple[str, ...]:
    """Foreign keys with rows that refer to none, validated ones too: whoever is let past them leaves no mark."""
    found = []
    for name, schema, table, parent_schema, parent, *by in connection.execute(_REFERENCES).fetchall():
        query = sql.SQL(_LOST_REFERENCE).format(
            table=sql.Identifier(schema, table),
            parent=sql.Identifier(parent_schema, parent),
            filled=sql.SQL(" and ").join(
                sql.SQL("t.{} is distinct from null").format(sql.Identifier(one)) for one in by[0]
            ),
            match=sql.SQL(" and ").join(
                # The collation's name comes quoted from the catalogue.
                sql.SQL("p.{} = t.{}{}").format(
                    sql.Identifier(key), sql.Identifier(one), sql.SQL(f" collate {collation}" if collation else "")
                )
                for one, key, collation in zip(*by, strict=True)
            ),
        )
        if (connection.execute(query).fetchone() or (False,))[0]:
            found.append(str(name))
    return tuple(found)


def newly_lost(
    before: Connection, after: Connection, roles: Sequence[str], was: Picture, now: Picture
) -> tuple[str, ...]:
    """What `lost_references` finds after the migration and not before.

    () where no row can have come past a foreign key. One that was left NOT VALID holds nothing of what was there
    already, whoever wrote it.

    Args:
        roles: those that the migration may have acted as.
    """
    if not unvalidated(was, now) and not may_go_around_references(after, roles):
        return ()
    lost = lost_references(after)
    return tuple(sorted(set(lost) - set(lost_references(before)))) if lost else ()


def unvalidated(before: Picture, after: Picture) -> list[str]:
    """The constraints that a migration has left NOT VALID. Pure."""
    return [name for name in after.unchecked if name not in before.unchecked]


def sequences_behind(connection: Connection) -> tuple[str, ...]:
    """Sequences that would give out a number that their column has already."""
    found = []
    for name, schema, sequence, table_schema, table, column in connection.execute(_SEQUENCES).fetchall():
        query = sql.SQL(_BEHIND).format(
            column=sql.Identifier(column),
            table=sql.Identifier(table_schema, table),
            sequence=sql.Identifier(schema, sequence),
        )
        highest, last, behind = connection.execute(query).fetchone() or (None, None, None)
        if behind:
            found.append(f"{name} stands at {last}, {table}.{column} goes to {highest}")
    return tuple(found)


def judge_rows(changes: Sequence[TableChange]) -> Check:
    """Whether every table that is still there has its rows. More of them are told, fewer are a warning. Pure."""
    kept = [one for one in changes if one.before is not None and one.after is not None]
    if not kept:
        return Check("row counts", "warning", "no table was there before and after")
    fewer = [f"{one}: {one.rows_before:,} → {one.rows_after:,}" for one in kept if one.rows_after < one.rows_before]
    more = [f"{one} +{one.rows_after - one.rows_before:,}" for one in kept if one.rows_after > one.rows_before]
    same = len(kept) - len(fewer) - len(more)
    parts = [
        listed("fewer rows than before: {}", fewer),
        f"{same} {'table has' if same == 1 else 'tables have'} as many rows as before",
    ]
    parts.append(listed("more: {}", more))
    return Check("row counts", "warning" if fewer else "pass", "; ".join(one for one in parts if one), tuple(fewer))


def listed(words: str, names: Sequence[str]) -> str:
    """These words with the names in them; nothing where there is none. Pure."""
    return words.format(", ".join(names)) if names else ""


def judge_checkpoint(name: str, verdict: str, detail: str, remedy: str | None) -> Check:
    """A checkpoint of the launch, tried on the copy: what would be open there is a warning here. Pure."""
    verdicts: Mapping[str, Verdict] = {"pass": "pass", "fail": "fail"}
    said = f"{detail}; {remedy}" if remedy and verdict != "pass" else detail
    return Check(name, verdicts.get(verdict, "warning"), said)


def judge_window(planned: float, low: float, expected: float, high: float) -> Check:
    """Whether what is known of the window fits into the one of the timetable; all in seconds. Pure."""
    said = f"{expected:.0f} s ({low:.0f} to {high:.0f}) are foreseen, {planned:.0f} s are planned"
    if low > planned:
        return Check("window", "fail", f"it does not fit: {said}")
    return Check("window", "warning" if high > planned else "pass", said)


def judge_disk(needed: int, free: int | None, parts: Mapping[str, int], margin: float) -> Check:
    """Whether the server's disk holds what the launch needs at its peak; all in bytes. Pure.

    Args:
        margin: the share by which what is needed may be more than was seen.
    """
    of_it = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
    said = f"{format_bytes(needed)} more are needed at the peak ({of_it or 'nothing'})"
    if free is None:
        return Check("disk", "warning", f"{said}; what is free on the server cannot be seen from here")
    said += f", {format_bytes(free)} are free"
    if needed > free:
        return Check("disk", "fail", f"it does not fit: {said}")
    return Check("disk", "warning" if needed * (1 + margin) > free else "pass", said)
