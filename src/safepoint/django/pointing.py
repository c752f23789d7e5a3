"""Pointing an application at a copy: by the variables that its settings read, or by settings that are made for it.

Its files are never edited. A project whose settings take the database's address, or a part of it, from no variable
gets a settings module of the rehearsal's own, in a folder of the rehearsal's own: it takes over everything from the
project's settings and puts another address into them. Whether it was obeyed is for the caller to see, before anything
is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from safepoint.config import Application
from safepoint.django.address import Leading, Login, leading
from safepoint.django.inspector import inspect
from safepoint.django.managepy import Manage

VARIABLE: Final = "SAFEPOINT_DATABASE_URL"
_MODULE: Final = "safepoint_pointed_settings"
_OWN: Final = "SAFEPOINT_OWN_SETTINGS"
_NAMES: Final = ("DJANGO_SETTINGS_MODULE", "PYTHONPATH", _OWN)

# Read by the application's Python, which may be 3.8. What leads to another server, or wants its certificate, is left
# out of OPTIONS; options of the session stay, and may write. Nothing is copied from the project's settings, as code
# that they run themselves (to start error reporting, say) reads them while they are half done: Django makes a first
# object of what is there then, and must find it here, too.
_TEXT: Final = f'''"""Made by Safepoint for a rehearsal: the project's own settings, with the database of a copy."""
import os
import sys
from importlib import import_module
from urllib.parse import unquote, urlsplit

_NAME = os.environ["{_OWN}"]


def __dir__():
    return [name for name in dir(sys.modules[_NAME]) if name.isupper()]


def __getattr__(name):
    if not name.isupper():
        raise AttributeError(name)
    found = getattr(sys.modules[_NAME], name)
    return _pointed(found) if name == "DATABASES" else found


def _pointed(databases):
    place = _place(databases["default"])
    return {{alias: _led(one) if _place(one) == place else one for alias, one in databases.items()}}


def _place(database):
    # A second connection to the same database, for logs that outlive a transaction, say, is led along.
    names = ("ENGINE", "HOST", "PORT", "NAME")
    return [str(database.get(name) or "") for name in names] + [(database.get("OPTIONS") or {{}}).get("service")]


def _led(database):
    url = urlsplit(os.environ["{VARIABLE}"])
    options = {{
        name: value
        for name, value in (database.get("OPTIONS") or {{}}).items()
        if not name.startswith("ssl") and name not in ("service", "passfile", "hostaddr")
    }}
    if "options" in options:
        options["options"] += " -c default_transaction_read_only=off"
    return {{
        **database,
        "HOST": url.hostname,
        "PORT": str(url.port),
        "NAME": unquote(url.path[1:]),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "OPTIONS": options,
    }}


import_module(_NAME)
'''


def to_copy(application: Application, login: Login) -> Leading:
    """What leads the application to a login to the copy: its own variables, or the one of settings made for it."""
    return ({}, {VARIABLE: login.url()}) if application.fixed else leading(application, login)


def settings_over(own: Manage, folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Make a settings module over those that a release uses; what its environment needs to use that one.

    Args:
        own: the release with its own settings, on this machine.
        folder: for the module; Python finds it there.
        given: what its environment has besides.

    Raises:
        CommandFailed: the project cannot be started.
    """
    settings = inspect(own).settings
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{_MODULE}.py").write_text(_TEXT, encoding="utf-8")
    found = given.get("PYTHONPATH") or own.release.env.get("PYTHONPATH") or os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(folder), *([found] if found else [])])
    return dict(zip(_NAMES, (_MODULE, path, settings), strict=True))


def only_pointing(application: Application, env: Mapping[str, str]) -> dict[str, str]:
    """Of an environment what `to_copy` and `settings_over` gave."""
    names = _NAMES if _OWN in env else () if application.fixed else application.led_by
    return {name: env[name] for name in names if name in env}
