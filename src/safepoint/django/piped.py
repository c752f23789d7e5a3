"""Piping a self-contained script into `manage.py shell`: nothing is installed on the application's side."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from safepoint.django.managepy import Manage, explain, last_words
from safepoint.errors import CommandFailed

if TYPE_CHECKING:
    from safepoint.django.standby import Standby

# `shell` looks at its standard input only once and without waiting (select with a timeout of 0): over SSH, or in
# a container, the script may not have arrived yet and an interactive shell would open. `-c` goes before that
# look, and reads until the script has come whole.
_READ = "import json, sys; work = json.loads(sys.stdin.read()); exec(work['frame'], {'work': work})"


# For a process that waits: one package a line, until the input ends.
_READ_EACH = "import json, sys; [exec(work['frame'], {'work': work}) for work in map(json.loads, sys.stdin)]"


def read_work(loaded: str) -> str:
    """The program for `-c` that first says the word `loaded`: the application is loaded, and work may come. Pure."""
    return f"import os; os.write(1, {loaded.encode()!r} + b'\\n'); {_READ_EACH}"


@cache
def source(name: str) -> str:
    """The text of one of the scripts of `safepoint.django.scripts`."""
    return files("safepoint.django.scripts").joinpath(f"{name}.py").read_text(encoding="utf-8")


def package(scripts: Mapping[str, Mapping[str, Any]], marker: str) -> bytes:
    """What goes to the standard input: frame, scripts with their parameters, and marker, as ASCII JSON. Pure."""
    given = {name: {"script": source(name), "parameters": dict(parameters)} for name, parameters in scripts.items()}
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
    standby: Standby | None = None,
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
    standby: Standby | None = None,
) -> dict[str, dict[str, Any] | CommandFailed]:
    """Run several scripts one after the other in one start of the application: an answer, or its error, for each.

    Args:
        standby: as for `ask`.

    Raises:
        CommandFailed: `manage.py` failed before a script ran, or no answer came.
    """
    if standby is not None and standby.ready():
        return standby.ask_all(scripts, timeout=timeout, cancelled=cancelled)
    marker = f"<<safepoint-{secrets.token_hex(8)}>>"
    stdin = package(scripts, marker)
    result = manage.run("shell", "-v", "0", "-c", _READ, check=False, stdin=stdin, timeout=timeout, cancelled=cancelled)
    answers = answers_in(manage, result.stdout, marker)
    if answers is not None:
        return answers
    if result.code != 0:
        raise explain(result)
    raise CommandFailed(
        f"manage.py shell ended without an answer: {last_words(result.stdout + result.stderr)}",
        subject=" ".join(manage.release.manage),
        remedy="Does the project replace Django's own `shell` command? Safepoint asks its questions through it.",
    )


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
