"""The application's own `manage.py`: its commands as data, run on a host, its failures in words for a person."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from safepoint.config import Application, Release
from safepoint.django.address import Login, leading
from safepoint.errors import CommandFailed, LockNotAvailable, SafepointError
from safepoint.hosts.command import Command, Host, Result

_APPLYING = re.compile(r"^\s*(?:Applying|Unapplying) (?P<name>\S+?)\.\.\.", re.MULTILINE)
_DONE = re.compile(r"(?:^|\s)OK(?:\s+[\d.]+\s?m?s)?\s*$", re.MULTILINE)
# A name of this length may be cut off: lines that are to be of one width take some fifty letters of it.
_CUT_FROM = 20
# The last line of a traceback: `package.module.Error: what happened`, or the bare name of an error.
_RAISED = re.compile(
    r"^(?P<kind>[A-Za-z_][\w.]*(?:Error|Exception|Warning|Configured|Exit|Interrupt|NotAvailable|\w*))"
)
_LOCK_SIGNS = ("canceling statement due to lock timeout", "LockNotAvailable")


@dataclass(frozen=True)
class Manage:
    """`manage.py` of one release on one host, pointed at one database by `env` and `secrets` (see `redirect`)."""

    host: Host
    release: Release
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    directory: str | None = None

    def command(self, *arguments: str) -> Command:
        """The command as data. The release's own variables come first, so that a redirection wins over them."""
        return Command(
            argv=(*self.release.manage, *arguments),
            # Colour codes and half-filled buffers would only be in the way of whoever reads the output.
            env={"DJANGO_COLORS": "nocolor", "PYTHONUNBUFFERED": "1", **self.release.env, **self.env},
            secrets=dict(self.secrets),
            directory=self.directory if self.directory is not None else self.release.directory,
        )

    def run(
        self,
        *arguments: str,
        check: bool = True,
        timeout: float | None = None,
        stdin: bytes | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Result:
        """Run one management command to its end.

        Raises:
            CommandFailed: it could not be started, ran out of `timeout` seconds, or (with `check`) failed; the
                message carries the last meaningful lines of what it said and never a whole traceback.
            LockNotAvailable: (with `check`) it failed because a lock was not had within `lock_timeout`.
            Interrupted: `cancelled` became true while it ran.
        """
        command = self.command(*arguments)
        try:
            result = self.host.run(command, check=False, timeout=timeout, stdin=stdin, cancelled=cancelled)
        except CommandFailed as error:
            raise _not_run(self, command, error) from error
        if check and result.code != 0:
            raise explain(result)
        return result


def redirect(
    application: Application, login: Login, *, lock_timeout: float | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """How `manage.py` is pointed at a database: the environment and the secrets for `Manage`.

    By the variables that lead it to a login (see `address.leading`). What these do not carry the application's own
    settings say. The session's settings are given by PGOPTIONS: libpq hands them to the server unless the settings'
    OPTIONS have `options` of their own (https://www.postgresql.org/docs/current/libpq-envars.html).

    Args:
        lock_timeout: seconds, for a migration, which no other timeout of the server may cut then; None leaves the
            server's settings as they are.
    """
    # While writes are stopped the database's default is read-only; the migration is the one that may write.
    options = "-c default_transaction_read_only=off"
    if lock_timeout is not None:
        options += f" -c lock_timeout={int(lock_timeout * 1000)}"
        # Those that every version has: a session with an option that its server does not know is refused.
        options += " -c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    env, secrets = leading(application, login.at(application.database_address))
    return {"PGOPTIONS": options, **env}, secrets


def applying(output: str) -> str | None:
    """The migration that `migrate` had begun and not ended when its output stopped: `app.0002_name`."""
    begun = list(_APPLYING.finditer(output))
    return begun[-1]["name"] if begun and not _DONE.search(output, begun[-1].end()) else None


def is_named(label: str, printed: str) -> bool:
    """Whether a printed name is that of this migration; a project's own `migrate` may cut long ones off. Pure."""
    return printed == label or (len(printed) >= _CUT_FROM and label.startswith(printed))


def applied(output: str) -> tuple[str, ...]:
    """The migrations that `migrate` said it had applied, in their order: to be told, and never to be judged by.

    What a migration prints itself stands between its name and OK, and may look like a line of Django's own.
    """
    begun = [match["name"] for match in _APPLYING.finditer(output)]
    # Another one is begun only when the one before went well.
    return tuple(begun if applying(output) is None else begun[:-1])


def last_words(text: str, most: int = 400) -> str:
    """The last meaningful line or lines of what a command printed: of a traceback only what was raised.

    PostgreSQL's DETAIL and HINT lines, which stand below the raised line, belong to it.
    """
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    # Of a long one only the end was kept.
    starts = starts or [i for i, line in enumerate(lines) if line.startswith('  File "')]
    if starts:
        after = lines[starts[-1] + 1 :]
        raised = next((i for i, line in enumerate(after) if not line.startswith(" ") and _RAISED.match(line)), None)
        # A line that is not indented and not the raised one does not occur within a traceback's frames.
        words = after[raised:] if raised is not None else after[-1:]
        # Carets and the quoted statement say nothing at this distance from the source.
        words = [line.strip() for line in words if line.strip(" ^~") and not line.startswith("LINE ")]
    else:
        words = [line.strip() for line in lines[-3:]]
    shown = " / ".join(words[:4]) or "it said nothing"
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def explain(result: Result) -> SafepointError:
    """Turn a failed management command into an error that says what happened, where, and what to do next. Pure."""
    # A whole program after `--command` would hide what went wrong.
    command = " ".join(word if len(word) <= 60 else "..." for word in result.command.argv)
    said = "\n".join(part for part in (result.stdout, result.stderr) if part)
    words = last_words(result.stderr if result.stderr.strip() else result.stdout)
    migration = applying(result.stdout)
    where = f" while it applied {migration}" if migration else ""
    subject = migration or command
    if any(sign in said for sign in _LOCK_SIGNS):
        return LockNotAvailable(
            f"`{command}` did not get a lock in time{where}: {words}",
            subject=subject,
            remedy="Find who holds it (`safepoint doctor` lists idle transactions), end that session, then retry.",
        )
    return CommandFailed(
        f"`{command}` failed with exit code {result.code}{where}: {words}",
        subject=subject,
        remedy=_remedy(said, words, migration),
    )


BY_HAND: Final = "Run the command by hand in the release's directory to see all of its output."
"""What is left to do where nothing in the output is known."""

# What stands in the output, and what helps. The first that fits is taken.
_REMEDIES: tuple[tuple[str, str], ...] = (
    ("can't open file", "There is no manage.py at this path: correct `manage` or `directory` of this release."),
    ("Couldn't import Django", "This Python has no Django: name the release's own Python in `manage` (its venv)."),
    ("No module named 'django'", "This Python has no Django: name the release's own Python in `manage` (its venv)."),
    ("Unknown command", "This project has no such command: is the app that brings it in INSTALLED_APPS?"),
    ("password authentication failed", "Check the password that the application's settings (or its URL) carry."),
    ("Connection refused", "Is PostgreSQL running where the application's settings look for it?"),
    ("could not translate host name", "The database's host name in the application's settings is not known here."),
    ("read-only transaction", "The session is read-only: do the settings' OPTIONS carry `options` of their own?"),
    ("permission denied", "The role that migrates does not own this object: migrate with the owner's login."),
    ("must be owner of", "The role that migrates does not own this object: migrate with the owner's login."),
    ("No space left on device", "Make room on the database's disk, then retry."),
    ("remaining connection slots", "Connections are used up: end idle sessions or raise max_connections."),
    ("too many clients", "Connections are used up: end idle sessions or raise max_connections."),
)


def _remedy(said: str, words: str, migration: str | None) -> str:
    known = next((remedy for sign, remedy in _REMEDIES if sign in said), None)
    if known is not None:
        return known
    if re.search(r"database \"[^\"]*\" does not exist", said):
        return "Check the database's name in the application's settings (or in its URL)."
    if "ModuleNotFoundError" in words or "ImportError" in words:
        return "The settings or an app cannot be imported: check DJANGO_SETTINGS_MODULE and what is installed there."
    if "ImproperlyConfigured" in words or "KeyError" in words:
        return "The settings miss a value: give the variables that they read in `env` of this release."
    if migration is not None:
        return f"Correct migration {migration}, or roll back; a migration that is atomic has left nothing behind."
    return BY_HAND


def _not_run(manage: Manage, command: Command, error: CommandFailed) -> CommandFailed:
    program = command.argv[0]
    remedy = error.remedy or (
        f"Is {program!r} there on host {manage.host.name!r}? Name the release's own Python in `manage`."
    )
    return CommandFailed(
        error.message, subject=error.subject or program, expected=error.expected, found=error.found, remedy=remedy
    )
