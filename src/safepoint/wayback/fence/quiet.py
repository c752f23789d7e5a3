"""Quiet is proven, not assumed: nobody but the conductor committed in this database from a mark until now.

With `wal_level = logical` the proof is exact: a replication slot made at the mark shows every transaction that
committed in this database since. Otherwise the server's transaction counter is exact as long as it stands still in
the whole cluster; once it moved (by another database, perhaps) the tables' counters are weak evidence: inconclusive.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import psycopg

from safepoint.errors import DatabaseError
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target
from safepoint.wayback.names import kept_name, quiet_name
from safepoint.wayback.sessions import EXHAUSTED, asking, at_maintenance

Verdict = Literal["pass", "fail", "inconclusive"]

# Everything committed so far has to reach the disk, also commits with synchronous_commit = off. A message that is not
# transactional takes no transaction id (the counter of which is evidence here); from PostgreSQL 17 on it can ask
# for the flush itself, before that the end of its transaction sends the WAL writer on its way.
FLUSH_WAL_17 = "SELECT pg_logical_emit_message(false, 'safepoint', 'flush', true)::text"
FLUSH_WAL = "SELECT pg_logical_emit_message(false, 'safepoint', 'flush')::text"
FLUSHED = "SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn"
FLUSH_LSN = "SELECT pg_current_wal_flush_lsn()::text"
_FLUSHING: Final = 10.0  # seconds that the server has for it

# One above the newest transaction that has ended: it moves with every commit that wrote, in any database.
NEXT_XID = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8"

# What each table has seen, and which of them the write-ahead log knows nothing of.
COUNTERS = """
SELECT quote_ident(s.schemaname) || '.' || quote_ident(s.relname), s.n_tup_ins + s.n_tup_upd + s.n_tup_del,
       c.relpersistence = 'u'
FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
"""
VACUUMS = "SELECT coalesce(sum(autovacuum_count + vacuum_count), 0)::int8 FROM pg_stat_all_tables"

CREATE_SLOT = "SELECT pg_create_logical_replication_slot(%s, 'test_decoding')"

# Peeked at, so that the proof can be asked for again. No value of a row leaves the server: only table names do.
DECODED = """
SELECT xid::text::int8, count(*) FILTER (WHERE data LIKE 'table %%'),
       min(split_part(data, ':', 1)) FILTER (WHERE data LIKE 'table %%')
FROM pg_logical_slot_peek_changes(%s, NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '0')
WHERE xid <> '0'::xid  -- a message that belongs to no transaction: nobody's commit (`flush_wal` writes them)
GROUP BY 1 LIMIT 1000
"""

# A transaction without row changes is DDL, a large object, or the server's own ANALYZE and VACUUM. Where its id
# stands on catalogue rows tells which. (A table may be unreadable for a role that is no superuser.)
CATALOGUES: Final = (
    "pg_class",
    "pg_attribute",
    "pg_type",
    "pg_proc",
    "pg_constraint",
    "pg_index",
    "pg_trigger",
    "pg_namespace",
    "pg_policy",
    "pg_rewrite",
    "pg_publication",
    "pg_default_acl",
    "pg_largeobject_metadata",
    "pg_largeobject",
    "pg_depend",
    "pg_description",
    "pg_enum",
)
# Who removes something leaves no row behind. What belongs to what is in one catalogue; VACUUM removes nothing of these.
OBJECTS = """
SELECT (SELECT count(*) FROM pg_depend) + (SELECT count(*) FROM pg_description)
     + (SELECT count(*) FROM pg_largeobject_metadata)
"""


@dataclass(frozen=True)
class QuietMark:
    """The instant from which quiet is proven. `slot` is None where only weaker evidence can be had, and why.

    `objects` counts what the catalogue has; 0 where an earlier version did not.
    """

    database: str
    slot: str | None
    weaker_because: str | None
    lsn: str
    next_xid: int
    counters: dict[str, int]
    vacuums: int
    marked_at: str
    objects: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> QuietMark:
        """Back from the ledger."""
        return cls(**data)


@dataclass(frozen=True)
class Foreign:
    """A decoded transaction that is not the conductor's: its changed rows, one table, the catalogues it touched."""

    xid: int
    rows: int
    table: str | None
    catalogues: tuple[str, ...] = ()
    analyze: bool = False


@dataclass(frozen=True)
class Quiet:
    """Whether it was quiet, in one sentence, and what that rests on."""

    verdict: Verdict
    summary: str
    evidence: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


def flush_wal(connection: Connection) -> str:
    """Bring everything that was committed so far to the disk; gives an LSN at or after the last such commit.

    Raises:
        DatabaseError: the server does not write its log to the disk.
    """
    asked = FLUSH_WAL_17 if connection.info.server_version >= 170000 else FLUSH_WAL
    lsn = str(_one(connection, asked))
    deadline = time.monotonic() + _FLUSHING
    while connection.execute(FLUSHED, (lsn,)).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise DatabaseError(
                "PostgreSQL does not write its log to the disk.",
                expected=f"pg_current_wal_flush_lsn() at {lsn} within {_FLUSHING:g} s",
                found=str(_one(connection, FLUSH_LSN)),
                remedy="Look at the server's disk and log, then try again.",
            )
        time.sleep(0.01)
    return lsn


def safe_point(target: Target, *, maintenance: str = "postgres") -> str:
    """The safe point: an LSN that every commit so far lies before, flushed to the disk."""
    with at_maintenance(target, maintenance) as connection, asking("Taking the safe point", target.dbname):
        flush_wal(connection)
        return str(_one(connection, FLUSH_LSN))


def mark_quiet(target: Target, launch_id: str, *, maintenance: str = "postgres", timeout: float = 10.0) -> QuietMark:
    """Set the mark: call it when the fence is closed, before the safe point. A mark of an earlier try is replaced.

    Args:
        timeout: seconds to wait for open transactions elsewhere in the cluster, which a slot's making has to.
    """
    drop_quiet_slot(target, launch_id, maintenance=maintenance)
    slot, weaker = _make_slot(target, quiet_name(launch_id), timeout)
    return _mark(target, slot, weaker, maintenance)


def mark_again(target: Target, mark: QuietMark, *, maintenance: str = "postgres") -> QuietMark:
    """A later mark without a slot, from which quiet is proven anew: set it when the conductor itself has written."""
    return _mark(target, None, mark.weaker_because or "the mark was set without a slot", maintenance)


def _mark(target: Target, slot: str | None, weaker: str | None, maintenance: str) -> QuietMark:
    with connect(target, application_name="safepoint quiet") as connection, asking("Marking quiet", target.dbname):
        counters = {name: count for name, count, _ in connection.execute(COUNTERS).fetchall() if count}
        vacuums, objects = int(_one(connection, VACUUMS)), int(_one(connection, OBJECTS))
    with at_maintenance(target, maintenance) as connection, asking("Marking quiet", target.dbname):
        flush_wal(connection)
        return QuietMark(
            database=target.dbname,
            slot=slot,
            weaker_because=weaker,
            lsn=str(_one(connection, FLUSH_LSN)),
            next_xid=int(_one(connection, NEXT_XID)),
            counters=counters,
            vacuums=vacuums,
            marked_at=str(_one(connection, "SELECT clock_timestamp()::text")),
            objects=objects,
        )


def prove_quiet(target: Target, mark: QuietMark, *, maintenance: str = "postgres") -> Quiet:
    """Prove that nobody else committed in this database since the mark. Can be asked for as often as wanted."""
    with at_maintenance(target, maintenance) as connection, asking("Proving quiet", target.dbname):
        next_xid = int(_one(connection, NEXT_XID))
        flush_wal(connection)
        until = str(_one(connection, FLUSH_LSN))
    with connect(target, application_name="safepoint quiet") as connection, asking("Proving quiet", target.dbname):
        foreign, weaker = _decoded(connection, mark)
        moved = _moved_counters(connection, mark.counters)
        vacuums = int(_one(connection, VACUUMS)) - mark.vacuums
        removed = int(_one(connection, OBJECTS)) < mark.objects
    return judge(
        foreign,
        moved,
        vacuums=0 if removed else vacuums,
        other_xids=max(0, next_xid - mark.next_xid),
        weaker_because=weaker,
        span={"from_lsn": mark.lsn, "until_lsn": until, "from": mark.marked_at, "slot": mark.slot},
    )


def judge(
    foreign: tuple[Foreign, ...] | None,
    moved: Mapping[str, bool],
    *,
    vacuums: int,
    other_xids: int,
    weaker_because: str | None,
    span: Mapping[str, Any],
) -> Quiet:
    """Weigh the evidence. Pure.

    Args:
        foreign: decoded transactions of others; None when there is no slot to see them by.
        moved: tables whose counters moved, and whether the table is unlogged (so that no slot can see it).
        vacuums: VACUUMs since the mark, each of which may be a decoded transaction without rows; 0 where something was
            removed since, which none of them does.
        other_xids: transaction ids used since the mark, in the whole cluster, that are not the conductor's.
    """
    evidence: dict[str, Any] = {
        **span,
        "transactions_in_cluster": other_xids,
        "tables_with_moved_counters": sorted(moved),
        "weaker_because": weaker_because,
    }
    if foreign is None:
        return _judge_by_counters(moved, other_xids, evidence)
    wrote = [one for one in foreign if one.rows]
    defined = [one for one in foreign if not one.rows and one.catalogues]
    unknown = [one for one in foreign if not one.rows and not one.catalogues and not one.analyze]
    evidence["foreign"] = [asdict(one) for one in foreign[:20]]
    if wrote:
        tables = ", ".join(sorted({one.table or "?" for one in wrote})[:5])
        return Quiet("fail", f"{len(wrote)} transaction(s) of someone else wrote after the stop ({tables}).", evidence)
    if defined:
        touched = ", ".join(sorted({name for one in defined for name in one.catalogues}))
        return Quiet("fail", f"Someone else changed the schema after the stop ({touched}).", evidence)
    if len(unknown) > vacuums:
        text = f"{len(unknown) - vacuums} transaction(s) without row changes committed, by whom is not known."
        return Quiet("inconclusive", text, evidence)
    unlogged = sorted(name for name, is_unlogged in moved.items() if is_unlogged)
    if unlogged:
        text = f"Unlogged tables were written to, which cannot be decoded: {', '.join(unlogged[:5])}."
        return Quiet("inconclusive", text, evidence)
    return Quiet("pass", "No transaction of anyone else committed here since the stop (decoded from WAL).", evidence)


def around_copy(before: Quiet, between: int, own: int | None, after: Quiet) -> Quiet:
    """Without a slot: quiet until the copy began, and since it ended, and nobody but the copy wrote meanwhile. Pure.

    The copy itself uses transaction ids, so one proof over all three stretches would see the conductor and take it
    for someone else.

    Args:
        before: the proof from the stop until the copy began.
        between: transaction ids used in the whole cluster from then until the mark behind the copy.
        own: how many of them the copy used; None where that is not known (a conductor died in it).
        after: the proof from that mark until now.
    """
    evidence = {"before_copy": before.as_json(), "during_copy": {"used": between, "own": own}, **after.evidence}
    worst = next((one for one in (before, after) if one.verdict == "fail"), None)
    worst = worst or next((one for one in (before, after) if one.verdict != "pass"), None)
    if worst is not None:
        return Quiet(worst.verdict, worst.summary, evidence)
    if own is None or between != own:
        others = "an unknown number of" if own is None else str(max(0, between - own))
        text = f"While the copy was made, {others} transaction(s) of others wrote somewhere in the cluster."
        return Quiet("inconclusive", text, evidence)
    text = "No transaction but the copy's own wrote anything in the whole cluster since the stop (by its counter)."
    return Quiet("pass", text, evidence)


def _judge_by_counters(moved: Mapping[str, bool], other_xids: int, evidence: dict[str, Any]) -> Quiet:
    if other_xids == 0:
        return Quiet("pass", "No transaction wrote anything in the whole cluster since the stop.", evidence)
    if moved:
        tables = ", ".join(sorted(moved)[:5])
        return Quiet("fail", f"Tables were written to after the stop, by their counters: {tables}.", evidence)
    text = f"{other_xids} transaction(s) wrote somewhere in the cluster; this database's counters stand still."
    if evidence["weaker_because"]:
        text += f" Which they were is not known: {evidence['weaker_because']}."
    return Quiet("inconclusive", text, evidence)


def drop_quiet_slot(target: Target, launch_id: str, *, maintenance: str = "postgres") -> bool:
    """Remove the slot of the proof; gives whether there was one. May be run again at any time.

    It is this database's, or went with it when it was swapped out: another one of the server may have a launch of the
    same id.
    """
    databases = [target.dbname, kept_name(target.dbname, launch_id)]
    with at_maintenance(target, maintenance) as connection, asking("Removing the quiet slot", target.dbname):
        row = connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
            "WHERE slot_name = %s AND database = ANY(%s)",
            (quiet_name(launch_id), databases),
        ).fetchone()
        return row is not None


def _make_slot(target: Target, name: str, timeout: float) -> tuple[str | None, str | None]:
    """The slot's name, or None and why there is none."""
    with connect(target, application_name="safepoint quiet") as connection:
        level = str(_one(connection, "SHOW wal_level"))
        if level != "logical":
            return None, f"wal_level is {level}, not logical"
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL statement_timeout = {int(timeout * 1000)}")
                connection.execute(CREATE_SLOT, (name,))
        except psycopg.errors.QueryCanceled:
            return None, f"transactions that are open elsewhere in the cluster did not end within {timeout:g} s"
        except psycopg.Error as error:
            return None, f"no replication slot could be made: {error.diag.message_primary or error}"
    return name, None


def _decoded(connection: Connection, mark: QuietMark) -> tuple[tuple[Foreign, ...] | None, str | None]:
    if mark.slot is None:
        return None, mark.weaker_because
    try:
        rows = connection.execute(DECODED, (mark.slot,)).fetchall()
    except psycopg.Error as error:
        if (error.sqlstate or "").startswith(EXHAUSTED):  # somebody has to make room, and then it can be decoded
            raise
        return None, f"the slot {mark.slot} cannot be read: {error.diag.message_primary or error}"
    foreign = [Foreign(int(xid), int(count), table) for xid, count, table in rows]
    return tuple(_explained(connection, one) for one in foreign), None


def _explained(connection: Connection, one: Foreign) -> Foreign:
    if one.rows:
        return one
    touched = tuple(_touched(connection, one.xid, CATALOGUES))
    analyze = bool(list(_touched(connection, one.xid, ("pg_statistic",))))
    return Foreign(one.xid, one.rows, one.table, touched, analyze)


def _touched(connection: Connection, xid: int, catalogues: Iterable[str]) -> Iterable[str]:
    for name in catalogues:
        try:
            found = connection.execute(f"SELECT 1 FROM pg_catalog.{name} WHERE xmin::text = %s LIMIT 1", (str(xid),))
        except psycopg.errors.InsufficientPrivilege:
            continue
        if found.fetchone() is not None:
            yield name


def _moved_counters(connection: Connection, before: Mapping[str, int]) -> dict[str, bool]:
    rows = connection.execute(COUNTERS).fetchall()
    return {name: bool(unlogged) for name, count, unlogged in rows if count > before.get(name, 0)}


def _one(connection: Connection, query: Any) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
