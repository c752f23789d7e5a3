"""Running pg_dump and pg_dumpall on a host: what they are told, their sessions in the server, what a failure means."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safepoint.backup.hindrances import special
from safepoint.errors import CommandFailed, DatabaseError
from safepoint.hosts.command import Command, Host
from safepoint.postgres import tools
from safepoint.postgres.binaries import Installation
from safepoint.postgres.connections import Connection, connect, unhurried
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Progress, Report

GLOBALS = "globals.sql"
_DIRECTORY, _STREAM = "archive", "archive.dump"
_REPORT_SECONDS = 0.5
_ORPHAN_SECONDS = 10.0

# What a dump that was begun and not ended has open in the server, wherever its program runs.
_END_ORPHANS = """
    select count(pg_terminate_backend(pid)) from pg_stat_activity
    where application_name = %s and pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class Job:
    """What is dumped, where, and how; passed down as one value."""

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

    def program(self, name: str) -> str:
        """A program of PostgreSQL on the host: by path here; elsewhere by the named folder, or by PATH."""
        if self.programs is not None:
            return self.programs.program(name)
        return name if self.tools is None else str(self.tools / name)


def choose_compression(job: Job) -> str:
    """Ask the host's `pg_dump` which of the candidates it was built with."""

    def works(method: str) -> bool:
        probe = tools.probe_compression(method, program=job.program("pg_dump"))
        return tools.accepts(job.host.run(probe, check=False, timeout=30, cancelled=job.cancelled).stderr)

    return tools.choose_compression(job.compress, works)


def dump_command(folder: Path, job: Job, connection: Connection, snapshot: str, encoding: str) -> tuple[str, Command]:
    """The name of the archive, and what writes it: a folder here, one stream from other hosts."""
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


def end_orphans(target: Target, session: str) -> None:
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


def run_dump(folder: Path, job: Job, dump: Command, cancelled: Callable[[], bool]) -> None:
    """Run the dump to its end.

    Raises:
        CommandFailed: it failed; with what to do about it.
        Interrupted: `cancelled` became true.
    """
    try:
        if job.programs is not None:
            job.host.run(dump, cancelled=cancelled)
        else:
            _stream_to(folder / _STREAM, job.host, dump, cancelled)
    except CommandFailed as error:
        raise dump_error(error, job.target) from error


def run_globals(folder: Path, job: Job, globals_: Command) -> None:
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


def watched(folder: Path, job: Job, stop: threading.Event) -> Callable[[], bool]:
    """What a running dump asks all the time: whether to stop. It also tells how many bytes are written so far."""
    last, pause = time.monotonic(), _REPORT_SECONDS

    def asked() -> bool:
        nonlocal last, pause
        if (began := time.monotonic()) - last > pause:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            job.report(Progress("dump", size, None, "bytes"))
            last = time.monotonic()
            pause = max(_REPORT_SECONDS, 20 * (last - began))  # of each large object there is a file
        return stop.is_set() or job.cancelled()

    return asked


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
        # Before what depends on the query that was under way: this may come at any of them. The database's own encoding
        # is refused where the session in which it is set is gone.
        *(
            (sign, "Was the database dropped, or the server stopped? Look into its log, then take the snapshot again.")
            for sign in ("terminating connection", "closed the connection unexpectedly", "invalid client encoding")
        ),
        ("SET TRANSACTION SNAPSHOT", "The session that held the snapshot was ended: by whom? Then take it again."),
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
