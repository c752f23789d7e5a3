"""`make demo`: the accounting site is launched from 1.0 to 2.0 while people post entries, and rolled back.

Everything is real and on this machine: PostgreSQL and Caddy from Python packages, the site under gunicorn, writers
that post over HTTP and keep every entry that was acknowledged to them. What is started here is stopped here.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console

DEMO = Path(__file__).resolve().parent
sys.path.insert(0, str(DEMO))

from writers import Writers  # noqa: E402  # the demo's own module, beside this file

from safepoint.config import PlanFile, load  # noqa: E402
from safepoint.launch.begin import entries_of  # noqa: E402
from safepoint.launch.report import html, model  # noqa: E402
from safepoint.postgres.binaries import installation  # noqa: E402
from safepoint.postgres.servers import Server, free_port  # noqa: E402
from safepoint.routers.embedded import EmbeddedCaddy  # noqa: E402

BUILD = DEMO.parent / "build" / "demo"
LINES = 200_000
PORTS = (8460, 8461, 8462, 8463, 8464)
SETTINGS = {"wal_level": "logical", "max_connections": "60", "shared_buffers": "256MB", "max_wal_size": "2GB"}

console = Console()


def main() -> int:
    """Run the demo; 0 when the launch and the rollback did what they promise."""
    begun = time.monotonic()
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    environment = site_environment()
    os.environ.update(environment)
    plan_path = plan_with_free_ports()
    plan = load(plan_path)
    with ExitStack() as stack:
        stack.callback(plan_path.unlink) if plan_path.name != "launch.toml" else None
        say(f"[bold]Safepoint[/]: the accounting site goes from 1.0 to 2.0, and back. Everything runs on {here()}.\n")
        server = stack.enter_context(database(plan))
        stack.callback(stop_site, plan)
        prepare_site(plan, server)
        router = stack.enter_context(EmbeddedCaddy(BUILD / "caddy", port_of(plan.router.url), port_of(plan.router.admin)))
        router.start(plan.releases.old.upstream)
        run(plan.releases.old.start, plan.releases.old.directory)
        writers = Writers(plan.router.url, count=4, journal=BUILD / "acknowledged.jsonl", rate=5.0)
        writers.start()
        stack.callback(writers.stop)
        say(f"  site 1.0 is open at [bold]{plan.router.url}[/]; 4 people post entries all the time\n")
        status = story(plan, plan_path, writers)
        report = finish(plan, writers)
    summary(plan, report, time.monotonic() - begun)
    return status


def story(plan: PlanFile, plan_path: Path, writers: Writers) -> int:
    """Launch, let people write against 2.0, roll back."""
    time.sleep(1.0)
    code = safepoint("launch", "--now", plan_path=plan_path)
    if code != 0:
        say(f"[red]The launch ended with exit code {code}.[/]")
        return code
    say("\n  2.0 is open; people go on posting against it for three seconds ...")
    time.sleep(3.0)
    say("  ... and now something turns out to be wrong with 2.0: [bold]safepoint rollback[/]\n")
    code = safepoint("rollback", plan_path=plan_path)
    time.sleep(1.5)
    return code


def finish(plan: PlanFile, writers: Writers) -> dict[str, Any]:
    """Stop the writers, compare what was acknowledged with what is there and what is listed, write the report."""
    writers.stop()
    tally = writers.tally()
    entries = entries_of(plan)
    present = tokens_present(plan, tally.tokens)
    listed = listed_tokens(plan)
    missing = set(tally.tokens) - present
    extra = {
        "writers": {
            "acknowledged": tally.acknowledged,
            "failed_requests": tally.failed,
            "present_after": len(present),
            "listed": len(missing & listed),
            "lost_unlisted": len(missing - listed),
        }
    }
    report = model.build(entries, extra)
    (BUILD / "report.json").write_text(json.dumps(report, indent=2))
    (BUILD / "report.html").write_text(html.render(report))
    return report


def summary(plan: PlanFile, report: dict[str, Any], seconds: float) -> None:
    """What happened, in a few lines."""
    writers, window, rollback = report["writers"], report["window"], report["rollback"] or {}
    say("\n[bold]What happened[/]")
    if window:
        say(
            f"  launched     window {window['seconds']:.1f} s, of which migrate {window['migrate_seconds']:.1f} s "
            f"(+{window['minus_migrate_seconds']:.1f} s for everything else)"
        )
    if rollback:
        say(
            f"  rolled back  in {rollback['downtime_seconds']:.1f} s; {rollback['listed']} transactions since the launch "
            "are listed with their users"
        )
    say(
        f"  entries      {writers['acknowledged']} acknowledged = {writers['present_after']} in the database "
        f"+ {writers['listed']} listed + [bold]{writers['lost_unlisted']} lost without a word[/]"
    )
    say(f"  report       {(BUILD / 'report.html').relative_to(DEMO.parent)}")
    say(f"  took         {seconds:.0f} s")


def site_environment() -> dict[str, str]:
    """What the site and the conductor get from the environment, secrets included; never in an argv or a file."""
    return {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SAFEPOINT_DB_PASSWORD": secrets.token_urlsafe(18),
        "SECRET_KEY": secrets.token_urlsafe(32),
        "ACCOUNTING_DEMO_PASSWORD": secrets.token_urlsafe(12),
        "ACCOUNTING_STATE": str(BUILD / "site"),
        "ACCOUNTING_PASSWORD_ITERATIONS": "1000",
    }


def plan_with_free_ports() -> Path:
    """The demo's plan file; a copy with other ports beside it where one of its ports is taken."""
    taken = [port for port in PORTS if not free(port)]
    if not taken:
        return DEMO / "launch.toml"
    text = (DEMO / "launch.toml").read_text()
    for port in taken:
        text = text.replace(str(port), str(free_port()))
    copy = DEMO / "launch.local.toml"
    copy.write_text(text)
    return copy


def free(port: int) -> bool:
    """Whether nothing listens on this port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def database(plan: PlanFile) -> Iterator[Server]:
    """A PostgreSQL of our own with the site's role and database."""
    clock = time.monotonic()
    password = secrets.token_urlsafe(18)
    settings = plan.database
    server = Server.create(
        BUILD / "postgres",
        installation(17),
        password=os.environ["SAFEPOINT_DB_PASSWORD"],
        settings=SETTINGS,
        purpose="demo",
        port=settings.port,
    )
    with server:
        with psycopg.connect(**server.target.conninfo(), autocommit=True) as connection:  # type: ignore[arg-type]
            role, name = sql.Identifier(settings.application_roles[0]), sql.Identifier(settings.name)
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, role))
        login = server.target.on(settings.name).login(settings.application_roles[0], password)
        os.environ["DATABASE_URL"] = login.url()
        say(f"  PostgreSQL {server.installation.version} is up ({time.monotonic() - clock:.1f} s)")
        yield server


def prepare_site(plan: PlanFile, server: Server) -> None:
    """The database of release 1.0 with its data."""
    clock = time.monotonic()
    old = plan.releases.old
    run((*old.manage, "migrate", "--noinput", "--verbosity", "0"), old.directory)
    run((*old.manage, "seed", "--lines", str(LINES)), old.directory)
    say(f"  release 1.0 has its database: {LINES:,} journal lines ({time.monotonic() - clock:.1f} s)")


def stop_site(plan: PlanFile) -> None:
    """End both releases, whichever runs."""
    for release in (plan.releases.old, plan.releases.new):
        run(release.stop, release.directory, check=False)


def run(argv: tuple[str, ...], directory: str | None, *, check: bool = True) -> None:
    """Run a command of the site, quietly; its output is shown only when it fails."""
    done = subprocess.run(argv, cwd=DEMO / (directory or "."), capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stdout}{done.stderr}")


def safepoint(*words: str, plan_path: Path) -> int:
    """Run a command of Safepoint as a user would, on this terminal."""
    argv = [str(Path(sys.executable).parent / "safepoint"), *words, "--plan", str(plan_path)]
    say(f"[dim]$ safepoint {' '.join(words)} --plan demo/{plan_path.name}[/]")
    return subprocess.run(argv, check=False).returncode


def tokens_present(plan: PlanFile, tokens: list[str]) -> set[str]:
    """Which of the acknowledged entries are in the live database."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        rows = connection.execute(
            "SELECT reference::text FROM ledger_journalentry WHERE reference = ANY(%s::uuid[])", (tokens,)
        ).fetchall()
    return {row[0] for row in rows}


def listed_tokens(plan: PlanFile) -> set[str]:
    """Which entries the rollback listed."""
    listing = plan.state / "launches" / plan.launch_id / "affected.csv"
    text = listing.read_text() if listing.exists() else ""
    return {word for word in text.replace(",", " ").replace('"', " ").replace("=", " ").split() if len(word) == 36}


def port_of(url: str) -> int:
    """The port of a URL."""
    return int(url.rsplit(":", 1)[1])


def here() -> str:
    """The loopback address, as people call it."""
    return "this machine's loopback address"


def say(text: str) -> None:
    """Print a line."""
    console.print(text, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
