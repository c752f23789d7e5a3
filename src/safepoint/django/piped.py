"""Piping a self-contained script into `manage.py shell`: nothing is installed on the application's side."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any, Final, Protocol

from safepoint.django.managepy import BY_HAND, Manage, explain, last_words
from safepoint.errors import CommandFailed, SafepointError
from safepoint.hosts.command import Result

MIGRATIONS_SECONDS: Final = 3600.0
"""How long a question may take whose work grows with the migrations and the models: many minutes where both are many.
It is asked outside the window, and can be cancelled."""

# `shell` looks at its standard input only once and without waiting (select with a timeout of 0): over SSH, or in
# a container, the script may not have arrived yet and an interactive shell would open. `--command` goes before that
# look, and reads until the script has come whole.
_READ = "import json, sys; work = json.loads(sys.stdin.read()); exec(work['frame'], {'work': work})"
# For a process that waits: one package a line, until the input ends.
_READ_EACH = "import json, sys; [exec(work['frame'], {'work': work}) for work in map(json.loads, sys.stdin)]"


# Runs the program that follows, a file or a module, with Django's own `shell` in the place of the project's.
_AS_DJANGO = """
import os, runpy, sys
import django.core.management as management
load = management.load_command_class
management.load_command_class = lambda app, name: load("django.core" if name == "shell" else app, name)
del sys.argv[0]
"""
_AS_DJANGO_FILE = _AS_DJANGO + (
    "sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0])); runpy.run_path(sys.argv[0], run_name='__main__')"
)
_AS_DJANGO_MODULE = _AS_DJANGO + "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
# What a script imports as `safepoint_NAME`, beside Django and Python's own.
_PARTS: Final = {"operations": ("tables",), "sql": ("tables", "narrow")}
# The projects of which it is known that Django's own has to be put there.
_with_their_own: set[tuple[str, ...]] = set()


class Waiting(Protocol):
    """A process that has loaded the application already: `standby.Standby` is one."""

    def ready(self, seconds: float = 0.0) -> bool:
        """Whether it waits for work."""
        ...

    def ask(
        self,
        script: str,
        parameters: Mapping[str, Any],
        *,
        timeout: float | None = 120,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[str, Any]:
        """As `ask` below."""
        ...

    def ask_all(
        self,
        scripts: Mapping[str, Mapping[str, Any]],
        *,
        timeout: float | None = 120,
        cancelled: Callable[[], bool] | None = None,
    ) -> dict[str, dict[str, Any] | CommandFailed]:
        """As `ask_all` below."""
        ...


def shell(program: str) -> tuple[str, ...]:
    """The words that run a program in the application. Pure.

    By their long names: an installed product's own command line may keep short ones (`-c` for its settings) for itself.
    """
    return ("shell", "--verbosity", "0", "--command", program)


def read_work(loaded: str, *, lasting: bool = True) -> str:
    """The program for `shell` that first says the word `loaded`: the application is loaded, and work may come. Pure."""
    return f"import os; os.write(1, {loaded.encode()!r} + b'\\n'); {_READ_EACH if lasting else _READ}"


def asked(manage: Manage) -> Manage:
    """As its `shell` is to be called: one that is not Django's may ask for words that only that project knows."""
    return (djangos_own(manage) or manage) if _key(manage) in _with_their_own else manage


def djangos_own(manage: Manage) -> Manage | None:
    """The same project with Django's own `shell`; None where `manage` names no Python and program. Pure."""
    python, program = interpreter(manage), manage.release.manage[-1]
    if not python:
        return None
    as_django = _AS_DJANGO_MODULE if manage.release.manage[-2] == "-m" else _AS_DJANGO_FILE
    words = (*python, "-c", as_django, program)
    return replace(manage, release=manage.release.model_copy(update={"manage": words}))


def interpreter(manage: Manage) -> tuple[str, ...]:
    """The words before the program that start the project's Python; none where `manage` does not name it. Pure."""
    *python, program = manage.release.manage
    if python[1:] and python[-1] == "-m":
        return tuple(python[:-1])
    return tuple(python) if program.endswith(".py") else ()


def _key(manage: Manage) -> tuple[str, ...]:
    return (manage.host.name, manage.command().directory or "", *manage.release.manage)


@cache
def source(name: str) -> str:
    """The text of one of the scripts of `safepoint.django.scripts`."""
    return files("safepoint.django.scripts").joinpath(f"{name}.py").read_text(encoding="utf-8")


def package(scripts: Mapping[str, Mapping[str, Any]], marker: str) -> bytes:
    """What goes to the standard input: frame, scripts with parts and parameters, and marker, as ASCII JSON. Pure."""
    given = {
        name: {
            "script": source(name),
            "parts": {part: source(part) for part in _PARTS.get(name, ())},
            "parameters": dict(parameters),
        }
        for name, parameters in scripts.items()
    }
    return json.dumps({"frame": source("frame"), "scripts": given, "marker": marker}).encode("ascii")


def unwrap(output: str, marker: str) -> dict[str, Any] | None:
    """The scripts' replies from everything that was printed; None when there is none. Pure."""
    parts = output.split(marker)
    if len(parts) < 3:
        return None
    replies: dict[str, Any] = json.loads(parts[-2])
    return replies


def ask(
    manage: Manage,
    script: str,
    parameters: Mapping[str, Any],
    *,
    timeout: float | None = 120,
    cancelled: Callable[[], bool] | None = None,
    standby: Waiting | None = None,
) -> dict[str, Any]:
    """Run a script of `safepoint.django.scripts` inside the application and give back its answer.

    Args:
        standby: a process of the same `manage` that waits already; where it does not any more, one is started.

    Raises:
        CommandFailed: `manage.py` failed before the script ran, the script raised, or no answer came.
    """
    if standby is not None and standby.ready():
        return standby.ask(script, parameters, timeout=timeout, cancelled=cancelled)
    answer = ask_all(manage, {script: parameters}, timeout=timeout, cancelled=cancelled)[script]
    if isinstance(answer, CommandFailed):
        raise answer
    return answer


def ask_all(
    manage: Manage,
    scripts: Mapping[str, Mapping[str, Any]],
    *,
    timeout: float | None = 120,
    cancelled: Callable[[], bool] | None = None,
    standby: Waiting | None = None,
) -> dict[str, dict[str, Any] | CommandFailed]:
    """Run several scripts one after the other in one start of the application: an answer, or its error, for each.

    Args:
        standby: as for `ask`.

    Raises:
        CommandFailed: `manage.py` failed before a script ran, or no answer came.
    """
    if standby is not None and standby.ready():
        return standby.ask_all(scripts, timeout=timeout, cancelled=cancelled)
    marker, loaded = (f"<<safepoint-{word}{secrets.token_hex(8)}>>" for word in ("", "loaded-"))
    stdin, program = package(scripts, marker), read_work(loaded, lasting=False)

    def tried(way: Manage) -> Result:
        return way.run(*shell(program), check=False, stdin=stdin, timeout=timeout, cancelled=cancelled)

    result = tried(asked(manage))
    # Nothing of ours was begun, so it can be tried again.
    if loaded not in result.stdout and asked(manage) is manage and (other := djangos_own(manage)) is not None:
        again = tried(other)
        if loaded in again.stdout:
            _with_their_own.add(_key(manage))
            result = again
    answers = answers_in(manage, result.stdout, marker)
    if answers is not None:
        return answers
    raise _unanswered(manage, result, begun=loaded in result.stdout)


def _unanswered(manage: Manage, result: Result, *, begun: bool) -> SafepointError:
    error: SafepointError
    if result.code != 0:
        error = explain(result)
        if begun or error.remedy != BY_HAND:
            return error
    else:
        error = CommandFailed(f"manage.py shell ended without an answer: {last_words(result.stdout + result.stderr)}")
    error.subject = error.subject or " ".join(manage.release.manage)
    error.remedy = (
        f"{BY_HAND} Where the project has a `shell` of its own, write `manage` as its Python and its program "
        '(["/srv/app/venv/bin/python", "manage.py"], or with "-m"): then it is asked by Django\'s.'
    )
    return error


def answers_in(manage: Manage, output: str, marker: str) -> dict[str, dict[str, Any] | CommandFailed] | None:
    """Each script's answer, or its error, from everything that was printed; None when there is none. Pure."""
    replies = unwrap(output, marker)
    return None if replies is None else {name: _answer(manage, reply) for name, reply in replies.items()}


def _answer(manage: Manage, reply: dict[str, Any]) -> dict[str, Any] | CommandFailed:
    if "error" in reply:
        error = reply["error"]
        return CommandFailed(
            f"The application could not answer: {error['kind']}: {manage.command().scrub(str(error['message']))}",
            subject=" ".join(manage.release.manage),
            remedy="Run `manage.py check` by hand in the release's directory.",
        )
    answer: dict[str, Any] = reply["answer"]
    return answer
