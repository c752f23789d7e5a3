# mypy: ignore-errors
"""Clear every cache of the project and prove it: one start of Django for all of it. Django 4.2 to 6."""

import contextlib
import io
import time

from django.conf import settings
from django.core.cache import caches
from django.core.management import call_command, get_commands


def answer(parameters):
    """Set a key in each cache, run the commands that exist, and look whether the keys are gone.

    `apart`: nothing happens unless `standins` has led the caches away; `apps` whose commands are run (None: any).
    """
    if parameters.get("apart") and not getattr(settings, "SAFEPOINT_STAND_INS", False):
        raise RuntimeError("the caches could not be led away from the live ones; nothing was cleared")
    key, began = parameters["key"], time.monotonic()
    before = {alias: attempt(put, alias, key) for alias in settings.CACHES}
    ran, unknown, left, said = run(parameters["commands"], parameters.get("apps"))
    found = []
    for alias in settings.CACHES:
        found.append(dict(look(alias, key, before[alias]), alias=alias, backend=settings.CACHES[alias]["BACKEND"]))
    seconds = round(time.monotonic() - began, 3)
    return {"ran": ran, "unknown": unknown, "left": left, "said": said, "caches": found, "seconds": seconds}


def put(alias, key):
    """Set the key; True when it can be read back."""
    caches[alias].set(key, "here", 300)
    return caches[alias].get(key) == "here"


def run(commands, apps):
    """Call each command that the project has, its output kept apart; those of other apps than these are left out."""
    known = get_commands()
    ran, unknown, left, said = [], [], [], io.StringIO()
    for command in commands:
        if command[0] not in known:
            unknown.append(command)
            continue
        app = known[command[0]]
        if apps is not None and (app if isinstance(app, str) else type(app).__module__) not in apps:
            left.append(command)
            continue
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            call_command(*command)
        ran.append(command)
    return ran, unknown, left, said.getvalue()[-2000:]


def look(alias, key, held):
    """Whether the key is gone; where it is not, the cache's own `clear` is tried."""
    if held is not True:
        return {"held": False, "gone": None, "fallback": False, "error": held or None}
    gone = attempt(absent, alias, key)
    if gone is True:
        return {"held": True, "gone": True, "fallback": False, "error": None}
    attempt(caches[alias].clear)
    gone = attempt(absent, alias, key)
    return {"held": True, "gone": gone is True, "fallback": True, "error": gone if isinstance(gone, str) else None}


def absent(alias, key):
    """True when the key is not there any more."""
    return caches[alias].get(key) is None


def attempt(function, *arguments):
    """The function's answer, or what it raised as a text: a cache server may be down."""
    try:
        return function(*arguments)
    except Exception as error:
        return type(error).__name__ + ": " + str(error)
