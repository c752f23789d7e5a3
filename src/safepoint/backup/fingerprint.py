"""Taking a database's fingerprint, at one snapshot, over several connections."""

from __future__ import annotations

import psycopg

from safepoint.backup.contents import (
    NOTHING,
    Hashed,
    hash_large_objects,
    hash_tables,
    reading,
    unlocking,
)
from safepoint.backup.hindrances import GRANT, ended, special
from safepoint.backup.ownership import read_ownership, read_roles
from safepoint.backup.prints import FORMAT, Difference, Fingerprint, TablePrint, compare
from safepoint.backup.sequence_prints import SequencePrint
from safepoint.backup.sequences import read_sequences
from safepoint.backup.structure import read_extensions, read_settings, read_structure
from safepoint.backup.undumped import KIND as UNDUMPED
from safepoint.backup.undumped import read as read_undumped
from safepoint.errors import DatabaseError
from safepoint.postgres.connections import Connection, cancellable
from safepoint.postgres.rows import Ordering, as_they_are
from safepoint.postgres.target import Target
from safepoint.progress import Cancelled, Report, never, silent

__all__ = ["Difference", "Fingerprint", "SequencePrint", "TablePrint", "compare", "definitions", "take"]


def take(
    target: Target,
    *,
    snapshot: str | None = None,
    jobs: int = 2,
    report: Report = silent,
    cancelled: Cancelled = never,
    version: int = FORMAT,
    ordering: Ordering = as_they_are,
    hashed: Hashed = NOTHING,
) -> Fingerprint:
    """Fingerprint a database.

    Args:
        snapshot: an exported snapshot (`pg_export_snapshot`) to look through; None takes one of its own.
        jobs: how many connections hash tables at the same time; one more reads the catalogue.
        version: the format, which must be that of the fingerprint that it is compared with.
        ordering: of each table's columns; another one than their own gives a fingerprint that is for one comparison.
        hashed: parts of tables that were hashed in that format before (see `ahead`).

    Raises:
        DatabaseError: something cannot be read by this login, or was dropped meanwhile.
        Interrupted: `cancelled` became true.
    """
    try:
        with reading(target, snapshot) as connection, cancellable(connection, cancelled):
            shared = snapshot or export(connection)
            sequences = read_sequences(connection)
            # Before the rows, which may take hours: what `pg_get_functiondef` and its like say is of the present, and
            # not of the snapshot. The time that these take is left.
            structure = _structure(connection, version)
            ownership, roles = read_ownership(connection, version), read_roles(connection, version)
            extensions, settings = read_extensions(connection), read_settings(connection, version)
            tables = hash_tables(
                target,
                connection,
                shared,
                jobs=jobs,
                report=report,
                cancelled=cancelled,
                version=version,
                ordering=ordering,
                hashed=hashed,
            )
            return Fingerprint(
                server_version_num=connection.info.server_version,
                encoding=connection.info.parameter_status("server_encoding") or "",
                tables=tables,
                sequences=sequences,
                large_objects=hash_large_objects(connection),
                structure=structure,
                ownership=ownership,
                extensions=extensions,
                settings=settings,
                roles=roles,
                format=version,
            )
    except psycopg.Error as error:
        raise _not_taken(target, error) from error


def _structure(connection: Connection, version: int) -> dict[str, dict[str, str]]:
    """The definitions, those that are in no dump too, without a lock left on what they are of."""
    with unlocking(connection):
        structure = read_structure(connection, version)
        if version > 3 and (undumped := read_undumped(connection, version)):
            structure[UNDUMPED] = undumped
    return structure


def _not_taken(target: Target, error: psycopg.Error) -> DatabaseError:
    hidden = isinstance(error, psycopg.errors.InsufficientPrivilege)
    return DatabaseError(
        f"The fingerprint of {target} could not be taken: {' '.join(str(error).split())}",
        subject=str(target),
        remedy=special(str(error))
        or (GRANT if hidden else ended(str(error)) or "Does the server still run? Then try again."),
    )


def definitions(target: Target) -> Fingerprint:
    """What a database is made of, without its rows, sequences' states and settings: for two that hold the same rows.

    Raises:
        DatabaseError: something cannot be read by this login.
    """
    try:
        with reading(target) as connection:
            return Fingerprint(
                server_version_num=connection.info.server_version,
                encoding=connection.info.parameter_status("server_encoding") or "",
                tables={},
                sequences={},
                large_objects=hash_large_objects(connection),
                structure=read_structure(connection),
                ownership=read_ownership(connection),
                extensions=read_extensions(connection),
                settings={},
                roles={},
            )
    except psycopg.Error as error:
        raise DatabaseError(
            f"The definitions of {target} could not be read: {' '.join(str(error).split())}", subject=str(target)
        ) from error


def export(connection: Connection) -> str:
    """Export the snapshot of the connection's transaction; others may use it until that transaction ends."""
    row = connection.execute("select pg_export_snapshot()").fetchone()
    return str(row[0]) if row else ""
