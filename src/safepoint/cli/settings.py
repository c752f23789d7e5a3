"""`safepoint settings`: what can be written into launch.toml, with each key's meaning and default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from safepoint.cli.saying import echo
from safepoint.errors import PlanFileError

if TYPE_CHECKING:
    from safepoint.config.reference import Setting, Table

_INTRODUCTION = """\
# launch.toml, key by key

`safepoint init` drafts the file from your project's own settings; this page is what `safepoint settings` prints.
`safepoint settings KEY` (such as `wayback` or `snapshot.max_age`) shows one part, and `--json` a JSON Schema, which
editors with TOML support use to complete and check the file.

Durations are written `500ms`, `90s`, `10m`, `1h 30m`, `30d`, and moments of the timetable `T-1 18:00`. A command is a
list with a word for each argument. Relative paths start in the plan file's folder. Passwords never stand in it: only
the names of variables that have them. Unknown keys are refused.
"""


def settings(
    key: Annotated[str, typer.Argument(help="Only this table or key, such as wayback or snapshot.max_age.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="The whole as a page in Markdown.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="A JSON Schema of the plan file, for editors.")] = False,
) -> None:
    """What can be written into launch.toml: each key, what it takes, what holds without it, what it means."""
    from safepoint.config.reference import json_schema, tables

    wanted = key.strip("[]")
    found = [part for table in tables() if (part := table.only(wanted) if wanted else table) is not None]
    if not found:
        raise PlanFileError(
            f"launch.toml has no table and no key {key!r}.",
            subject=key,
            expected=", ".join(dict.fromkeys(table.name for table in tables())),
            remedy="Name one of these tables, or look through all of it with `safepoint settings`.",
        )
    if json_:
        import json

        echo(json.dumps(json_schema(), indent=2))
        return
    if markdown:
        echo("\n".join(as_markdown(tables())))
        return
    echo("\n\n".join("\n".join(_lines(table)) for table in found))


def _lines(table: Table) -> Iterator[str]:
    yield _headline(table)
    yield from _wrapped(table.meaning, "  ")
    for one in table.settings:
        yield ""
        yield f"  {one.key}: {one.takes}{_otherwise(one)}"
        yield from _wrapped(one.meaning, "      ")


def _headline(table: Table) -> str:
    return (
        table.header + (f'  kind = "{table.kind}"' if table.kind else "") + ("  (required)" if table.required else "")
    )


def _otherwise(one: Setting) -> str:
    if one.required:
        return "; required"
    return "" if one.default is None else f"; default {one.default}"


def _wrapped(text: str, indent: str) -> list[str]:
    wrap = partial(textwrap.wrap, width=100, initial_indent=indent, subsequent_indent=indent)
    return [line for paragraph in text.split("\n\n") for line in wrap(paragraph)]


def as_markdown(found: Sequence[Table]) -> Iterator[str]:
    """The page of all settings, line by line."""
    yield _INTRODUCTION
    for table in found:
        kind = f' with `kind = "{table.kind}"`' if table.kind else ""
        yield f"## `{table.header}`{kind}{', required' if table.required else ''}\n"
        yield f"{table.meaning}\n"
        yield "| key | takes | without it | meaning |"
        yield "|---|---|---|---|"
        for one in table.settings:
            default = "required" if one.required else f"`{_cell(one.default)}`" if one.default else ""
            yield f"| `{one.key}` | {_cell(one.takes)} | {default} | {_cell(one.meaning)} |"
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
