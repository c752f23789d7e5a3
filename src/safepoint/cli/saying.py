"""How something is said to a person at the terminal, or to a program that asked for JSON."""

from __future__ import annotations

import sys
from typing import Final

import typer

from safepoint.errors import SafepointError

# Control characters but for line ends and tabs, and those that turn the direction of text round: what a database or a
# log holds would else clear the screen, set the terminal's title, or show a line that we did not write.
_ACTS: Final = dict.fromkeys(
    {*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)} - {ord("\t"), ord("\n")}, "?"
)


def visible(text: str) -> str:
    """A text as a terminal may get it. Pure."""
    return text if text.isprintable() else text.replace("\r\n", "\n").translate(_ACTS)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text for people or, as JSON, for programs."""
    typer.echo(visible(text), err=err, nl=nl)


def say(error: SafepointError) -> None:
    """One clear message with the next action; never a traceback."""
    if "--json" in sys.argv:
        import json

        echo(json.dumps(error.as_json()))
        return
    lines = [f"safepoint: {error.message}"]
    labels = (("expected", error.expected), ("found", error.found), ("next", error.remedy))
    lines += [f"  {label + ':':<10}{value}" for label, value in labels if value is not None]
    echo("\n".join(lines), err=True)
