"""A fact of the ledger as HTML: whatever a step proved, in the form in which a person reads it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any, Final, TypeGuard
from zoneinfo import ZoneInfo

from safepoint.config.durations import format_bytes

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d(:?\d\d)?")


def in_zone(value: Any, zone: str) -> Any:
    """A fact whose moments are as the clocks of a zone showed them: the page says that its times are these."""
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return f"{datetime.fromisoformat(value).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return {name: in_zone(item, zone) for name, item in value.items()}
    return [in_zone(item, zone) for item in value] if isinstance(value, list | tuple) else value


def shown(name: Any, value: Any) -> str:
    """A fact as HTML: sizes and counts as people read them, anything nested as JSON."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int | float):
        if str(name) in ("bytes", "size") or str(name).endswith("_bytes"):
            return f"{format_bytes(value)} ({value:,} bytes)"
        return f"{value:,}"
    if _flat(value):
        return _grid(value)
    if isinstance(value, list | tuple | dict):
        simple = isinstance(value, list) and all(isinstance(item, str | int) for item in value)
        text = "\n".join(map(str, value)) if simple else json.dumps(value, indent=1, ensure_ascii=False)
        return f"<pre>{escape(text)}</pre>"
    return escape(str(value))


def _flat(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    """Whether this is a list of records without anything nested in them."""
    records = isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value)
    return bool(records) and not any(isinstance(field, list | dict) for item in value for field in item.values())


def _grid(records: list[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for record in records for name in record))
    head = "".join(f"<th>{escape(str(column).replace('_', ' '))}</th>" for column in columns)
    rows = "".join(
        "<tr>" + "".join(f'<td class="long">{shown(c, record.get(c))}</td>' for c in columns) + "</tr>"
        for record in records
    )
    return f'<table class="grid"><tr>{head}</tr>{rows}</table>'


def listing(name: str, items: list[Any], most: int = 200, *, count: int | None = None) -> str:
    """What is affected, folded; the whole list, of `count` where these are the first only, stands in the file."""
    count = len(items) if count is None else count
    if not isinstance(items[0], Mapping):
        items = [{name: item} for item in items]
    left = count - min(most, len(items))
    more = f'<p class="quiet">{left:,} more stand in the file.</p>' if left > 0 else ""
    return (
        f'<details><summary><h3 style="display:inline">{escape(name)} ({count:,})</h3></summary>'
        f'<div class="frame">{_grid(items[:most])}{more}</div></details>'
    )
