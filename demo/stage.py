"""The stage that the demo, the acceptance tests and the benchmark play on: the accounting site, wholly set up.

PostgreSQL and Caddy from Python packages, release 1.0 with its data under gunicorn, a plan file for the launch of
2.0, and people who post entries over HTTP. All of it is below one folder and on the loopback address, and all of it
is gone when the stage is left.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql

DEMO = Path(__file__).resolve().parent
sys.path.insert(0, str(DEMO))

from posted import acknowledged  # noqa: E402  # the demo's own modules, beside this file
from writers import Writers  # noqa: E402  # as well

from safepoint.config import (  # noqa: E402
    PlanFile,
    Release,
    load,
)
from safepoint.hosts import open_host  # noqa: E402
from safepoint.launch.begin import launch_folder  # noqa: E402
from safepoint.postgres.binaries import installation  # noqa: E402
from safepoint.postgres.servers import Server, free_port  # noqa: E402
from safepoint.routers import Router, open_router  # noqa: E402
from safepoint.routers.embedded import EmbeddedCaddy  # noqa: E402

PORTS = (8460, 8461, 8462, 8463, 8464)
SETTINGS = {"wal_level": "logical", "max_connections": "60", "shared_buffers": "256MB", "max_wal_size": "2GB"}
BUILD = "../build/demo/"


class Stage:
    """The site at release 1.0, open behind Caddy. A context manager.

    Args:
        folder: where everything goes; it is emptied first.
        lines: how many journal lines release 1.0 has.
        change: changes the plan file's text, for a test that needs another plan.
        major: PostgreSQL's major version.
        settings: of PostgreSQL, in place of the stage's own.
        own_ports: take the plan file's own ports where they are free; two stages at once would fall over them.
        tell: gets a line about each thing that stands.
    """

    def __init__(
        self,
        folder: Path,
        *,
        lines: int,
        change: Callable[[str], str] = lambda text: text,
        major: int = 17,
        settings: Mapping[str, str] | None = None,
        own_ports: bool = False,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.folder = folder.resolve()
        self.plan_path = self.folder / "launch.toml"
        self.environment: dict[str, str] = {}
        self._lines, self._change, self._major, self._tell = lines, change, major, tell
        self._own_ports = own_ports
        self._settings = {**SETTINGS, **(settings or {})}
        self._stack = ExitStack()

    def __enter__(self) -> Stage:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _set_up(self) -> None:
        self.environment = _environment(self.folder / "site")
        self.plan_path.write_text(self._change(_plan_text(self.folder, own_ports=self._own_ports)))
        self.plan: PlanFile = load(self.plan_path)
        self._stack.enter_context(self._database())
        # By the commands of this plan: a test's later one may have some that do nothing.
        self._stack.callback(self._stop_releases, self.plan.releases.old, self.plan.releases.new)
        clock = time.monotonic()
        self._fill()
        self._tell(f"release 1.0 has its database: {self._lines:,} journal lines ({time.monotonic() - clock:.1f} s)")
        ports = (_port(self.plan.router.url), _port(self.plan.router.admin))  # type: ignore[union-attr]
        self._stack.enter_context(EmbeddedCaddy(self.folder / "caddy", *ports))
        old = self.plan.releases.old
        self.run(old, *old.start)
        self.router.open(old.upstream)

    def _fill(self) -> None:
        """Release 1.0 makes its tables, and the books that people have kept in them so far."""
        old = self.plan.releases.old
        self.run(old, *old.manage, "migrate", "--noinput", "--verbosity", "0")
        self.run(old, *old.manage, "seed", "--lines", str(self._lines))

    def _database(self) -> Server:
        clock = time.monotonic()
        settings, password = self.plan.database, secrets.token_urlsafe(18)
        self.server = Server.create(
            self.folder / "postgres",
            installation(self._major),
            password=self.environment["SAFEPOINT_DB_PASSWORD"],
            settings=self._settings,
            purpose="demo",
            port=settings.port,
        )
        self.server.start()
        with psycopg.connect(**self.server.target.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
            role, name = sql.Identifier(settings.application_roles[0]), sql.Identifier(settings.name)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, role))
        login = self.server.target.on(settings.name).login(settings.application_roles[0], password)
        self.environment["DATABASE_URL"] = login.url()
        self._tell(f"PostgreSQL {self.server.installation.version} is up ({time.monotonic() - clock:.1f} s)")
        return self.server

    @property
    def router(self) -> Router:
        """Caddy, as Safepoint drives it."""
        return open_router(self.plan.router, lambda name: open_host(name, self.plan.host(name), self.plan.folder))

    @property
    def launch_folder(self) -> Path:
        """Where the launch keeps its ledger."""
        return launch_folder(self.plan)

    def writers(self, count: int = 4, rate: float = 5.0) -> Writers:
        """People who post entries all the time, from now until the stage is left."""
        writers = Writers(
            self.plan.router.url,
            count=count,
            journal=self.folder / "acknowledged.jsonl",
            rate=rate,
            password=self.environment["ACCOUNTING_DEMO_PASSWORD"],
        )
        self._stack.callback(writers.stop)
        writers.start()
        return writers

    def run(self, release: Release, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of a release in its folder; its output is shown only when it fails."""
        done = subprocess.run(
            argv,
            cwd=self.plan.folder / (release.directory or "."),
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise SystemExit(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")
        return done

    def safepoint(
        self, *words: str, capture: bool = False, env: Mapping[str, str] | None = None, timeout: float | None = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Safepoint as a user would; a test gives up on it after `timeout` seconds."""
        return subprocess.run(
            [str(Path(sys.executable).parent / "safepoint"), *words, "--plan", str(self.plan_path)],
            env={**os.environ, **self.environment, **(env or {})},
            capture_output=capture,
            text=True,
            check=False,
            timeout=timeout,
        )

    def query(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Ask the live database as the application."""
        with psycopg.connect(self.environment["DATABASE_URL"]) as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[arg-type]

    def acknowledged(self) -> set[str]:
        """The tokens of all entries that were acknowledged to the people who posted them."""
        return set(acknowledged(self.folder / "acknowledged.jsonl"))

    def present(self) -> set[str]:
        """Which of them are in the live database."""
        tokens = sorted(self.acknowledged())
        rows = self.query("SELECT reference::text FROM ledger_journalentry WHERE reference = ANY(%s::uuid[])", tokens)
        return {str(row[0]) for row in rows}

    def listed(self) -> set[str]:
        """Which of them the rollback listed."""
        listing = self.launch_folder / "affected.csv"
        text = listing.read_text() if listing.exists() else ""
        return {token for token in self.acknowledged() if token in text}

    def _stop_releases(self, *releases: Release) -> None:
        for release in releases:
            self.run(release, *release.stop, check=False)


def _environment(site: Path) -> dict[str, str]:
    """What the site and the conductor get from the environment, secrets included; never in an argv or a file."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SAFEPOINT_DB_PASSWORD": secrets.token_urlsafe(18),
        "SECRET_KEY": secrets.token_urlsafe(32),
        "ACCOUNTING_DEMO_PASSWORD": secrets.token_urlsafe(12),
        "ACCOUNTING_STATE": str(site),
        "ACCOUNTING_PASSWORD_ITERATIONS": "1000",
    }


def _plan_text(folder: Path, *, own_ports: bool) -> str:
    """The demo's plan file for this folder; with other ports where its own are not wanted, or one is taken."""
    text = (DEMO / "launch.toml").read_text()
    for port in PORTS:
        if not own_ports or not _free(port):
            # The whole number: a port that was put in before may end in the same digits.
            text = re.sub(rf"\b{port}\b", str(free_port()), text)
    site, demo = str(folder / "site"), str(DEMO)
    return (
        text.replace(f"../../{BUILD}site", site)
        .replace("../../appctl.py", f"{demo}/appctl.py")
        .replace('"accounting/release', f'"{demo}/accounting/release')
        .replace(BUILD, f"{folder}/")
    )


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])
