"""Reading `launch.toml`, with errors that name the line, the key, what was found and what was expected."""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from safepoint.config.day import Launch
from safepoint.config.plan_file import PlanFile
from safepoint.errors import PlanFileError

_HEADER = re.compile(r"^\s*\[(\[)?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*(\"[^\"]+\"|'[^']+'|[A-Za-z0-9_.-]+)\s*=")
_LINE = re.compile(r"\bline (\d+)")
_TAGS = {"here", "compose", "ssh", "caddy", "command"}


def load(path: Path) -> PlanFile:
    """Read and validate a plan file.

    Raises:
        PlanFileError: the file is missing, is not TOML, or does not fit the models. All faults are told at once.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark before the first line
    except FileNotFoundError:
        raise PlanFileError(
            f"There is no plan file {path}.",
            subject=str(path),
            remedy="Go to the folder of yours, or name it with --plan FILE; `safepoint init` writes a new one.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise PlanFileError(
            f"The plan file {path} cannot be read: {said}.",
            subject=str(path),
            expected="a text file in UTF-8 that this user may read",
            remedy="Name the plan file itself with --plan FILE.",
        ) from error
    return parse(text, path)


def parse(text: str, path: Path) -> PlanFile:
    """Validate the text of a plan file; `path` is for messages and for the folder that relative paths start from."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanFileError(
            f"{path}: this is not valid TOML: {error}{_key_at(text, str(error))}.",
            subject=str(path),
            remedy="Correct that line.",
        ) from None
    try:
        return PlanFile.model_validate({**data, "path": path}).read_as(text)
    except ValidationError as error:
        lines = key_lines(text)
        faults = [_fault(path, lines, dict(e)) for e in _root_causes(error)]
        these = "this key" if len(faults) == 1 else f"these {len(faults)} keys"
        raise PlanFileError(
            "\n".join(faults),
            subject=str(path),
            remedy=f"Correct {these} in {path.name}; `safepoint settings` says what each takes.",
        ) from None


def _key_at(text: str, said: str) -> str:
    """Of a line that `tomllib` names, the key that it gives, or the table that it begins."""
    number = _LINE.search(said)
    here = [key for key, line in key_lines(text).items() if number and line == int(number[1])]
    return f", {'.'.join(map(str, here[-1]))}" if here else ""


def state_folders(path: Path) -> list[Path]:
    """Where the state folder of a plan file may be that cannot be used: where it still says so, and by default."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        text = ""
    names = [str(Launch.model_fields["state"].default)]
    if (number := key_lines(text).get(("launch", "state"))) is not None:
        with suppress(tomllib.TOMLDecodeError):
            found: Any = tomllib.loads(text.splitlines()[number - 1])
            names.insert(0, str(found.get("launch", found).get("state", names[0])))
    return list(dict.fromkeys((path.resolve().parent / name).resolve() for name in names))


def _root_causes(error: ValidationError) -> list[ErrorDetails]:
    """The faults without those that only follow: a list whose item is wrong is also told to be too short."""
    found = error.errors(include_url=False)
    deeper = {tuple(e["loc"][:end]) for e in found for end in range(1, len(e["loc"]))}
    return [e for e in found if not (e["type"] == "too_short" and tuple(e["loc"]) in deeper)]


def key_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Map each table and key of a TOML text to its line (from 1), as `tomllib` does not keep them."""
    lines: dict[tuple[str | int, ...], int] = {}
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = tuple(part.strip().strip("\"'") for part in header[2].split("."))
            if header[1]:
                index = counts.get(table, 0)
                counts[table] = index + 1
                lines.setdefault(table, number)
                table = (*table, index)
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            name = key[1]
            parts = [name.strip("\"'")] if name[0] in "\"'" else name.split(".")
            for end in range(1, len(parts) + 1):
                lines.setdefault((*table, *parts[:end]), number)
    return lines


def _fault(path: Path, lines: dict[tuple[str | int, ...], int], error: dict[str, Any]) -> str:
    location = tuple(part for part in error["loc"] if part not in _TAGS)
    line = next((lines[location[:end]] for end in range(len(location), 0, -1) if location[:end] in lines), 1)
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        line = lines.get((*location, "kind"), line)
    key = ".".join(str(part) for part in location) or "(the file as a whole)"
    kind, found = error["type"], error.get("input")
    if kind == "extra_forbidden":
        problem = f"unknown key; {_known_keys(location)}"
    elif kind == "missing":
        problem = "this key is required and is not there"
    else:
        message = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        problem = f"expected {message}" if error["msg"].startswith("Input should be ") else message
        if isinstance(found, str | int | float | bool) and repr(found) not in problem:
            problem += f", found {found!r}"
    return f"{path.name}, line {line}: {key}: {problem}"


def _known_keys(location: tuple[str | int, ...]) -> str:
    model: Any = PlanFile
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return "the table has no such key"
        model = _model_of(field.annotation)
    known = [name for name in getattr(model, "model_fields", {}) if name != "path"]
    return f"known here: {', '.join(known)}" if known else "the table has no such key"


def _model_of(annotation: Any) -> Any:
    if hasattr(annotation, "model_fields"):
        return annotation
    return next((arg for arg in getattr(annotation, "__args__", ()) if hasattr(arg, "model_fields")), annotation)
