"""A plan file drafted from a Django project: what the project says about itself, and comments that teach the rest."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from safepoint.config import Release
from safepoint.config.load import parse
from safepoint.django.inspector import Project, inspect, redirects, url_variables
from safepoint.django.managepy import Manage
from safepoint.errors import CommandFailed, Refused
from safepoint.hosts.here import Here

_PLACES = ("manage.py", "src/manage.py")
_VENVS = (".venv", "venv", "env")


@dataclass(frozen=True)
class Draft:
    """The text of a plan file, what it was drafted from, and the keys that a person must look at."""

    text: str
    known: dict[str, str]
    look_at: tuple[str, ...] = field(default=())


def draft_plan(directory: Path, path: Path, *, python: str | None = None, today: date | None = None) -> Draft:
    """Ask a project and draft its plan file. Writes nothing.

    Args:
        directory: where `manage.py` is, or the folder above `src`.
        path: where the plan file will lie; refused when something is there.
        python: the project's own interpreter; None looks for a virtual environment beside it.

    Raises:
        Refused: there is no manage.py, or a plan file already.
        CommandFailed: the project cannot be started.
    """
    _refuse_existing(path)
    manage = find_manage(directory)
    release = Release(
        version="current",
        directory=str(directory.resolve()),
        manage=(python or _python(directory), manage),
        start=("true",),
        stop=("true",),
        upstream="127.0.0.1:8000",
    )
    runner = Manage(Here("here", directory.resolve()), release)
    project = _ask(runner)
    variable = next((name for name in url_variables(project.environment) if _redirects(runner, name)), None)
    version = _version(directory)
    names = Names(
        application=application_name(_called(directory.resolve().name, project.settings)),
        directory=_relative(directory, path.parent),
        python=release.manage[0],
        manage=manage,
        old=version,
        url_env=variable,
        day=(today or date.today()) + timedelta(days=7),
    )
    text, look_at = compose(project, names)
    parse(text, path)  # what is written must load
    default = project.database()
    known = {
        "Django": f"{project.django}, settings {project.settings}",
        "database": f"{default.name} on {default.host or 'a socket'}, as {default.user}" if default else "none",
        "release today": version,
        "database address": f"{variable} (tried)" if variable else "no variable found that carries it",
    }
    if any((folder / ".git").exists() for folder in (path.parent.resolve(), *path.parent.resolve().parents)):
        known["not for git"] = ".safepoint and backups beside the plan file: they will hold copies of the database"
    if default is not None and _is_pooled(project):
        known["connection pooler"] = f"the application uses {default.host}:{default.port}; Safepoint needs the server"
    if project.database_error is not None:
        known["database said"] = project.database_error
    return Draft(text, known, tuple(look_at))


def write_plan(draft: Draft, path: Path) -> None:
    """Write the file, whole, unless one is there.

    Raises:
        Refused: a file is there.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(draft.text)
    except FileExistsError:
        _refuse_existing(path)
    except OSError as error:
        raise Refused(
            f"{path} cannot be written: {error.strerror}.", subject=str(path), remedy="Name another file with --file."
        ) from None


def find_manage(directory: Path) -> str:
    """The path of `manage.py` below the directory.

    Raises:
        Refused: there is none.
    """
    found = next((place for place in _PLACES if (directory / place).is_file()), None)
    if found is None:
        raise Refused(
            f"There is no manage.py in {directory} or in its src.",
            subject=str(directory),
            expected=" or ".join(_PLACES),
            remedy="Name the Django project's folder: `safepoint init DIRECTORY`.",
        )
    return found


def application_name(folder: str) -> str:
    """A name that the plan file allows, made from a folder's name. Pure."""
    words = re.sub(r"[^a-z0-9_-]+", "-", folder.lower()).strip("-_")
    return (words if words[:1].isalpha() else f"app-{words}".rstrip("-"))[:31]


def _called(folder: str, settings: str) -> str:
    """A folder of a release (`release-1.0`, `current`) says nothing of the application; its settings' package may."""
    of_release = re.fullmatch(r"(?:current|releases?|src|app|v)?[-_.]?[\d.]*", folder.lower())
    return settings.partition(".")[0] if of_release else folder


def _is_pooled(project: Project) -> bool:
    return bool(project.session and project.session["pooled"])


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise Refused(
            f"{path} is there already, and is not overwritten.",
            subject=str(path),
            remedy="Edit it, move it away, or write another one with --file.",
        )


def _ask(manage: Manage) -> Project:
    try:
        return inspect(manage, timeout=60)
    except CommandFailed as error:
        remedy = (
            f"{error.remedy} `safepoint init` asks the project's own settings: set the environment variables that "
            "they read, or name its Python with --python."
        )
        raise CommandFailed(
            error.message, subject=error.subject, expected=error.expected, found=error.found, remedy=remedy
        ) from None


def _redirects(manage: Manage, name: str) -> bool:
    try:
        return redirects(manage, name)
    except CommandFailed:
        return False  # a variable of that name which is no database address


def _python(directory: Path) -> str:
    for folder in (directory, directory.parent):
        for venv in _VENVS:
            if (program := folder / venv / "bin" / "python").exists():
                return str(program.absolute())
    return sys.executable if shutil.which("python") is None else "python"


def _version(directory: Path) -> str:
    """What git calls the state of the project; "current" where there is no git or no tag."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--tags", "--abbrev=0"], cwd=directory, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "current"
    tag = re.sub(r"[^A-Za-z0-9._-]", "-", answer.stdout.strip().removeprefix("v"))
    return tag if answer.returncode == 0 and tag else "current"


def _relative(directory: Path, folder: Path) -> str:
    import os.path

    return os.path.relpath(directory.resolve(), folder.resolve())


@dataclass(frozen=True)
class Names:
    """What the draft was told or found out besides the project's own answers."""

    application: str
    directory: str
    python: str
    manage: str
    old: str
    url_env: str | None
    day: date


def compose(project: Project, names: Names) -> tuple[str, list[str]]:
    """The text of the plan file, and the keys marked LOOK in it. Pure."""
    default = project.database()
    address = _address(project)
    user = default.user if default and default.user else "REPLACE"
    clear = '["clear_cache"]' if "clear_cache" in project.commands else ""
    url_env = f"url_env = {_text(names.url_env)}" if names.url_env else '# url_env = "DATABASE_URL"'
    log = next(iter(project.error_logs), None)
    values = {
        "application": _text(names.application),
        "day": names.day.isoformat(),
        "dbname": _text(default.name if default and default.name else "REPLACE"),
        "host": _text(address[0]),
        "port": address[1],
        "pooled": f"  # LOOK: the server itself, as it says; not the pooler at {default.host}:{default.port}"
        if default and _is_pooled(project)
        else "",
        "role": _text(user),
        "url_env": url_env,
        "url_env_comment": "tried: it decides which database the project uses"
        if names.url_env
        else "the variable that carries the database's address, if the settings read one; the session's settings "
        "go by PGOPTIONS otherwise",
        "error_log": f"error_log = {_text(log)}" if log else '# error_log = "/var/log/app/error.log"',
        "directory": _text(names.directory),
        "python": _text(names.python),
        "manage": _text(names.manage),
        "old": _text(names.old),
        "clear": f"clear = [{clear}]",
        "clear_comment": "commands of this project's manage.py"
        if clear
        else "the project has no clear_cache; Django's own cache.clear() is called",
        "login": _text(project.login_url if project.login_url.startswith("/") else "/accounts/login/"),
    }
    text = _TEMPLATE
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text, marked(text)


def _address(project: Project) -> tuple[str, str]:
    """Host and port of the database: as the application has them, or past its pooler as the server says."""
    default, session = project.database(), project.session
    if session is not None and session["pooled"] and session["port"]:
        return session["host"], session["port"]
    return (default.host if default else "") or "localhost", (default.port if default else "") or "5432"


def marked(text: str) -> list[str]:
    """The keys on lines marked LOOK, with their tables: `database.user`. Pure."""
    table, found = "", []
    for line in text.splitlines():
        if header := re.match(r"(?:# )?\[+([a-z.]+)\]+", line):
            table = header[1]
        if "# LOOK" in line and not line.startswith("# LOOK"):
            key = re.match(r"(?:# )?([a-z_]+) =", line)
            found.append(f"{table}.{key[1]}" if key else table)
    return found


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_TEMPLATE = """\
# The plan of a launch, drafted by `safepoint init` from the project's own settings.
# LOOK marks what Safepoint could not know. Then run `safepoint doctor`: it checks every line and says what to do.
# Durations are written 90s, 10m, 2h, 30d; passwords never stand here, only the names of variables that have them.
# `safepoint settings` says what else can be written here, and what each key means.

[launch]
application = @application@
date = @day@            # LOOK: T, the launch day; the timetable below counts from it
timezone = "UTC"             # LOOK: an IANA name such as "Europe/Berlin"; all times below are local there
state = ".safepoint"         # ledger, snapshots, scratch servers: needs room for twice the database

# Where commands run is named here; "here" needs no entry. Nothing is installed on the other side.
# [hosts.app]
# kind = "compose"           # docker compose exec -T SERVICE
# service = "app"
# project = "."
# [hosts.db]
# kind = "ssh"
# address = "prod-db"

[database]
name = @dbname@
host = @host@
port = @port@@pooled@
user = "postgres"            # LOOK: the login that Safepoint uses, not the application's: it copies and renames
# password_env = "SAFEPOINT_DB_PASSWORD"  # LOOK: the variable that has its password
application_roles = [@role@] # LOOK: everyone who writes (jobs and workers too); held off during the window
tools_host = "here"          # where pg_dump runs; name a host above for a database that is only reachable there
# tools_address = "localhost:5432"     # the server as seen from there, if it has another address there
# error_log = "/var/log/postgresql/postgresql-17-main.log"  # on tools_host: crashes and damage fail a checkpoint
lock_timeout = "5s"          # a migration gives up waiting for a lock after this, and is tried again

[application]
host = "here"                # where manage.py, start and stop run
# database_address = "db:5432"         # the server as seen from there, if it has another address there
@url_env@  # @url_env_comment@
@error_log@  # LOOK: the new release's: new error lines there fail a checkpoint

# A release: how its manage.py is called, how it is started, stopped and reached. Starting or stopping twice must be
# harmless. Two folders, two units or two images, so that the old release is there when you need it back.
[releases.old]
version = @old@              # what runs today
directory = @directory@
manage = [@python@, @manage@]
start = ["systemctl", "start", "app-old"]   # LOOK
stop = ["systemctl", "stop", "app-old"]     # LOOK
# data = ["var"]             # what is no code there, and changes: pid files (MEDIA_ROOT, caches and logs are known)
upstream = "127.0.0.1:8001"  # LOOK: where this release answers, as the router reaches it
health = "/"                 # LOOK: a page that answers 200 when all is well, and does not lead to a login

[releases.new]
version = "next"             # LOOK
directory = @directory@      # LOOK: the new release's own folder
manage = [@python@, @manage@]
start = ["systemctl", "start", "app-new"]   # LOOK; with {port} for the port (and no service manager) a rehearsal
stop = ["systemctl", "stop", "app-new"]     # LOOK; starts it for real, on its copy
upstream = "127.0.0.1:8002"  # LOOK
health = "/"
# stage = true               # start it before the window, without traffic

# What lets traffic through. Caddy by its admin API: give the reverse_proxy handler the "@id" named here. A Caddyfile
# cannot: `caddy adapt --config Caddyfile > caddy.json`, write "@id": "safepoint" beside "handler": "reverse_proxy" in
# it, and run Caddy with that.
[router]
kind = "caddy"
admin = "http://127.0.0.1:2019"
route = "safepoint"
url = "http://127.0.0.1"     # LOOK: the address that people use
retry_after = "60s"
# Any other router by commands of your own:
# kind = "command"
# url = "https://shop.example.com"
# close = ["./router", "close"]
# open_old = ["./router", "open", "old"]
# open_new = ["./router", "open", "new"]
# split = ["./router", "split", "{upstream}", "{percent}"]  # without it there is no canary
# state = ["./router", "state"]  # prints closed, open UPSTREAM or split UPSTREAM PERCENT; without it the url is asked

[snapshot]
compress = "zstd:1"
max_age = "2h"               # an older snapshot is not good enough for the window
# keep = "30d"               # on this machine; `safepoint prune` lets older ones go
# encrypt_to = ["age1..."]   # who can open what leaves this machine: recipients that age-keygen prints, or SSH keys

# A server for proofs and rehearsals, where this machine should start none. A superuser makes databases with random
# names there, and removes them; it must not be the server of the database.
# [scratch]
# host = "scratch.internal"
# port = 5432
# user = "safepoint"
# password_env = "SAFEPOINT_SCRATCH_PASSWORD"

# Where snapshots are kept, as many stores as you like: file:, s3://, sftp://, gs://, az:// ... Have one offsite.
[[stores]]
name = "local"
url = "file:backups"         # LOOK: another disk at least
keep = "30d"
# keep_rules = { daily = 60, weekly = 26, monthly = 24 }   # what stays longer
# lock = "auto"              # S3 Object Lock, where the bucket has it; or "none", "governance", "compliance"

# The rehearsal on a copy: variables that lead the new release away from what the live site uses (caches, queues, other
# databases); {folder} is a folder of its own.
# [rehearsal.env]
# CACHE_DIR = "{folder}/cache"

# The way back: SQL over the new row where nobody can know an old value (old.x: what it was at the safe point).
# `safepoint plan --way-back`, after a rehearsal, shows each column, and what is missing.
# [wayback.tables.shop_client]
# columns = { name = "trim(first_name || ' ' || last_name)" }

[cache]
@clear@  # @clear_comment@
warm = ["/"]                 # LOOK: pages that should be fast for the first visitor

# The new release gets this share of clients first, who stay on it; everyone else sees the maintenance page.
[canary]
percent = 10
hold = "10m"

[watch]
duration = "2h"
every = "30s"

# Limits of the monitored checks.
[checkpoints]
size_growth = 0.25           # share of the size at T; a migration that rewrites a big table needs more
connections_share = 0.8      # share of max_connections
error_lines = 0

# A test user who logs in and fills in a form, in Chromium where there is one. It leaves its entry in the database;
# {stamp} becomes the time, so that each visit looks for its own entry.
# [checkpoints.login]        # LOOK: without it nobody tries the application after the migration
# path = @login@   # with ?next=/entries/new/ it leads straight to the form, and the window has a page less
# username = "test"
# password_env = "LAUNCH_TEST_PASSWORD"
# form_path = "/entries/new/"
# fields = { memo = "Safepoint {stamp}" }
# expect = "Safepoint {stamp}"

# Who decides: "rule" (by evidence, a person only where it is inconclusive) or "person" (always).
[gates]
stop = "rule"
canary = "rule"
green = "rule"

# When each phase begins: T is the launch day.
[timetable]
prepare = "T-1 18:00"        # survey, snapshot, proof, store
freeze = "T 08:00"           # code frozen, final snapshot
stop = "T 09:00"             # traffic and writes stop
migrate = "T 09:15"
green = "T 09:30"            # canary, then everyone
watch = "T 10:00"
retire = "T+3 12:00"         # until then the way back stands by
"""
