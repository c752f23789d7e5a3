"""Restoring a snapshot on the database's own server: beside the live database, or in its place by a swap of names.

The live database is never written to. It keeps serving until the restored one is whole and compared; then both are
renamed in one transaction, and the one that was live stays under another name.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from safepoint.backup.manifest import read_manifest
from safepoint.backup.placement import Placed, place
from safepoint.backup.proof import refuse_damaged
from safepoint.backup.unfinished import alone, sweep
from safepoint.config import PlanFile, format_bytes
from safepoint.errors import Refused, SafepointError
from safepoint.launch.doctor.disk_room import server_disk
from safepoint.launch.snapshots.snapshots import UNDER_WAY, UNREADABLE, local_tools, standing_launches
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import OWN_NAMES, Connection, connect
from safepoint.postgres.target import Target, target
from safepoint.progress import Report, silent
from safepoint.wayback.capture.others import staying_with
from safepoint.wayback.fence.fence import SUBSCRIPTIONS
from safepoint.wayback.sessions import asking, at_maintenance, database_oid, keeping_out, prepared, walsenders

_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer names without a word (NAMEDATALEN - 1)


@dataclass(frozen=True)
class Replaced:
    """A restored database that is live now. `seconds_out` is how long no session could be had.

    `undo` are the statements that bring the former one back.
    """

    placed: Placed
    live: str
    kept_as: str
    seconds_out: float
    undo: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For `restore --json`."""
        return {**asdict(self), "placed": self.placed.as_json(), "undo": list(self.undo)}


def restore_into(
    plan_file: PlanFile,
    folder: Path,
    name: str,
    *,
    only: tuple[str, ...] = (),
    report: Report = silent,
) -> Placed:
    """Restore a snapshot's folder as a new database on the live server.

    Raises:
        Refused: the server's disk, where it can be seen from here, has no room for it.
        Others as `place`.
    """
    refuse_long(name)
    refuse_damaged(folder)
    if not only:
        _refuse_full(plan_file, folder)
    return place(
        folder,
        target(plan_file.database),
        name,
        maintenance=plan_file.database.maintenance,
        only=only,
        jobs=plan_file.snapshot.jobs,
        report=report,
        extra=local_tools(plan_file),
    )


def restore_over(plan_file: PlanFile, folder: Path, *, report: Report = silent) -> Replaced:
    """Restore a snapshot beside the live database, compare it there, and swap their names.

    Raises:
        Refused: a launch is under way or its way back stands; there is no live database; something holds it open; the
            snapshot is of a database of another name; another restore over it is under way.
        Others as `place`: the live database was not touched then.
    """
    _refuse_other(folder, plan_file.database.name)
    live = plan_file.database.name
    database = target(plan_file.database)
    maintenance = plan_file.database.maintenance
    refuse_launch(plan_file)
    with alone(database.on(maintenance), live):
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}".lower()
        beside, kept = named(live, "restored", stamp), named(live, "before_restore", stamp)
        with at_maintenance(database, maintenance) as connection:
            _refuse_held(connection, live)
            staying = staying_with(connection, live)
        swept = sweep(database, unfinished(live), maintenance=maintenance)
        placed = restore_into(plan_file, folder, beside, report=report)
        with _told_beside(live, beside, kept):
            refuse_launch(plan_file)
            seconds = exchange(database, maintenance, live=live, beside=beside, kept=kept)
    told = [f"{name}, left by a restore that was killed, is gone" for name in swept]
    told += _read_only(folder, live)
    told += [f"with the former database, {kept}, stays {one}" for one in staying]
    placed = replace(placed, notes=(*placed.notes, *told))
    undo = (rename(live, beside), rename(kept, live))
    return Replaced(placed, live, kept, seconds, undo)


def exchange(database: Target, maintenance: str, *, live: str, beside: str, kept: str) -> float:
    """Give `beside` the live name and the live one the name `kept`, in one transaction; the seconds that it took.

    Raises:
        Refused: something holds the live database open that is not ours to end.
        DatabaseError: PostgreSQL refused; nothing was changed.
    """
    with (
        at_maintenance(database, maintenance, lock_timeout=30.0) as connection,
        asking("Swapping the databases", live, "Nothing was changed."),
    ):
        oids = [_refuse_held(connection, live), database_oid(connection, beside) or 0]
        began = time.monotonic()
        with keeping_out(database, maintenance, oids), connection.transaction():
            connection.execute(rename(live, kept).encode())
            connection.execute(rename(beside, live).encode())
        return round(time.monotonic() - began, 3)


@contextmanager
def _told_beside(live: str, beside: str, kept: str) -> Iterator[None]:
    """What hinders the swap at the end of a long restore lets nobody restore all anew, nor forget what stands there."""
    try:
        yield
    except SafepointError as error:
        by_hand = f"{rename(live, kept)}; {rename(beside, live)};"
        error.remedy = (
            f"{error.remedy or ''} The restored database, whole and compared, stands beside as {beside}: once nothing "
            f"is in the way, give it the live name by hand, in one transaction ({by_hand}), or drop it."
        ).strip()
        raise


def rename(old: str, new: str) -> str:
    """The statement that gives a database another name. Pure."""
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)).as_string()


def named(live: str, what: str, stamp: str) -> str:
    """A name for a database beside the live one; never longer than PostgreSQL keeps. Pure."""
    tail = f"_{what}_{stamp}"
    return live.encode()[: _LONGEST_NAME - len(tail)].decode("utf-8", "ignore") + tail


def unfinished(live: str) -> re.Pattern[str]:
    """The names that `restore_over` gives to what it makes. Pure."""
    return re.compile(re.escape(named(live, "restored", "")) + r"\d{8}t\d{6}")


def refuse_long(name: str) -> None:
    """PostgreSQL would cut the name and then mean another database.

    Raises:
        Refused: it is longer than a name can be.
    """
    if len(name.encode()) > _LONGEST_NAME or not name:
        raise Refused(
            f"{name!r} cannot be the name of a database.",
            subject=name,
            expected=f"1 to {_LONGEST_NAME} bytes",
            remedy="Choose another name with --into.",
        )


def _refuse_other(folder: Path, live: str) -> None:
    """Several applications may share a store, and a snapshot of another one would be live under this one's name."""
    manifest = read_manifest(folder)
    if manifest.source.database != live:
        raise Refused(
            f"The snapshot {manifest.id} is of another database than the live one.",
            subject=live,
            expected=f"a snapshot of a database {live}",
            found=f"one of {manifest.source.database}, on {manifest.source.server}",
            remedy=f"Nothing was touched. `safepoint restore {manifest.id} --into NAME` makes a database of it beside "
            "the live one; give that the live name by hand where you mean to.",
        )


def _read_only(folder: Path, live: str) -> list[str]:
    """Its source may have been read-only for good. Or it was taken, on another machine, in a launch's window."""
    setting = read_manifest(folder).fingerprint.settings.get("default_transaction_read_only", "off")
    if setting == "off":
        return []
    statement = sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(sql.Identifier(live))
    return [
        f"it is read-only by default, as it was when the snapshot was taken. Was that in a launch's window? Then give "
        f"{statement.as_string()}, and the application's roles their LOGIN"
    ]


def _refuse_full(plan_file: PlanFile, folder: Path) -> None:
    """A disk that fills up stops the live database of the same server, too: it cannot write its log any more.

    Raises:
        Refused: the source was bigger than the room that there is.
    """
    needed = read_manifest(folder).source.database_bytes
    with connect(target(plan_file.database).on(plan_file.database.maintenance), options=OWN_NAMES) as connection:
        free = server_disk(plan_file, survey(connection))
    if free is not None and free < needed:
        raise Refused(
            "The server's disk has no room for the restored database, and a full disk would stop the live one.",
            subject=folder.name,
            expected=f"{format_bytes(needed)}, the size of the source",
            found=f"{format_bytes(free)} free",
            remedy="Make room on that disk, or restore a part of it (--only), or all of it on another server.",
        )


def refuse_launch(plan_file: PlanFile) -> None:
    """A launch that is under way, or may still be taken back, needs the live database where it is.

    Raises:
        Refused: there is one.
    """
    for launch_id, status in standing_launches(plan_file.state, plan_file.launch.application).items():
        if status in (UNDER_WAY, UNREADABLE, "launched"):
            raise Refused(
                f"The launch {launch_id} is {status}, and its way back starts from the live database.",
                subject=launch_id,
                remedy="Bring the old release and its data back with `safepoint rollback`; or end the way back with "
                "`safepoint retire` first; or restore beside it with --into NAME.",
            )


def _refuse_held(connection: Connection, live: str) -> int:
    """The live database's oid, when nothing stands in the way of renaming it."""
    oid = database_oid(connection, live)
    if oid is None:
        raise Refused(
            f"There is no database {live} whose place could be taken.",
            subject=live,
            remedy=f"Restore it under its own name: `safepoint restore SNAPSHOT --into {live}`.",
        )
    feeding = [f"subscription {row[0]}" for row in connection.execute(SUBSCRIPTIONS, (oid,)).fetchall()]
    if held := (*prepared(connection, [oid]), *walsenders(connection, [oid]), *feeding):
        raise Refused(
            "Prepared transactions, replication consumers or subscriptions hold the live database open.",
            subject=live,
            found="; ".join(held[:5]),
            remedy="Decide the prepared transactions, pause the consumers, disable the subscriptions (these stay with "
            "the database that is live now, under its other name), then try again.",
        )
    return oid
