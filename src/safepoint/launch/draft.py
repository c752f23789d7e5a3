"""A plan file drafted from a Django project: what the project says about itself, and comments that teach the rest."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path

from safepoint.config import Application, Release, Variables
from safepoint.config.load import parse
from safepoint.django.address import part_variables, unled, url_variables
from safepoint.django.inspector import Project, followed, inspect, redirected
from safepoint.django.managepy import Manage
from safepoint.errors import CommandFailed, Refused
from safepoint.hosts.here import Here

_PLACES = ("manage.py", "src/manage.py")
_ANYBODYS = frozenset({"conf", "config", "core", "project", "settings"})
"""Packages of settings that are called so in any project."""
_VENVS = (".venv", "venv", "env")


@dataclass(frozen=True)
class Draft:
    """The text of a plan file, what it was drafted from, and the keys that a person must look at."""

    text: str
    known: dict[str, str]
    look_at: tuple[str, ...] = field(default=())


def draft_plan(
    directory: Path,
    path: Path,
    *,
    python: str | None = None,
    module: str | None = None,
    program: str | None = None,
    today: date | None = None,
) -> Draft:
    """Ask a project and draft its plan file. Writes nothing.

    Args:
        directory: where `manage.py` is, or the folder above `src`.
        path: where the plan file will lie; refused when something is there.
        python: the project's own interpreter; None looks for a virtual environment beside it.
        module: run with `-m` in place of a manage.py, as some installed products are.
        program: run in place of a manage.py, as others are; it knows its own Python.

    Raises:
        Refused: there is no manage.py, or a plan file already.
        CommandFailed: the project cannot be started.
    """
    _refuse_existing(path)
    if program is not None:
        manage: tuple[str, ...] = (program,)
    else:
        manage = (python or _python(directory), *((find_manage(directory),) if module is None else ("-m", module)))
    release = Release(
        version="current",
        directory=str(directory.resolve()),
        manage=manage,
        start=("true",),
        stop=("true",),
        upstream="127.0.0.1:8000",
    )
    runner = Manage(Here("here", directory.resolve()), release)
    project = _ask(runner)
    version = _version(directory)
    default = project.database()
    called = called_after(directory.resolve().name, project.settings, default.name if default else "")
    names = Names(
        application=application_name(called),
        directory=_relative(directory, path.parent),
        manage=manage,
        old=version,
        led=led(runner, project),
        day=(today or date.today()) + timedelta(days=7),
    )
    text, look_at = compose(project, names)
    parse(text, path)  # what is written must load
    return Draft(text, _known(project, names, path), tuple(look_at))


def _known(project: Project, names: Names, path: Path) -> dict[str, str]:
    """What was found out, for a person."""
    default = project.database()
    known = {
        "Django": f"{project.django}, settings {project.settings or 'of the program itself'}",
        "database": f"{default.name} on {default.host or 'a socket'}, as {default.user}" if default else "none",
        "release today": names.old,
        "database address": _led_by(names.led),
    }
    if any((folder / ".git").exists() for folder in (path.parent.resolve(), *path.parent.resolve().parents)):
        known["not for git"] = ".safepoint and backups beside the plan file: they will hold copies of the database"
    if default is not None and _is_pooled(project):
        known["connection pooler"] = f"the application uses {default.host}:{default.port}; Safepoint needs the server"
    if project.database_error is not None:
        known["database said"] = project.database_error
    return known


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
            remedy="Name the Django project's folder: `safepoint init DIRECTORY`. An installed product that is run "
            "without one is named with --module PRODUCT (`python -m PRODUCT migrate`) or --program PATH (a command "
            "that its package installs), in the folder where that works.",
        )
    return found


def application_name(folder: str) -> str:
    """A name that the plan file allows, made from a folder's name. Pure."""
    words = re.sub(r"[^a-z0-9_-]+", "-", folder.lower()).strip("-_")
    return (words if words[:1].isalpha() else f"app-{words}".rstrip("-"))[:31]


def called_after(folder: str, settings: str, database: str) -> str:
    """What an application is called: a folder of a release (`release-1.0`, `current`) says nothing of it, its settings'
    package may, unless it has the name that everyone's has; then the database does. Pure."""
    if not re.fullmatch(r"(?:current|old|new|releases?|src|app|v)?[-_.]?[\d.]*", folder.lower()):
        return folder
    package = settings.partition(".")[0]
    return ("" if package in _ANYBODYS else package) or database or folder


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
        return inspect(manage)
    except CommandFailed as error:
        remedy = (
            f"{error.remedy} `safepoint init` asks the project's own settings: set the environment variables that "
            "they read, or name its Python with --python."
        )
        raise CommandFailed(
            error.message, subject=error.subject, expected=error.expected, found=error.found, remedy=remedy
        ) from None


def led(manage: Manage, project: Project) -> Application:
    """By which variables the project is led to a database, tried: by one, or else by those of the address's parts."""
    url = next((name for name in url_variables(project.environment) if _redirects(manage, name)), None)
    if url is not None:
        return Application(url_env=url)
    try:
        # Settings that read all that begins with a prefix name none in their source.
        parts = followed(manage, part_variables({*project.environment, *os.environ}))
    except CommandFailed:
        return Application()  # one of these names has something else
    if not {"user", "password"} <= {*parts}:
        parts = {part: name for part, name in parts.items() if part not in ("user", "password")}
    return Application(variables=Variables(**parts)) if parts else Application()


def _redirects(manage: Manage, name: str) -> bool:
    try:
        return redirected(manage, name) is not None
    except CommandFailed:
        return False  # a variable of that name which is no database address


def _led_by(application: Application) -> str:
    if not application.led_by:
        return "no variables found that carry it"
    left = f"; {unled(application)}" if application.fixed else ""
    return f"{', '.join(application.led_by)} (tried){left}"


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
    return os.path.relpath(directory.resolve(), folder.resolve())


@dataclass(frozen=True)
class Names:
    """What the draft was told or found out besides the project's own answers."""

    application: str
    directory: str
    manage: tuple[str, ...]
    old: str
    led: Application
    day: date


def compose(project: Project, names: Names) -> tuple[str, list[str]]:
    """The text of the plan file, and the keys marked LOOK in it. Pure."""
    default = project.database()
    address = _address(project)
    user = default.user if default and default.user else "REPLACE"
    clear = '["clear_cache"]' if "clear_cache" in project.commands else ""
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
        **_leading(names.led),
        "error_log": f"error_log = {_text(log)}" if log else '# error_log = "/var/log/app/error.log"',
        "directory": _text(names.directory),
        "manage": ", ".join(_text(word) for word in names.manage),
        "old": _text(names.old),
        "clear": f"clear = [{clear}]",
        "clear_comment": "commands of this project's manage.py"
        if clear
        else "the project has no clear_cache; Django's own cache.clear() is called",
        "login": _text(project.login_url if project.login_url.startswith("/") else "/accounts/login/"),
    }
    text = template()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text, marked(text)


def _leading(application: Application) -> dict[str, str]:
    """The lines of `[application]` that say by which variables it is led to a database."""
    tried = "tried: it decides which database the project uses"
    table = [f"{part} = {_text(name)}" for part, name in application.parts.items()]
    return {
        "url_env": f"url_env = {_text(application.url_env)}  # {tried}"
        if application.url_env
        else '# url_env = "DATABASE_URL"    # the variable that has the database\'s address, if the settings read one',
        "variables": "\n".join([f"[application.variables]  # {tried.replace('it decides', 'they decide')}", *table])
        if table
        else "# [application.variables]  # or those that have its parts: host, port, name, user, password\n"
        '# host = "DB_HOST"',
    }


def template() -> str:
    """The plan file before anything is known of the project: `@name@` stands where something of it is written."""
    return files("safepoint.launch").joinpath("draft.toml").read_text(encoding="utf-8")


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
