"""Another PostgreSQL server for a stage's twin or copies, as its operations people would have prepared it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from stage import SETTINGS, Stage

from safepoint.postgres.binaries import installation
from safepoint.postgres.servers import Server

PASSWORD = "another-server"


@contextmanager
def other_server(folder: Path) -> Iterator[Server]:
    """A server that is up, and gone afterwards; nobody has prepared it yet."""
    server = Server.create(folder, installation(17), password=PASSWORD, settings=SETTINGS, purpose="demo")
    try:
        yield server.start()
    finally:
        server.remove()


def prepare(stage: Stage, server: Server) -> None:
    """The application's role, with the password that it has; and the conductor's own password."""
    url = urlsplit(stage.environment["DATABASE_URL"])
    with psycopg.connect(**server.target.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
        role, words = sql.Identifier(str(url.username)), sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        connection.execute(words.format(role, sql.Literal(url.password)))
    stage.environment["FAR_PASSWORD"] = PASSWORD


def section(server: Server, table: str = "wayback.server") -> str:
    """What a plan file says of it, as the server of its twin or another one."""
    login = f'host = "127.0.0.1"\nport = {server.port}\nuser = "postgres"\npassword_env = "FAR_PASSWORD"'
    return f"\n[{table}]\n{login}\n"
