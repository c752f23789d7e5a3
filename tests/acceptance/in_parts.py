"""The accounting site as most projects are: its settings read the database's address in parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from stage import Stage

# Of DATABASE_URL, which the tests ask the database by, nothing is left for the site.
SETTINGS = """
import os
os.environ["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nowhere"
from accounting.settings import *
DATABASES["default"].update(
    HOST=os.environ["DB_HOST"], PORT=os.environ.get("DB_PORT", "5432"), NAME=os.environ["DB_NAME"],
    USER=os.environ["DB_USER"], PASSWORD=os.environ["DB_PASSWORD"],
)
"""
PARTS = {"host": "DB_HOST", "port": "DB_PORT", "name": "DB_NAME", "user": "DB_USER", "password": "DB_PASSWORD"}


def named(parts: Mapping[str, str] = PARTS) -> Callable[[str], str]:
    """The demo's plan, led by these variables."""
    lines = "".join(f'{part} = "{name}"\n' for part, name in parts.items())
    return lambda text: text.replace('url_env = "DATABASE_URL"', "#") + f"\n[application.variables]\n{lines}"


def go_by_parts(stage: Stage) -> None:
    """Start release 1.0 anew with settings that read parts, as 2.0 will be."""
    place = stage.folder / "settings"
    place.mkdir()
    (place / "in_parts.py").write_text(SETTINGS)
    url = urlsplit(stage.environment["DATABASE_URL"])
    password = unquote(url.password or "")
    values = (url.hostname, url.port, url.path[1:], url.username, password)
    stage.environment |= {name: str(value) for name, value in zip(PARTS.values(), values, strict=True)}
    path = os.environ.get("PYTHONPATH")
    stage.environment |= {
        "DJANGO_SETTINGS_MODULE": "in_parts",
        "PYTHONPATH": os.pathsep.join([str(place), *([path] if path else [])]),
    }
    old = stage.plan.releases.old
    stage.run(old, *old.stop)
    stage.run(old, *old.start)
