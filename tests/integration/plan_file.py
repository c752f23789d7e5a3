"""The smallest plan file for a database of the tests; its state and its stores are below one folder."""

from __future__ import annotations

from pathlib import Path

from safepoint.config import PlanFile, load
from safepoint.postgres.target import Target

PASSWORD_ENV = "SAFEPOINT_TESTS_PASSWORD"

TEXT = """
[launch]
application = "shop"
date = 2026-03-01

[database]
name = "{name}"
host = "{host}"
port = {port}
user = "{user}"
password_env = "SAFEPOINT_TESTS_PASSWORD"
application_roles = ["shop"]

[releases.old]
version = "1.0"
directory = "."
manage = ["python", "manage.py"]
start = ["true"]
stop = ["true"]
upstream = "127.0.0.1:1"

[releases.new]
version = "2.0"
directory = "."
manage = ["python", "manage.py"]
start = ["true"]
stop = ["true"]
upstream = "127.0.0.1:2"

[router]
kind = "command"
url = "http://127.0.0.1:3"
close = ["true"]
open_old = ["true"]
open_new = ["true"]

[snapshot]
jobs = 2
{snapshot}

{stores}
"""

LOCAL = """
[[stores]]
name = "offsite"
url = "file:offsite"
"""


def plan_file(folder: Path, target: Target, *, snapshot: str = "", stores: str = LOCAL) -> PlanFile:
    """Write the plan file for a database into a folder, and load it."""
    path = folder / "launch.toml"
    path.write_text(
        TEXT.format(
            name=target.dbname, host=target.host, port=target.port, user=target.user, snapshot=snapshot, stores=stores
        ),
        encoding="utf-8",
    )
    return load(path)
