"""Taking a snapshot: dump, globals and fingerprint of one and the same instant, and a manifest when all is there."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from safepoint.backup.contents import read_sequences, reading
from safepoint.backup.fingerprint import export, take
from safepoint.backup.hindrances import GRANT, special
from safepoint.backup.manifest import NAME, Manifest, Source, hash_files, sync_folder, write_manifest
from safepoint.backup.partial import SUFFIX, abandoned, filling
from safepoint.backup.prints import Fingerprint, unseen
from safepoint.backup.properties import NAME as PROPERTIES
from safepoint.backup.properties import database_sql
from safepoint.errors import CommandFailed, DatabaseError, Interrupted, Refused
from safepoint.hosts.command import Command, Host
from safepoint.hosts.here import Here
from safepoint.postgres import tools
from safepoint.postgres.binaries import Installation, parse_version
from safepoint.postgres.connections import Connection, connect, unhurried
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Progress, Report, never, silent

GLOBALS = "globals.sql"
_DIRECTORY, _STREAM = "archive", "archive.dump"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")
_NOT_CONVERTED = ("SQL_ASCII", "MULE_INTERNAL")  # there is no conversion to UTF-8
_REPORT_SECONDS = 0.5
_ORPHAN_SECONDS = 10.0

_NOTES = (
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


# What a dump that was begun and not ended has open in the server, wherever its program runs.
_END_ORPHANS = """
    select count(pg_terminate_backend(pid)) from pg_stat_activity
    where application_name = %s and pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class Instant:
    """An exported snapshot of the source, which somebody holds until the dump has begun, and its LSN."""

    lsn: str
    snapshot: str


@dataclass(frozen=True)
class _Job:
    """What a snapshot is to be, passed down as one value."""

    target: Target
    remote: Target
    host: Host
    programs: Installation | None
    tools: Path | None
    session: str
    jobs: int
    compress: str
    report: Report
    cancelled: Cancelled
    at: Instant | None

    def program(self, name: str) -> str:
        """A program of PostgreSQL on the host: by path here; elsewhere by the named folder, or by PATH."""
        if self.programs is not None:
            return self.programs.program(name)
        return name if self.tools is None else str(self.tools / name)


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
    job = _Job(target, remote or target, host, programs, tools_folder, session, jobs, compress, report, cancelled, at)
    _end_orphans(target, session)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder, target)
        with filling(folder / f"{snapshot_id}{SUFFIX}") as partial:
            manifest = _fill(partial, job, snapshot_id, launch_id)
            write_manifest(partial, manifest)
            partial.rename(folder / snapshot_id)
            sync_folder(folder)
    except OSError as error:
        raise _no_space(folder, error) from error
    return manifest


def _fill(folder: Path, job: _Job, snapshot_id: str, launch_id: str | None) -> Manifest:
    began = time.monotonic()
    version = job.host.run(Command((job.program("pg_dump"), "--version"), {"LC_ALL": "C"}), cancelled=job.cancelled)
    job = replace(job, compress=choose_compression(job))
    taken_at = datetime.now(UTC)
    with _held(job.target, job.at) as (connection, snapshot):
        source = _source(connection, job.target)
        source = source if job.at is None else replace(source, lsn=job.at.lsn)
        before = read_sequences(connection)
        (folder / PROPERTIES).write_text(database_sql(connection), encoding="utf-8")
        encoding = connection.info.parameter_status("server_encoding") or "UTF8"
        archive, dump = _dump_command(folder, job, connection, snapshot, encoding)
        globals_ = tools.dump_globals(
            unhurried(connection, job.remote),
            encoding=encoding if encoding in _NOT_CONVERTED else "UTF8",
            program=job.program("pg_dumpall"),
            session=job.session,
        )
        _dump_globals(folder, job, globals_)
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
        taken_by=f"{getpass.getuser()}@{socket.gethostname()}",
        source=source,
        tool_version=said[1] if said else version.stdout.strip(),
        archive=archive,
        compress=job.compress,
        commands=tools.shown((dump, globals_)),
        files=files,
        seconds=timings,
        notes=(*_NOTES, *unseen(print_)),
        fingerprint=print_,
    )


def choose_compression(job: _Job) -> str:
    """Ask the host's `pg_dump` which of the candidates it was built with."""

    def works(method: str) -> bool:
        probe = tools.probe_compression(method, program=job.program("pg_dump"))
        return tools.accepts(job.host.run(probe, check=False, timeout=30, cancelled=job.cancelled).stderr)

    return tools.choose_compression(job.compress, works)


def _dump_command(folder: Path, job: _Job, connection: Connection, snapshot: str, encoding: str) -> tuple[str, Command]:
    if job.programs is not None:
        path = folder.resolve() / _DIRECTORY
        return _DIRECTORY, tools.dump_directory(
            unhurried(connection, job.target),
            str(path),
            snapshot=snapshot,
            jobs=job.jobs,
            compress=job.compress,
            encoding=encoding,
            program=job.program("pg_dump"),
            session=job.session,
        )
    return _STREAM, tools.dump_stream(
        unhurried(connection, job.remote),
        snapshot=snapshot,
        compress=job.compress,
        encoding=encoding,
        program=job.program("pg_dump"),
        session=job.session,
    )


def session_name(snapshot_id: str) -> str:
    """The name of a dump's sessions in the server, different for different snapshots. At most 63 bytes. Pure."""
    name = f"safepoint dump {snapshot_id}"
    if len(name) <= 63:
        return name
    return f"{name[:46]}~{hashlib.sha256(snapshot_id.encode()).hexdigest()[:16]}"


def _sweep(folder: Path, target: Target) -> None:
    """Remove what killed dumps left, whatever their ids were; the sessions of their programs are ended first."""
    for path in abandoned(folder):
        _end_orphans(target, session_name(path.name.removesuffix(SUFFIX)))
        shutil.rmtree(path, ignore_errors=True)


def _end_orphans(target: Target, session: str) -> None:
    """End what is left of a dump of the same name, whose conductor was killed: it would write into our folder.

    At the server, because this works wherever the program runs; without its sessions it ends by itself.
    """
    deadline = time.monotonic() + _ORPHAN_SECONDS
    with connect(target) as connection:
        while connection.execute(_END_ORPHANS, (session,)).fetchone() != (0,):
            if time.monotonic() > deadline:
                raise DatabaseError(
                    "A dump of this snapshot that a killed conductor began does not end.",
                    subject=session,
                    expected=f"no session named so within {_ORPHAN_SECONDS:g} s",
                    remedy="End these sessions of pg_dump where they run, then take the snapshot again.",
                )
            time.sleep(0.1)


def _dump_and_fingerprint(
    folder: Path, job: _Job, snapshot: str, dump: Command
) -> tuple[Fingerprint, dict[str, float]]:
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
            _run_dump(folder, job, dump, _watched(folder, job, stop))
            dumped = time.monotonic() - began
        except BaseException as error:
            own_failure = stop.is_set() and isinstance(error, Interrupted) and not job.cancelled()
            stop.set()
            if own_failure and (cause := future.exception()) is not None:
                raise cause from None
            raise
        found, seconds = future.result()
    return found, {"dump": round(dumped, 3), "fingerprint": round(seconds, 3)}


def _run_dump(folder: Path, job: _Job, dump: Command, cancelled: Callable[[], bool]) -> None:
    try:
        if job.programs is not None:
            job.host.run(dump, cancelled=cancelled)
        else:
            _stream_to(folder / _STREAM, job.host, dump, cancelled)
    except CommandFailed as error:
        raise dump_error(error, job.target) from error


def _dump_globals(folder: Path, job: _Job, globals_: Command) -> None:
    """The roles, before all else: `pg_dumpall` takes no exported snapshot, and a dump of hours leaves them to change.

    What is left is the time from the snapshot until it has read them, a second or so; more where a snapshot was
    exported for something else before. A role that changes just then makes a difference in the proof.
    """
    try:
        _stream_to(folder / GLOBALS, job.host, globals_, job.cancelled)
    except CommandFailed as error:
        raise dump_error(error, job.target) from error


def _stream_to(path: Path, host: Host, command: Command, cancelled: Callable[[], bool]) -> None:
    with path.open("wb") as file:
        host.stream(command, stdout=file, cancelled=cancelled)
        file.flush()
        os.fsync(file.fileno())
    if path.stat().st_size == 0:
        raise CommandFailed(
            f"{Path(command.argv[0]).name} ended without an error, but wrote nothing.",
            subject=command.shown(),
            remedy="Try the command by hand on that host.",
        )


def _watched(folder: Path, job: _Job, stop: threading.Event) -> Callable[[], bool]:
    """What a running dump asks all the time: whether to stop. It also tells how many bytes are written so far."""
    last = time.monotonic()

    def asked() -> bool:
        nonlocal last
        if time.monotonic() - last > _REPORT_SECONDS:
            last = time.monotonic()
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            job.report(Progress("dump", size, None, "bytes"))
        return stop.is_set() or job.cancelled()

    return asked


@contextmanager
def _held(target: Target, at: Instant | None) -> Iterator[tuple[Connection, str]]:
    """A transaction that keeps an exported snapshot alive while others read through it."""
    try:
        with reading(target, None if at is None else at.snapshot) as connection:
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


def dump_error(error: CommandFailed, target: Target) -> CommandFailed:
    """The same failure with the remedy for what pg_dump said. Pure."""
    said = f"{error.message} {error.found or ''}"
    remedies = (
        ("server version mismatch", "Set database.tools to the programs of the server's version, or a newer one."),
        ("No space left", "Make room in Safepoint's state folder; nothing of the dump was kept."),
        ("ended by SIGKILL", "Did that machine's memory run out (its system log says so)? Then take it again."),
        *(
            (sign, "Connections are used up: end idle sessions or raise max_connections; or lower snapshot.jobs.")
            for sign in ("too many clients", "remaining connection slots", "too many connections")
        ),
        ("password authentication failed", f"Check the password of role {target.user!r}."),
        (
            "pg_dumpall: error: could not connect to database",
            "It does not say why. Are connections used up (end idle sessions), or may the role not connect there?",
        ),
        ("permission denied", f"Let role {target.user!r} read all tables: GRANT pg_read_all_data, or a superuser."),
        ("lock timeout", "Somebody holds an exclusive lock on a table (a migration?): wait for it, then try again."),
        (
            "out of shared memory",
            "pg_dump locks every table and sequence at once: raise max_locks_per_transaction on the server (a restart) "
            "until that times max_connections is well above their number, then try again.",
        ),
        # Before what depends on the query that was under way: this may come at any of them.
        *(
            (sign, "Was the database dropped, or the server stopped? Look into its log, then take the snapshot again.")
            for sign in ("terminating connection", "closed the connection unexpectedly")
        ),
        ("SET TRANSACTION SNAPSHOT", "The session that held the snapshot was ended: by whom? Then take it again."),
        ("during recovery", "A standby has no unlogged tables: take the snapshot from the primary."),
        ("does not exist", "A table or the database was dropped while the dump began: take the snapshot again."),
    )
    remedy = special(said) or next((text for sign, text in remedies if sign in said), error.remedy)
    return CommandFailed(
        f"The dump of {target} failed; nothing of it was kept. {error.message}",
        subject=error.subject,
        expected=error.expected,
        found=error.found,
        remedy=remedy or "Take the snapshot again.",
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
