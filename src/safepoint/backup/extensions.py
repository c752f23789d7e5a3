"""Extensions of ordinary roles: they stay theirs in a copy.

A trusted extension belongs to whoever made it, as Django's migrations do (`TrigramExtension`, `HStoreExtension`), and
only its owner may drop or update it. No dump says whose it is: whoever restores would get it, and PostgreSQL has no
command that gives it away. So it is made by its owner before the archive is restored, whose CREATE EXTENSION IF NOT
EXISTS then finds it (https://www.postgresql.org/docs/current/sql-createextension.html).
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg

from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.target import Target

NAME: Final = "extensions.sql"
"""In a snapshot's folder, where there are any."""

# A schema of the application's own is made by the archive only: what is in one goes to whoever restores.
_OWNED = """
    select format('SET ROLE %I; CREATE EXTENSION IF NOT EXISTS %I WITH SCHEMA %I; RESET ROLE;',
                  r.rolname, e.extname, n.nspname)
    from pg_extension e join pg_roles r on r.oid = e.extowner join pg_namespace n on n.oid = e.extnamespace
    where not r.rolsuper and n.nspname in ('public', 'pg_catalog') order by e.oid
"""
# It comes from a store: nothing else in it is run.
_IDENTIFIER = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"\n]|"")+")'
_STATEMENT = re.compile(
    rf"SET ROLE {_IDENTIFIER}; CREATE EXTENSION IF NOT EXISTS {_IDENTIFIER} WITH SCHEMA {_IDENTIFIER}; RESET ROLE;"
)


def write_extensions(connection: Connection, folder: Path) -> None:
    """Write down whose extensions are whose, for a database whose archive comes into that folder."""
    statements = [statement for (statement,) in connection.execute(_OWNED)]
    if statements:
        (folder / NAME).write_text("\n".join([*statements, ""]), encoding="utf-8")


def make_extensions(target: Target, folder: Path) -> None:
    """Make them in a database that was made just now. One that its owner may not make there is left to the archive."""
    path = folder / NAME
    if not path.exists():
        return
    with connect(target) as connection:
        for line in path.read_text(encoding="utf-8").splitlines():
            if _STATEMENT.fullmatch(line):
                with suppress(psycopg.Error):
                    connection.execute(line.encode())
