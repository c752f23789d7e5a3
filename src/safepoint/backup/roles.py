"""The roles that a restored database needs, on a server that has roles of its own: those that are missing are made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from safepoint.backup import unshown
from safepoint.backup.dumping import GLOBALS
from safepoint.backup.manifest import Manifest
from safepoint.backup.statements import for_roles, quoted
from safepoint.postgres.connections import Connection


def make_missing(
    connection: Connection, folder: Path, manifest: Manifest, listing: Callable[[], str]
) -> tuple[list[str], list[str]]:
    """Make them as they were, without passwords; their names, and what of them was refused. Others stay as they are.

    The first superuser of the source, whose name servers do not agree about, is made only where something of the
    snapshot is its own or was granted to it; and without a login, for nobody wants a second one.

    Args:
        listing: gives the archive's table of contents, where that has to be looked at.
    """
    there = {row[0] for row in connection.execute("select rolname::text from pg_roles")}
    needed = set(manifest.fingerprint.roles) | {manifest.source.owner}
    first = manifest.source.bootstrap_superuser
    if first not in there and is_named(first, manifest, listing()):
        needed.add(first)
    missing, notes = sorted(needed - there), []
    # Of former versions it may be in another encoding.
    script = (folder / GLOBALS).read_text(encoding="utf-8", errors="replace")
    with connection.transaction():
        for statement in for_roles(script, missing):
            try:
                with connection.transaction():
                    connection.execute(statement.encode())
            except psycopg.Error as error:
                if statement.startswith("CREATE"):
                    raise
                notes.append(f"{unshown.statement(statement)}: {error.diag.message_primary}")
        if first in missing:
            connection.execute(sql.SQL("alter role {} nologin").format(sql.Identifier(first)))
            notes.append(f"role {first}, the source's first superuser, is needed here and was made without a login")
    return missing, notes


def is_named(role: str, manifest: Manifest, listing: str) -> bool:
    """Whether a role owns something in the archive, whose lines end with the owner, or was granted something. Pure."""
    owns = any(line.endswith(f" {role}") for line in listing.splitlines() if not line.startswith(";"))
    grants = "; ".join(("", *manifest.fingerprint.ownership.values()))
    return owns or any(f" {name}=" in grants for name in (role, quoted(role)))
