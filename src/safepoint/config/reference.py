"""Every setting of the plan file by its key: what it takes, what holds without it, what it means. From the models
themselves, so that there is nothing to keep in step.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from safepoint.config.durations import Moment
from safepoint.config.plan_file import PlanFile
from safepoint.config.section import Section

_WORDS = {"string": "text", "boolean": "true or false", "integer": "whole number", "path": "file or folder"}
_WHOLE_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


@dataclass(frozen=True)
class Setting:
    """One key. `takes` is in words; `default` is as TOML writes it, None where there is none."""

    key: str
    takes: str
    default: str | None
    required: bool
    meaning: str


@dataclass(frozen=True)
class Table:
    """One table of the plan file: `header` as it stands there, `[[stores]]`; `kind` where it comes in several kinds."""

    header: str
    kind: str | None
    required: bool
    meaning: str
    settings: tuple[Setting, ...]

    @property
    def name(self) -> str:
        """Its dotted name: `wayback.server`, `hosts.NAME`."""
        return self.header.strip("[]")

    def only(self, key: str) -> Table | None:
        """What is called `key` (`snapshot`, `wayback.twin`), as far as it is of this table; None if nothing is."""
        if self.name == key or self.name.startswith(f"{key}."):
            return self
        found = tuple(one for one in self.settings if f"{self.name}.{one.key}" == key or one.key == key)
        return Table(self.header, self.kind, self.required, self.meaning, found) if found else None


def tables() -> tuple[Table, ...]:
    """All tables, each before those inside it, in the order of the plan file's model."""
    return tuple(_tables_of(PlanFile, ()))


def json_schema() -> dict[str, Any]:
    """A JSON Schema of the plan file with all meanings in it, as editors use it for TOML."""
    schema = PlanFile.model_json_schema()
    for model in _models(PlanFile):
        part = schema if model is PlanFile else schema["$defs"][model.__name__]
        for name, meaning in meanings(model).items():
            if name in part["properties"]:
                part["properties"][name]["description"] = meaning
        for name, field in model.model_fields.items():
            if field.default is not None and name in part["properties"] and "default" in part["properties"][name]:
                part["properties"][name]["default"] = _plain(field.default)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


@cache
def meanings(model: type[Section]) -> Mapping[str, str]:
    """The text below each field of a model and of those that it inherits from."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not (issubclass(base, Section) and base is not Section):
            continue
        body = cast("ast.ClassDef", ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]).body
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = _flowing(ast.literal_eval(text.value))
    return found


def _tables_of(model: type[Section], within: tuple[str, ...]) -> Iterator[Table]:
    for name, field in model.model_fields.items():
        inside = _sections(field)
        if not inside or name == "invariants":  # which is a query as a rule
            continue
        path = (*within, name)
        held_in = get_origin(field.annotation)
        if held_in is dict:
            path = (*path, "TABLE" if name == "tables" else "NAME")
        header = f"[[{'.'.join(path)}]]" if held_in is tuple else f"[{'.'.join(path)}]"
        for one in inside:
            kind = str(get_args(one.model_fields["kind"].annotation)[0]) if len(inside) > 1 else None
            settings = tuple(_settings(one))
            meaning = "\n\n".join(filter(None, [meanings(model).get(name), _flowing(inspect.getdoc(one) or "")]))
            if settings:
                yield Table(header, kind, field.is_required(), meaning, settings)
            yield from _tables_of(one, path)


def _settings(model: type[Section]) -> Iterator[Setting]:
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        if name == "kind" or (_sections(field) and name != "invariants"):
            continue
        default = None if field.is_required() or field.default_factory is not None else field.default
        shown = None if default is None or default in ((), {}) else _toml(_plain(default))
        yield Setting(name, _takes(properties[name]), shown, field.is_required(), meanings(model)[name])


def _sections(field: FieldInfo) -> list[type[Section]]:
    """The models that a field's annotation holds."""

    def within(annotation: Any) -> Iterator[type[Section]]:
        if inspect.isclass(annotation) and issubclass(annotation, Section):
            yield annotation
        for part in get_args(annotation):
            yield from within(part)

    return list(within(field.annotation))


def _models(model: type[Section]) -> Iterator[type[Section]]:
    yield model
    for field in model.model_fields.values():
        for one in _sections(field):
            yield from _models(one)


def _takes(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words. Pure."""
    if "anyOf" in schema:
        parts = [_takes(part) for part in schema["anyOf"] if part.get("type") != "null" and "$ref" not in part]
        return _either(parts)
    if "enum" in schema:
        return _either([json.dumps(value) for value in schema["enum"]])
    title = schema.get("title", "")
    if title[:1].islower():  # one of ours: pydantic's own are names with a capital letter
        return str(title)
    kind = str(schema.get("format") or schema["type"])
    if kind == "array":
        return f"list, each {_takes(schema['items'])}"
    if kind == "object":
        inner = schema["additionalProperties"]
        return f"table, each {_takes(inner)}" if isinstance(inner, dict) else "table"
    return _WORDS.get(kind, kind) + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']:g} to {schema['maximum']:g}"
    words = {"minimum": "{:g} or more", "exclusiveMinimum": "above {:g}", "maximum": "{:g} at most"}
    said = [text.format(schema[key]) for key, text in words.items() if key in schema]
    return f", {', '.join(said)}" if said else ""


def _either(words: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _plain(value: Any) -> Any:
    """A default as JSON and TOML can hold it."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return next((f"{seconds / size:g}{unit}" for size, unit in _WHOLE_UNITS if seconds % size == 0), f"{seconds}s")
    if isinstance(value, Section):
        return {name: _plain(part) for name, part in value}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Moment | Path) else value


def _toml(value: Any) -> str:
    """TOML's strings and lists are written like JSON's; a literal string keeps an expression readable. Pure."""
    return f"'{value}'" if isinstance(value, str) and "\\" in value else json.dumps(value)


def _flowing(text: str) -> str:
    """A docstring as a paragraph or several. Pure."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))
