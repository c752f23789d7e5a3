"""Taking a snapshot: dump, globals and fingerprint of one and the same instant, and a manifest when all is there."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from safepoint.backup.contents import reading
from safepoint.backup.dumping import (
    Job,
    choose_compression,
    dump_command,
    end_orphans,
    run_dump,
    run_globals,
    session_name,
    watched,
)
from safepoint.backup.extensions import write_extensions
from safepoint.backup.fingerprint import export, take
from safepoint.backup.hindrances import GRANT, special
from safepoint.backup.manifest import NAME, Manifest, Source, hash_files, sync_folder, write_manifest
from safepoint.backup.partial import SUFFIX, abandoned, filling
from safepoint.backup.prints import Fingerprint, unseen
from safepoint.backup.properties import NAME as PROPERTIES
from safepoint.backup.properties import database_sql
from safepoint.backup.sequences import read_sequences
from safepoint.errors import CommandFailed, DatabaseError, Interrupted, Refused
from safepoint.hosts.command import Command, Host
from safepoint.hosts.here import Here
from safepoint.person import person
from safepoint.postgres import tools
from safepoint.postgres.binaries import Installation, parse_version
from safepoint.postgres.connections import Connection, unhurried
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Report, never, silent

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
_SAME_DAY = timedelta(days=1)  # retention counts in days, and clocks of the wrong time zone are hours apart
_NOT_CONVERTED = ("SQL_ASCII", "MULE_INTERNAL")  # there is no conversion to UTF-8

# Below this it is the time that the last transaction took to get there.
_BEHIND = timedelta(minutes=1)

GENERAL = (
    "globals.sql has roles with their attributes, memberships and settings, but no passwords: set them again.",
    "Restore globals.sql first, then the archive, then database.sql (settings and grants of the database itself).",
    "Tablespaces are not part of it; a restore puts everything into the default one.",
)

# On a standby the position that was replayed is the one that its snapshots are made at.
_SOURCE = """
    select d.datname, current_setting('server_version'), current_setting('server_version_num')::int,
           pg_get_userbyid(d.datdba), (select rolname from pg_roles where oid = 10),
           d.datcollate, d.datctype, d.datlocprovider::text,
           case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text,
           pg_database_size(d.oid), to_jsonb(d)
    from pg_database d where d.datname = current_database()
"""


# Level with its primary is one that has replayed what it received, and goes on receiving (which not every login is
# told). Else all that is known is when its last transaction was committed.
_REPLAYED = """
    select pg_last_xact_replay_timestamp(), clock_timestamp()
    where pg_is_in_recovery() and not (
        pg_last_wal_receive_lsn() is not distinct from pg_last_wal_replay_lsn()
        and exists (select from pg_stat_wal_receiver where coalesce(status, 'streaming') = 'streaming'))
"""


@dataclass(frozen=True)
class Instant:
    """An exported snapshot of the source, which somebody holds until the dump has begun, and its LSN."""

    lsn: str
    snapshot: str


def take_snapshot(
    target: Target,
    host: Host,
    *,
    installation: Installation,
    folder: Path,
    snapshot_id: str,
    launch_id: str | None,
    jobs: int = 2,
    compress: str = "zstd:1",
    report: Report = silent,
    cancelled: Cancelled = never,
    remote: Target | None = None,
    tools_folder: Path | None = None,
    at: Instant | None = None,
) -> Manifest:
    """Take a snapshot into `folder/snapshot_id`, which appears when it is complete and not before.

    Here the directory format is dumped in parallel; over other hosts the custom format is streamed. A dump of the
    same id that a killed conductor left running is ended first, at the server.

    Args:
        installation: whose tools are used here.
        remote: how the tools on another host reach the database, where this differs from `target`.
        tools_folder: where they are on another host; None: on its PATH.
        jobs: how many connections dump, and how many fingerprint.
        at: the instant to dump; by default the present one.
        compress: what is wanted, such as "zstd:1"; a build that lacks it gets lz4 or gzip.

    Raises:
        Refused: there is a snapshot of that id already, or it is no id.
        DatabaseError, CommandFailed: it could not be taken; nothing is left that looks like a snapshot.
        Interrupted: `cancelled` became true; likewise.
    """
    _check_id(folder, snapshot_id)
    programs = installation if isinstance(host, Here) else None
    session = session_name(snapshot_id)
    job = Job(target, remote or target, host, programs, tools_folder, session, jobs, compress, report, cancelled)
    end_orphans(target, session)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder, target)
        with filling(folder / f"{snapshot_id}{SUFFIX}") as partial:
            manifest = _fill(partial, job, at, snapshot_id, launch_id)
            write_manifest(partial, manifest)
            partial.rename(folder / snapshot_id)
            sync_folder(folder)
    except OSError as error:
        raise _no_space(folder, error) from error
    return manifest


def _fill(folder: Path, job: Job, at: Instant | None, snapshot_id: str, launch_id: str | None) -> Manifest:
    began = time.monotonic()
    version = job.host.run(Command((job.program("pg_dump"), "--version"), {"LC_ALL": "C"}), cancelled=job.cancelled)
    job = replace(job, compress=choose_compression(job))
    taken_at = datetime.now(UTC)
    with _held(job.target, at) as (connection, snapshot):
        source = _source(connection, job.target)
        source = source if at is None else replace(source, lsn=at.lsn)
        apart = _clocks_apart(connection)
        behind = _behind(connection)
        before = read_sequences(connection)
        (folder / PROPERTIES).write_text(database_sql(connection), encoding="utf-8")
        write_extensions(connection, folder)
        encoding = connection.info.parameter_status("server_encoding") or "UTF8"
        archive, dump = dump_command(folder, job, connection, snapshot, encoding)
        globals_ = tools.dump_globals(
            unhurried(connection, job.remote),
            encoding=encoding if encoding in _NOT_CONVERTED else "UTF8",
            program=job.program("pg_dumpall"),
            session=job.session,
        )
        run_globals(folder, job, globals_)
        print_, timings = _dump_and_fingerprint(folder, job, snapshot, dump)
        print_ = replace(print_, sequences=before).with_later(read_sequences(connection))
    hashing = time.monotonic()
    files = hash_files(folder, jobs=job.jobs, cancelled=job.cancelled)
    timings |= {"hash": round(time.monotonic() - hashing, 3), "total": round(time.monotonic() - began, 3)}
    said = parse_version(version.stdout)
    return Manifest(
        id=snapshot_id,
        launch_id=launch_id,
        taken_at=taken_at,
        taken_by=person(),
        source=source,
        tool_version=said[1] if said else version.stdout.strip(),
        archive=archive,
        compress=job.compress,
        commands=tools.shown((dump, globals_)),
        files=files,
        seconds=timings,
        notes=(*GENERAL, *unseen(print_), *behind, *_undated(apart)),
        fingerprint=print_,
        dated=apart < _SAME_DAY,
    )


def _behind(connection: Connection) -> tuple[str, ...]:
    """Since when nothing of the primary has come into a standby, where that is not level with it."""
    row = connection.execute(_REPLAYED).fetchone()
    if row is None or (row[0] is not None and row[1] - row[0] < _BEHIND):
        return ()
    since = "nobody knows when" if row[0] is None else f"{row[0]:%Y-%m-%d %H:%M:%S} UTC"
    return (
        "The source is a standby that is not level with its primary (paused, delayed, or cut off?): the last "
        f"transaction in this snapshot was committed at {since}, and what came later is not in it.",
    )


def _clocks_apart(connection: Connection) -> timedelta:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    return timedelta.max if row is None else abs(row[0] - datetime.now(UTC))


def _undated(apart: timedelta) -> tuple[str, ...]:
    """What the manifest says of it; `prune` then lets neither this snapshot go by its age, nor others by it."""
    if apart < _SAME_DAY:
        return ()
    days = f"{apart / timedelta(days=1):.0f} days"
    return (
        f"When this was taken is not sure: this machine's clock and the server's were {days} apart. Set both by NTP.",
    )


def _sweep(folder: Path, target: Target) -> None:
    """Remove what killed dumps left, whatever their ids were; the sessions of their programs are ended first."""
    for path in abandoned(folder):
        end_orphans(target, session_name(path.name.removesuffix(SUFFIX)))
        shutil.rmtree(path, ignore_errors=True)


def _dump_and_fingerprint(folder: Path, job: Job, snapshot: str, dump: Command) -> tuple[Fingerprint, dict[str, float]]:
    """Run both at the same time; when one fails, the other is ended, and the failure is told."""
    stop = threading.Event()
    began = time.monotonic()

    def fingerprint() -> tuple[Fingerprint, float]:
        try:
            found = take(
                job.target,
                snapshot=snapshot,
                jobs=job.jobs,
                report=job.report,
                cancelled=lambda: stop.is_set() or job.cancelled(),
            )
        except BaseException:
            stop.set()
            raise
        return found, time.monotonic() - began

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="snapshot") as pool:
        future = pool.submit(fingerprint)
        try:
            run_dump(folder, job, dump, watched(folder, job, stop))
            dumped = time.monotonic() - began
        except BaseException as error:
            own_failure = stop.is_set() and isinstance(error, Interrupted) and not job.cancelled()
            stop.set()
            if own_failure and (cause := future.exception()) is not None:
                raise cause from None
            raise
        found, seconds = future.result()
    return found, {"dump": round(dumped, 3), "fingerprint": round(seconds, 3)}


@contextmanager
def _held(target: Target, at: Instant | None) -> Iterator[tuple[Connection, str]]:
    """A transaction that keeps an exported snapshot alive while others read through it."""
    try:
        with reading(target, None if at is None else at.snapshot) as connection, _asked_why(connection):
            yield connection, export(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise DatabaseError(
            f"The snapshot of {target} cannot be taken: {' '.join(str(error).split())}",
            subject=str(target),
            remedy=GRANT,
        ) from error
    except psycopg.Error as error:
        raise DatabaseError(
            f"The snapshot of {target} was lost: {' '.join(str(error).split())}",
            subject=str(target),
            remedy=special(str(error))
            or "Does the server still run, and was the session ended by somebody? Then take it again.",
        ) from error


@contextmanager
def _asked_why(connection: Connection) -> Iterator[None]:
    """The session that holds the snapshot may be ended by a standby's conflict with its primary, while it does nothing;
    others only say that the snapshot is not there.
    """
    try:
        yield
    except (DatabaseError, CommandFailed):
        try:
            connection.execute("select")
        except psycopg.Error as error:
            if special(str(error)) is not None:
                raise
        raise


def _source(connection: Connection, target: Target) -> Source:
    row = connection.execute(_SOURCE).fetchone()
    if row is None:
        raise DatabaseError(f"{target} was dropped meanwhile.", subject=str(target))
    name, version, number, owner, superuser, collate, ctype, provider, lsn, size, facts = row
    # PostgreSQL 15 and 16 call it daticulocale, 17 and newer datlocale.
    locale = facts.get("datlocale") or facts.get("daticulocale")
    return Source(
        server=f"{target.host}:{target.port}",
        database=name,
        server_version=version.split()[0],
        server_version_num=number,
        owner=owner,
        bootstrap_superuser=superuser or "postgres",
        collate=collate,
        ctype=ctype,
        provider=provider,
        locale=locale,
        lsn=lsn,
        database_bytes=size,
        icu_rules=facts.get("daticurules"),
    )


def _check_id(folder: Path, snapshot_id: str) -> None:
    if not _ID.fullmatch(snapshot_id) or snapshot_id.endswith(".partial"):
        raise Refused(f"{snapshot_id!r} cannot be the id of a snapshot.", subject=snapshot_id)
    if (folder / snapshot_id).exists():
        whole = (folder / snapshot_id / NAME).exists()
        raise Refused(
            f"There is a snapshot {snapshot_id} already; it is not overwritten.",
            subject=str(folder / snapshot_id),
            found="a complete snapshot" if whole else "a folder that is no snapshot",
            remedy="Take this one under another id.",
        )


def _no_space(folder: Path, error: OSError) -> DatabaseError:
    return DatabaseError(
        f"The snapshot could not be written to {folder}: {error.strerror or error}. Nothing of it was kept.",
        subject=str(folder),
        remedy="Is there room on that disk, and may we write there? The folder is below launch.state in the plan file.",
    )
