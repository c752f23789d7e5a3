"""A shop that is ready for its launch: a running site, its database and plan files, and what a doctor finds there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django_site import manage_of, running, site_database, write_site
from loaded_django import python
from psycopg import sql

from safepoint.config import PlanFile
from safepoint.config.load import parse
from safepoint.launch.doctor import database as doctor_database
from safepoint.launch.doctor.finding import Finding, guarded
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

NOW = datetime(2026, 2, 20, 12, 0, tzinfo=UTC)


PLAN = """
[launch]
application = "shop"
date = 2026-03-01
timezone = "Europe/Berlin"
[database]
name = "{name}"
host = "127.0.0.1"
port = {port}
user = "{user}"
password_env = "SHOP_DB_PASSWORD"
application_roles = ["{role}"]
[application]
url_env = "DATABASE_URL"
error_log = "{folder}/src/error.log"
[releases.old]
version = "1"
directory = "{folder}"
manage = ["{python}", "src/manage.py"]
env = {{ SHOP = "old" }}
start = ["sh", "-c", "true"]
stop = ["sh", "-c", "true"]
upstream = "{upstream}"
health = "/health/"
[releases.new]
version = "2"
directory = "{folder}"
manage = ["{python}", "src/manage.py"]
start = ["sh", "-c", "true"]
stop = ["sh", "-c", "true"]
upstream = "127.0.0.1:1"
health = "/health/"
[router]
kind = "command"
url = "http://{upstream}"
close = ["false"]
open_old = ["false"]
open_new = ["false"]
state = ["echo", "open", "{upstream}"]
[[stores]]
name = "local"
url = "file:backups"
[snapshot]
jobs = 2
[checkpoints.login]
username = "tess"
password_env = "SHOP_TEST_PASSWORD"
form_path = "/items/new/"
browser = "http"
"""


@dataclass(frozen=True)
class Shop:
    """A running site with its database, and plan files for it."""

    folder: Path
    target: Target
    role: str
    upstream: str

    def text(self, **changes: object) -> str:
        values = {
            "name": self.target.dbname,
            "port": self.target.port,
            "user": self.target.user,
            "role": self.role,
            "folder": self.folder,
            "python": python(),
            "upstream": self.upstream,
        }
        return PLAN.format(**{**values, **changes})

    def plan(self, path: Path, edit: Callable[[str], str] = str, **changes: object) -> PlanFile:
        return parse(edit(self.text(**changes)), path / "launch.toml")


@contextmanager
def ready_shop(server: Server, folder: Path) -> Iterator[Shop]:
    """The site at release 1, as an ordinary role, with two migrations pending, and its secrets in the environment."""
    write_site(folder)
    (folder / "src/error.log").touch()
    role = f"shop_{time.monotonic_ns()}"
    with site_database(server) as target, connect(target) as admin, pytest.MonkeyPatch.context() as environment:
        words = {"role": sql.Identifier(role), "name": sql.Identifier(target.dbname)}
        admin.execute(sql.SQL("create role {role} login password 'for tests'").format(**words))
        try:
            admin.execute(sql.SQL("alter database {name} owner to {role}").format(**words))
            login = target.login(role, "for tests")
            manage = manage_of(folder, login)
            for app_name in ("auth", "sessions"):
                manage.run("migrate", app_name, "-v", "0")
            manage.run("migrate", "shop", "0001", "-v", "0")
            code = "from django.contrib.auth.models import User; User.objects.create_user('tess', password='secret')"
            manage.run("shell", "-c", code)
            with running(folder, login) as address:
                environment.setenv("SHOP_DB_PASSWORD", target.password or "")
                environment.setenv("SHOP_TEST_PASSWORD", "secret")
                environment.setenv("DATABASE_URL", login.url())
                yield Shop(folder, target, role, address.removeprefix("http://"))
        finally:
            admin.execute(sql.SQL("alter database {name} owner to current_user").format(**words))
            admin.execute(sql.SQL("drop owned by {role} cascade; drop role {role}").format(**words))


def found(findings: tuple[Finding, ...] | Iterator[Finding], check: str, words: str) -> Finding:
    """The finding of a check whose message or remedy has these words."""
    known = list(findings)
    for one in known:
        if one.check == check and words in f"{one.message} {one.remedy}":
            return one
    raise AssertionError(f"no finding {check!r} with {words!r} in {known}")


def guarded_database(plan: PlanFile) -> tuple[Finding, ...]:
    """What is found at the database, also where it cannot be asked."""
    return guarded("database", lambda: doctor_database.database(plan, NOW))


def at_database(plan: PlanFile) -> Iterator[Finding]:
    """What is found at the database."""
    return iter(tuple(doctor_database.database(plan, NOW)))
