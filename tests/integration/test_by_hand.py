"""docs/restore-without-safepoint.md on servers whose settings are made for pages, not for restores."""

from __future__ import annotations

import subprocess
from pathlib import Path

from awkward import run, snap
from postgres_servers import Servers

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

# One job has nothing to do while the other loads the rows, and is needed for the indexes afterwards.
SLOW = (
    "create function slow(int) returns bool language sql immutable as 'select pg_sleep($1) is not null'",
    "create domain slowly as int check (slow(value))",
    "create table slow (i slowly)",
    "insert into slow values (2)",
    "create index on slow (i)",
    "create index on slow ((i::int + 1))",
    "create table quick as select 1 as one",
)


def restore_commands() -> str:
    page = (Path(__file__).parents[2] / "docs" / "restore-without-safepoint.md").read_text(encoding="utf-8")
    return page.split("```sh\n")[-1].split("```")[0]


def test_sessions_that_wait_for_each_other_are_not_ended(database: Target, servers: Servers, tmp_path: Path) -> None:
    run(database, *SLOW)
    folder = snap(database, servers(17), tmp_path / "snapshots")
    settings = {"idle_session_timeout": "300ms"}
    with Server.create(tmp_path / "pg", servers(17).installation, password="elsewhere", settings=settings) as server:
        env = {
            "PATH": f"{server.installation.bin_dir}:/usr/bin:/bin",
            **server.target.env(),
            **server.target.secrets(),
            "DATABASE": database.dbname,
            "OWNER": "postgres",
        }
        script = f"set -eu\n{restore_commands()}"
        done = subprocess.run(
            ["sh", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert compare(read_manifest(folder).fingerprint, take(server.target.on(database.dbname))) == ()
