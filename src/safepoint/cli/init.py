"""`safepoint init`: write a plan file from a Django project, by asking the project itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safepoint.cli.progress import told_when_slow
from safepoint.cli.saying import echo

if TYPE_CHECKING:
    from safepoint.launch.draft import Draft


def init(
    directory: Annotated[Path, typer.Argument(help="The Django project: where manage.py is, or above src/.")] = Path(),
    file: Annotated[Path | None, typer.Option("--file", help="The plan file to write (DIRECTORY/launch.toml).")] = None,
    python: Annotated[str | None, typer.Option("--python", help="The project's own Python (its venv's).")] = None,
    module: Annotated[
        str | None, typer.Option("--module", help="What is run with `python -m` in place of a manage.py.")
    ] = None,
    program: Annotated[
        str | None, typer.Option("--program", help="The command that an installed product has in place of a manage.py.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Answer as JSON.")] = False,
) -> None:
    """Write launch.toml for a Django project. Nothing that is there is overwritten."""
    from safepoint.launch.draft import draft_plan, write_plan

    path = file if file is not None else directory / "launch.toml"
    with told_when_slow("The project is being started and asked for its settings"):
        draft = draft_plan(directory, path, python=python, module=module, program=program)
    write_plan(draft, path)
    if json_:
        import json

        echo(json.dumps({"file": str(path), "look_at": list(draft.look_at), "known": draft.known}))
        return
    render(draft, path)


def render(draft: Draft, path: Path) -> None:
    """What was found, and what a person has to look at."""
    from safepoint.cli.terminal import Terminal

    console = Terminal()
    console.print(f"Wrote {path}")
    for name, value in draft.known.items():
        console.print(f"  {name}: {value}", markup=False)
    console.print("\nLook at these keys (marked LOOK in the file):", style="bold")
    for key in draft.look_at:
        console.print(f"  {key}", markup=False)
    console.print(f"\nThen: safepoint doctor --plan {path}", markup=False)
