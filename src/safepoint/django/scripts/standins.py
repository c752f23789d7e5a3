# mypy: ignore-errors
"""Lead every cache that others share away, for the scripts that come after in this process. Django 4.2 to 6.

A rehearsal must not clear, fill or read the live site's caches. What lives in this process, in the database (of the
copy) or in the rehearsal's own folder is left as it is; a cache of files gets a folder there; everything else is
replaced by a cache inside this process.
"""

import hashlib
import re
from pathlib import Path

from django.conf import settings
from django.test import override_settings, signals  # noqa: F401 - `signals` makes Django forget the caches it has
from django.utils.module_loading import import_string


def answer(parameters):
    """Of each cache: its backend, where it is (as digests), whose it is, and whether it was replaced."""
    folder, live = Path(parameters["folder"]), parameters["live"]
    found, caches = [], {}
    for alias, given in settings.CACHES.items():
        places = [digest(place) for place in locations(given)]
        kind = whose(given, places, folder, live)
        found.append({"alias": alias, "backend": given.get("BACKEND", ""), "kind": kind, "places": places})
        caches[alias] = given if kind != "shared" else instead(alias, given, folder)
    if parameters["replace"]:
        override_settings(CACHES=caches, SAFEPOINT_STAND_INS=True).enable()
    return {"caches": found}


def locations(given):
    """Where a cache is: one place, or several servers."""
    place = given.get("LOCATION") or ""
    return [str(one) for one in place] if isinstance(place, (list, tuple)) else re.split("[;,]", str(place))


def digest(place):
    """An address may hold a password: it is only compared."""
    return hashlib.sha256(place.encode()).hexdigest()


def whose(given, places, folder, live):
    """`private` to the process, in the `copy`, the rehearsal's `own`, or `shared` with the live site (or unknown)."""
    names = kinds(given)
    if names & {"LocMemCache", "DummyCache"}:
        return "private"
    if "DatabaseCache" in names:
        return "copy"
    if "FileBasedCache" in names and inside(given.get("LOCATION") or "", folder):
        return "own"
    elsewhere = live is not None and not set(live) & set(places)
    return "own" if elsewhere else "shared"


def kinds(given):
    """The names of Django's own backends that this one is made from."""
    try:
        parents = import_string(given["BACKEND"]).__mro__
    except Exception:
        return set()
    return {kind.__name__ for kind in parents if kind.__module__.startswith("django.core.cache.backends.")}


def inside(place, folder):
    """Whether a path is below the folder."""
    return folder.resolve() in Path(place).resolve().parents


def instead(alias, given, folder):
    """The same with its entries elsewhere; options of another kind of cache would not be understood."""
    kept = {name: given[name] for name in ("KEY_PREFIX", "VERSION", "TIMEOUT", "KEY_FUNCTION") if name in given}
    if "FileBasedCache" in kinds(given):
        place = folder / "caches" / hashlib.sha256(alias.encode()).hexdigest()[:16]
        return {**kept, "BACKEND": given["BACKEND"], "LOCATION": str(place), "OPTIONS": given.get("OPTIONS", {})}
    backend = "django.core.cache.backends.locmem.LocMemCache"
    return {**kept, "BACKEND": backend, "LOCATION": "safepoint-" + alias}
