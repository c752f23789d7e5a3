"""How something is said to a person at the terminal, or to a program that asked for JSON."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Final

import typer

from safepoint.cli.streams import Unanswered
from safepoint.errors import SafepointError
from safepoint.launch.typed import typed

# Control characters but for line ends and tabs, and those that turn the direction of text round: what a database or a
# log holds would else clear the screen, set the terminal's title, or show a line that we did not write.
_ACTS: Final = dict.fromkeys(
    {*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)} - {ord("\t"), ord("\n")}, "?"
)


def visible(text: str) -> str:
    """A text as a terminal may get it. Pure."""
    return text if text.isprintable() else text.replace("\r\n", "\n").translate(_ACTS)


def echo(text: str, *, err: bool = False, nl: bool = True) -> bool:
    """Print a text for people or, as JSON, for programs.

    Returns:
        False where whoever read has gone (`| head`): what the command did is done, and its exit code says how.
    """
    plan = _inside_json(plan_typed()) if asks_for_json() else plan_typed()
    try:
        typer.echo(visible(typed(text, plan)), err=err, nl=nl)
    except BrokenPipeError:
        let_go(1 + err)
        return False
    return True


def let_go(number: int) -> None:
    """Write nothing more to a stream that nobody reads: what is buffered still would raise when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def asks_for_json() -> bool:
    """Whether a program reads what this process answers."""
    return "--json" in sys.argv


def plan_typed() -> str:
    """The plan file that this command was given, which those that are named as the next ones need as well."""
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        if word == "--plan":
            return following
        if word.startswith("--plan="):
            return word.removeprefix("--plan=")
    return ""


def _inside_json(text: str) -> str:
    import json

    return json.dumps(text)[1:-1]


def say(error: SafepointError) -> None:
    """One clear message with the next action; never a traceback, nor another end, where nobody can be told."""
    if asks_for_json() and not isinstance(error, Unanswered):
        import json

        with suppress(OSError, Unanswered):  # then it is said as to a person
            if echo(json.dumps(error.as_json())):
                return
    lines = [f"safepoint: {error.message}"]
    labels = (("expected", error.expected), ("found", error.found), ("next", error.remedy))
    lines += [f"  {label + ':':<10}{value}" for label, value in labels if value is not None]
    with suppress(OSError):
        echo("\n".join(lines), err=True)
