"""How an error is said to a person at the terminal, or to a program that asked for JSON."""

from __future__ import annotations

import sys

import typer

from safepoint.errors import SafepointError


def say(error: SafepointError) -> None:
    """One clear message with the next action; never a traceback."""
    if "--json" in sys.argv:
        import json

        typer.echo(json.dumps(error.as_json()))
        return
    lines = [f"safepoint: {error.message}"]
    labels = (("expected", error.expected), ("found", error.found), ("next", error.remedy))
    lines += [f"  {label + ':':<10}{value}" for label, value in labels if value is not None]
    typer.echo("\n".join(lines), err=True)
