"""The commands that dump and restore: words and environment, built purely. Hosts run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from safepoint.hosts.command import Command
from safepoint.postgres.target import Target

# Waiting for ever behind somebody's ACCESS EXCLUSIVE lock would be a dump that never says why.
_LOCK_WAIT = "--lock-wait-timeout=60s"
# A role's own settings must not get in the way of a restore (they come before a database's and a role's).
DUMP_OPTIONS: Final = "-c lc_monetary=C"
"""Money is written as `lc_monetary` says, which another server may not have. Who restores what was dumped with it needs
it, too; archives of before have money as their source wrote it."""

_RESTORE_OPTIONS = (
    "-c array_nulls=on -c default_transaction_read_only=off -c client_min_messages=warning -c row_security=off"
)
# For superusers alone; nobody else's sessions could have another one.
_POWERFUL = "-c session_replication_role=origin"
# `pg_dumpall` sets none of them, and the others only some, behind their first queries.
_UNCUT = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0"
_SESSION = "safepoint"
_FALLBACKS = ("zstd:1", "lz4", "gzip:1")


def dump_directory(
    target: Target,
    folder: str,
    *,
    snapshot: str,
    jobs: int,
    compress: str,
    encoding: str,
    program: str = "pg_dump",
    session: str = _SESSION,
) -> Command:
    """`pg_dump` in the directory format, in parallel, at an exported snapshot; its sessions bear the name `session`.

    Args:
        encoding: the database's own, in which it is written whatever its settings say.
    """
    return _client(
        target,
        program,
        "--format=directory",
        f"--jobs={jobs}",
        f"--file={folder}",
        f"--encoding={encoding}",
        f"--compress={compress}",
        f"--snapshot={snapshot}",
        _LOCK_WAIT,
        "--no-password",
        options=DUMP_OPTIONS,
        session=session,
    )


def dump_stream(
    target: Target, *, snapshot: str, compress: str, encoding: str, program: str = "pg_dump", session: str = _SESSION
) -> Command:
    """`pg_dump` in the custom format to its standard output: for hosts that only a stream leaves."""
    return _client(
        target,
        program,
        "--format=custom",
        f"--encoding={encoding}",
        f"--compress={compress}",
        f"--snapshot={snapshot}",
        _LOCK_WAIT,
        "--no-password",
        options=DUMP_OPTIONS,
        session=session,
    )


def dump_globals(target: Target, *, encoding: str, program: str = "pg_dumpall", session: str = _SESSION) -> Command:
    """Roles with their attributes, memberships and settings, as SQL to standard output, in that encoding.

    Never password hashes: they would lie in a file in the clear, and need a superuser to be read. Tablespaces are
    left out as well: they name folders of the source's machine.
    """
    return _client(
        target,
        program,
        "--globals-only",
        "--no-role-passwords",
        "--no-tablespaces",
        f"--encoding={encoding}",
        f"--database={_database(target.dbname)}",
        "--no-password",
        session=session,
    )


def restore(
    target: Target,
    archive: Path,
    *,
    jobs: int,
    program: str = "pg_restore",
    list_file: Path | None = None,
    ends: bool = True,
    dumped_with: str = "",
    superuser: bool = True,
) -> Command:
    """`pg_restore` of an archive into the (empty) database of `target`.

    Tablespaces are the scratch server's own; a restored subscription would call its publisher, so none is made.

    Args:
        ends: the first error ends it; else its output has to be looked at: see `only_unknown_settings`.
        dumped_with: the settings that the archive was dumped with, by which its text is read.
        superuser: whether the login is one.
    """
    options = (_RESTORE_OPTIONS, _POWERFUL if superuser else "", dumped_with)
    words = [*(["--exit-on-error"] if ends else []), *([f"--use-list={list_file}"] if list_file is not None else [])]
    return _client(
        target,
        program,
        f"--dbname={_database(target.dbname)}",
        f"--jobs={jobs}",
        "--no-tablespaces",
        "--no-subscriptions",
        "--no-password",
        *words,
        str(archive),
        options=" ".join(filter(None, options)),
    )


SETS_TRANSACTION_TIMEOUT: Final = 17
"""`pg_restore` of this major version and newer sets what no older server knows, in every session, and goes on."""


def only_unknown_settings(stderr: str) -> bool:
    """Whether nothing but that went wrong in a `pg_restore` that was not ended by its first error. Pure."""
    errors = [line for line in stderr.splitlines() if "error:" in line or "FATAL" in line]
    known = 'could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"'
    return bool(errors) and all(known in line for line in errors) and "errors ignored on restore" in stderr


def list_archive(archive: Path, *, program: str = "pg_restore") -> Command:
    """The table of contents of an archive; it needs no server."""
    return Command((program, "--list", str(archive)), {"LC_ALL": "C"})


def compression_candidates(wanted: str) -> tuple[str, ...]:
    """What to try in turn, the wanted one first; the last (a bare gzip level) works in every build with zlib. Pure."""
    rest = [fallback for fallback in _FALLBACKS if fallback.split(":")[0] != wanted.split(":")[0]]
    return (wanted, *rest, "1", "0")


def choose_compression(wanted: str, works: Callable[[str], bool]) -> str:
    """The first candidate that this build of `pg_dump` accepts; `works` asks it."""
    return next((method for method in compression_candidates(wanted) if works(method)), "0")


def probe_compression(method: str, *, program: str = "pg_dump") -> Command:
    """A `pg_dump` that cannot connect: what it says tells whether it takes the compression (see `accepts`)."""
    env = {"PGHOST": "/nonexistent", "PGCONNECT_TIMEOUT": "1", "LC_ALL": "C"}
    return Command((program, "--format=custom", f"--compress={method}", "--file=/dev/null", "--no-password"), env)


def accepts(stderr: str) -> bool:
    """Whether a probe got as far as trying to connect. Pure."""
    return "connection to server" in stderr or "could not connect" in stderr


def _database(name: str) -> str:
    """A database's name as an argument, where what looks like a connection string is taken for one. Pure."""
    if "=" not in name and not name.startswith(("postgresql://", "postgres://")):
        return name
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}'"


def _client(target: Target, program: str, *words: str, options: str = "", session: str = _SESSION) -> Command:
    set_ = " ".join(word for word in (_UNCUT, options, target.options) if word)
    env = {**target.env(), "PGAPPNAME": session, "LC_ALL": "C", "PGOPTIONS": set_}
    return Command((program, *words), env, target.secrets())


def shown(commands: Sequence[Command]) -> tuple[str, ...]:
    """Commands as a person would type them, for plans and manifests."""
    return tuple(command.shown() for command in commands)
