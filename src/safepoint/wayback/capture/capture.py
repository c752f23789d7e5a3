"""The capture: what was committed after the launch, decoded from the write-ahead log and spooled durably.

Order matters: `arm` comes after `migrate` (a slot made earlier would carry the migration's own backfill) and before
traffic. Within it the publication comes before the slot: PostgreSQL 15 fails and 18 silently drops changes where the
publication was missing at the change's LSN. `drain` peeks, writes durably, then advances; never the other way round,
for a consuming read is not undone by a rollback.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from safepoint.errors import Interrupted, Refused
from safepoint.postgres.connections import Connection, cancellable, connect
from safepoint.postgres.pgoutput import format_lsn, parse_lsn
from safepoint.postgres.raised_identities import look_again
from safepoint.postgres.replica_identity import Identity
from safepoint.postgres.rewritten import rewritten
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, never
from safepoint.wayback.capture import triggers
from safepoint.wayback.capture.capture_mode import How, choose, settled, why_not_decoded
from safepoint.wayback.capture.identity import Uncovered
from safepoint.wayback.capture.log_drain import LogDrain, let_go_of, mark_restart
from safepoint.wayback.capture.promises import HAS_LARGE_OBJECTS, HIDDEN, RIGHTS, Mode, gaps
from safepoint.wayback.capture.publication import publish, unpublish, unpublished
from safepoint.wayback.capture.slot import MAKE_SECONDS, REPLACED, drop_slot, look_up_slot, lost, make_slot, whole_slot
from safepoint.wayback.capture.spool import Spool
from safepoint.wayback.capture.timelines import current_timeline, has_all
from safepoint.wayback.capture.trigger_drain import TriggerDrain
from safepoint.wayback.capture.triggers import install
from safepoint.wayback.fence.quiet import flush_wal
from safepoint.wayback.names import between_name, capture_name
from safepoint.wayback.sessions import asking

Purpose = Literal["capture", "twin", "between"]
"""What is captured for: the way back after the launch, the twin before it, or a return to the new release, between a
rollback's swap and the opening of the site."""

IDLE_TIMEOUT = """
SELECT setting::int * CASE unit WHEN 'min' THEN 60 WHEN 'h' THEN 3600 WHEN 'ms' THEN 0.001 ELSE 1 END
FROM pg_settings WHERE name = 'idle_replication_slot_timeout'
"""


@dataclass(frozen=True)
class CaptureFacts:
    """How changes are captured, and what cannot be. `reason` says why the log is not decoded, where it is not.

    `start_xid` is the first transaction id (64 bits) after arming: what the listing without a log goes by.
    `follows_tables`: where triggers capture, tables that are made later get theirs.
    `identities` are the tables whose replica identity was set, with what to put back.
    """

    launch_id: str
    database: str
    mode: Mode
    reason: str | None
    slot: str
    publication: str
    start_lsn: str
    start_xid: int
    all_tables: bool
    identities: tuple[Identity, ...] = ()
    uncovered: tuple[Uncovered, ...] = ()
    large_objects: bool = False
    armed_at: str = ""
    purpose: Purpose = "capture"
    follows_tables: bool = False

    @property
    def parts(self) -> str:
        """What of it stands in the database, for a person."""
        return "its triggers" if self.mode == "triggers" else "slot, publication, raised replica identities"

    @property
    def promises(self) -> tuple[str, ...]:
        """What cannot be promised for this capture, one sentence each; empty is everything but sequences and DDL."""
        later = self.follows_tables if self.mode == "triggers" else self.all_tables
        return gaps(self.mode, self.reason, self.uncovered, large=self.large_objects, later=later)

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return {**asdict(self), "promises": list(self.promises)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CaptureFacts:
        """Back from the ledger."""
        fields = {name: value for name, value in data.items() if name != "promises"}
        fields["identities"] = tuple(Identity(**one) for one in data["identities"])
        fields["uncovered"] = tuple(Uncovered(**one) for one in data["uncovered"])
        return cls(**fields)


@dataclass(frozen=True)
class Drained:
    """What one drain did. `complete` says that everything up to `up_to` is in the spool now.

    `changed_tables` are tables whose columns changed since they were last seen: someone ran DDL meanwhile. `unseen`
    are tables that are not captured, or were not for a time, and were not known of when it was armed: most were made
    since.
    """

    spool: str
    up_to: str
    complete: bool
    transactions: int
    changes: int
    bytes: int
    total_transactions: int
    seconds: float
    changed_tables: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


@dataclass(frozen=True)
class Lag:
    """How far the capture is behind: bytes of WAL, or of noted changes, that the server keeps for it, and how much it
    may still keep.

    `safe_bytes` is None where nothing limits it (`max_slot_wal_keep_size` is -1): then the disk is the limit.
    `idle_timeout` is in seconds, where the server gives slots up that nobody reads (PostgreSQL 18).
    """

    retained_bytes: int
    wal_status: str
    safe_bytes: int | None
    confirmed_lsn: str
    active: bool
    idle_timeout: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For the ledger."""
        return asdict(self)


def arm(
    target: Target,
    launch_id: str,
    how: How = "auto",
    *,
    purpose: Purpose = "capture",
    whole: Collection[str] = (),
    lock_timeout: float = 5.0,
    timeout: float = MAKE_SECONDS,
) -> CaptureFacts:
    """Start capturing, after the migration and before traffic. May be run again until traffic is let in.

    What was changed for it stands in the publication's comment, in the same transaction: `disarm` finds it there
    even if these facts were never recorded.

    Args:
        how: see `config.Wayback.capture`.
        whole: tables of which the log is to say what a row was before it was changed or deleted, `schema.table`.
        lock_timeout: seconds to wait for a table whose replica identity must be set, or that gets triggers.
        timeout: seconds to wait for transactions that are open anywhere in the cluster, which a slot's making has to.

    Raises:
        LockNotAvailable: a table is locked by someone; nothing was changed.
        Refused: a slot or publication of this name is there that is not ours, or policies hide rows from us.
    """
    name = between_name(launch_id) if purpose == "between" else capture_name(launch_id)
    with (
        _connected(target, lock_timeout=lock_timeout) as connection,
        asking("Arming the capture", target.dbname, at=connection),
    ):
        superuser, may_replicate = connection.execute(RIGHTS).fetchone() or (False, False)
        start_xid = int(_one(connection, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8"))
        reason = why_not_decoded(connection, how, may_replicate)
        _refuse_hidden(connection, choose(how, reason))
        identities, uncovered, all_tables = publish(
            connection, launch_id, name, purpose, superuser=superuser, dry=reason is not None, whole=whole
        )
        if reason is None and (reason := _make_slot(connection, name, timeout)) is not None:
            unpublish(connection, launch_id, name, purpose)
            identities = ()
        mode, reason = settled(connection, how, reason)
        installed = install(connection, launch_id) if mode == "triggers" else None
        return CaptureFacts(
            launch_id=launch_id,
            database=target.dbname,
            mode=mode,
            reason=reason,
            slot=name,
            publication=name,
            start_lsn=_start(connection, name, reason),
            start_xid=start_xid,
            all_tables=all_tables,
            identities=tuple(identities),
            uncovered=tuple(uncovered if installed is None else installed.uncovered),
            large_objects=bool(_one(connection, HAS_LARGE_OBJECTS)),
            armed_at=str(_one(connection, "SELECT clock_timestamp()::text")),
            purpose=purpose,
            follows_tables=installed is not None and installed.follows,
        )


def _refuse_hidden(connection: Connection, mode: Mode) -> None:
    """A migration may bring policies (row-level security) that hold for the conductor: the way back looks up in the
    tables themselves what the log has not, and what they hide would count as gone."""
    hidden = [] if mode == "none" else [str(row[0]) for row in connection.execute(HIDDEN).fetchall()]
    if hidden:
        raise Refused(
            f"Policies hide rows of {', '.join(hidden[:5])} from the conductor's role: they could not be carried back.",
            subject=connection.info.dbname,
            remedy=f"ALTER ROLE {connection.info.user} BYPASSRLS; as a superuser, then try again.",
        )


def _start(connection: Connection, name: str, reason: str | None) -> str:
    """The LSN from which on changes are captured; the present one where the log is not decoded."""
    found = look_up_slot(connection, name)
    if found and reason is None:
        return found.confirmed_lsn
    return str(_one(connection, "SELECT pg_current_wal_lsn()::text"))


def _make_slot(connection: Connection, name: str, timeout: float) -> str | None:
    """The slot of a publication that stands; why there is none."""
    reason = make_slot(connection, connection.info.dbname, name, timeout)
    if reason is None:
        look_again(connection, name)  # the slot has waited for all that was under way
    return reason


def drain(
    target: Target,
    facts: CaptureFacts,
    spool: Path,
    *,
    up_to: str | None = None,
    cancelled: Cancelled = never,
    batch: int | None = None,
) -> Drained:
    """Read what was committed since the last drain into the spool, make it durable, let the server forget it.

    Killed anywhere and run again, nothing is lost and nothing stands twice: a torn end is cut off, and a transaction
    that is in the spool already is known by the LSN of its commit.

    Args:
        target: the database that has the slot, under its present name (a slot moves with a renamed database).
        up_to: an LSN to stop at; by default everything that is committed now (the log is flushed first).
        batch: changes per read; only a single transaction can be more. By default as many as make some 128 MB.

    Raises:
        CaptureLost: the slot or the publication is gone, or the server threw away what was not read yet.
        CaptureElsewhere: what came since was read into another spool.
    """
    if facts.mode == "none":
        raise Refused("There is no capture to read.", subject=facts.database, found=facts.reason)
    began = time.monotonic()
    if facts.mode == "triggers":
        return _drain_triggers(target, facts, spool, cancelled, began)
    with (
        Spool(spool, {"launch": facts.launch_id, "slot": facts.slot, "start_lsn": facts.start_lsn}) as file,
        _connected(target) as connection,
        asking("Reading the capture", facts.slot),
    ):
        only = facts.purpose != "twin"
        timeline = _same_log(target, connection, file, facts.slot)
        work = LogDrain(connection, facts.slot, facts.publication, file, cancelled, only_spool=only, timeline=timeline)
        mark_restart(connection, facts.slot)
        flushed = flush_wal(connection)
        end = up_to or flushed
        complete = _until_stopped(connection, cancelled, lambda: work.run(end, batch))
        if complete:
            let_go_of(connection, facts.slot, file, parse_lsn(end))
        return Drained(
            spool=str(spool),
            up_to=end,
            complete=complete,
            transactions=work.transactions,
            changes=work.changes,
            bytes=work.bytes,
            total_transactions=file.position.transactions,
            seconds=round(time.monotonic() - began, 3),
            changed_tables=tuple(sorted(work.changed_tables)),
            unseen=unpublished(connection, facts.publication, facts.uncovered) if complete else (),
        )


def _same_log(target: Target, connection: Connection, spool: Spool, slot: str) -> str:
    """The timeline that is read now.

    Raises:
        CaptureLost: a standby took the server's place that never had the last of what the spool has.
    """
    now, known = current_timeline(connection), spool.position
    if known.timeline and not has_all(target, now, known.timeline, known.commit_lsn):
        raise lost(slot, REPLACED)
    return now


def _until_stopped(connection: Connection, cancelled: Cancelled, run: Callable[[], bool]) -> bool:
    """Whether a drain came to its end. The server decodes long before it gives a first row (a giant transaction, or
    one that has stayed open for hours), and an order does not wait for that."""
    try:
        with cancellable(connection, cancelled):
            return run()
    except Interrupted:
        return False


def _drain_triggers(target: Target, facts: CaptureFacts, spool: Path, cancelled: Cancelled, began: float) -> Drained:
    """The same where triggers capture; places in the order of commits stand for LSNs then."""
    header = {"launch": facts.launch_id, "slot": facts.slot, "start_lsn": "0/0", "capture": "triggers"}
    with (
        Spool(spool, header) as file,
        _connected(target) as connection,
        asking("Reading the capture", facts.slot),
    ):
        _whole_triggers(connection, facts)
        work = TriggerDrain(connection, file, cancelled)
        complete = _until_stopped(connection, cancelled, work.run)
        return Drained(
            spool=str(spool),
            up_to=format_lsn(file.position.commit_lsn),
            complete=complete,
            transactions=work.transactions,
            changes=work.changes,
            bytes=work.size,
            total_transactions=file.position.transactions,
            seconds=round(time.monotonic() - began, 3),
            changed_tables=tuple(sorted(work.changed_tables)),
            unseen=_unseen_by_triggers(connection, facts, work.unread) if complete else (),
        )


def _unseen_by_triggers(connection: Connection, facts: CaptureFacts, unread: Iterable[str]) -> tuple[str, ...]:
    found = {*triggers.unseen(connection), *rewritten(connection, triggers.SCHEMA), *unread}
    return tuple(sorted(found - {one.table for one in facts.uncovered}))


def _whole_triggers(connection: Connection, facts: CaptureFacts) -> None:
    if triggers.state(connection, facts.launch_id) is None:
        raise lost(facts.slot, f"the schema {triggers.SCHEMA} was dropped")


def lag(target: Target, facts: CaptureFacts) -> Lag:
    """How far the capture is behind. Any database of the server will do as target.

    Raises:
        CaptureLost: the slot is gone, or the server threw away what was not read yet.
    """
    with _connected(target) as connection, asking("Looking at the capture", facts.slot):
        if facts.mode == "triggers":
            _whole_triggers(connection, facts)
            size = int(_one(connection, "SELECT pg_total_relation_size('safepoint_capture.changes')"))
            return Lag(size, "noted by triggers", None, "", active=False)
        found = whole_slot(connection, facts.slot)
        row = connection.execute(IDLE_TIMEOUT).fetchone()
        return Lag(
            found.retained_bytes,
            found.wal_status,
            found.safe_bytes,
            found.confirmed_lsn,
            found.active,
            float(row[0]) if row and row[0] else None,
        )


def disarm(target: Target, facts: CaptureFacts) -> None:
    """End the capture: slot, publication, triggers go, replica identities are put back. May be run again any time."""
    _end(target, facts.launch_id, facts.publication, facts.purpose)


def disarm_unrecorded(target: Target, launch_id: str, purpose: Purpose) -> None:
    """The same for one that was broken off while it was made: nobody has its facts, and its name is known."""
    name = between_name(launch_id) if purpose == "between" else capture_name(launch_id)
    _end(target, launch_id, name, purpose)


def _end(target: Target, launch_id: str, name: str, purpose: Purpose) -> None:
    with _connected(target, lock_timeout=5) as connection, asking("Ending the capture", name, at=connection):
        drop_slot(connection, name)
        if purpose != "twin":
            triggers.uninstall(connection, launch_id)
        unpublish(connection, launch_id, name, purpose)


def _connected(target: Target, lock_timeout: float | None = None) -> Connection:
    return connect(target, application_name="safepoint capture", lock_timeout=lock_timeout)


def _one(connection: Connection, query: Any) -> Any:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
