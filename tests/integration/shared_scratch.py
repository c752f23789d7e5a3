"""A scratch server that others use as well, and snapshots to be proven there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from awkward import AWKWARD, DATABASE, OWNERS, run, snap
from postgres_servers import SETTINGS

from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import SCRATCH, Server
from safepoint.postgres.target import Target

SECTION = """
[scratch]
host = "127.0.0.1"
port = {port}
user = "postgres"
password_env = "{env}"
"""
ENV = "SAFEPOINT_TESTS_SCRATCH_PASSWORD"
OTHERS = """
    select d.datname, r.rolname, shobj_description(d.oid, 'pg_database'), d.datacl::text from pg_database d
    join pg_roles r on r.oid = d.datdba
    union all
    select r.rolname, r.rolpassword, shobj_description(r.oid, 'pg_authid'), r::text || coalesce(s.setconfig::text, '')
    from pg_authid r left join pg_db_role_setting s on s.setrole = r.oid and s.setdatabase = 0
    order by 1, 2
"""


@contextmanager
def shared_scratch() -> Iterator[Server]:
    """A second PostgreSQL 17, which others use as well: it has databases and roles of its own."""
    with other_cluster(password="only-there", settings={**SETTINGS, "shared_buffers": "32MB"}) as server:
        run(server.target, "create role somebody login password 'x'", "create database theirs owner somebody")
        yield server


@contextmanager
def other_cluster(**words: Any) -> Iterator[Server]:
    """A PostgreSQL 17 of its own, whose folder goes with it; `words` are those of `Server.create`."""
    parent = Path(tempfile.mkdtemp(prefix="safepoint-tests-other-"))
    parent.chmod(0o711)
    try:
        with Server.create(parent / "pg", installation(17), purpose=SCRATCH, **words) as server:
            yield server
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def everything(server: Server) -> list[tuple[object, ...]]:
    """All databases and roles of a server, with what is said and set of them."""
    with connect(server.target) as connection:
        return connection.execute(OTHERS.encode()).fetchall()


@contextmanager
def odd_snapshot(database: Target, server: Server, folder: Path) -> Iterator[Path]:
    """A snapshot with everything odd in it, of roles and grants, too."""
    try:
        run(database, AWKWARD, OWNERS, *(statement.format(db=database.dbname) for statement in DATABASE))
        yield snap(database, server, folder)
    finally:
        name = database.dbname
        run(database.on("postgres"), f"alter database {name} owner to postgres", f"drop database {name} with (force)")
        for role in ("awkward_owner", "awkward_group", "awkward_app"):
            run(database.on("postgres"), f"drop owned by {role}", f"drop role {role}")
