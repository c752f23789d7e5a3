# mypy: ignore-errors
"""What is installed beside a project's own code: a line for each package. Python 3.8 and newer."""

import hashlib
from importlib.metadata import distributions


def answer(_parameters):
    """`packages`: name, version, and a digest that another build of the same version does not have."""
    found = {}
    for one in distributions():
        told = one.read_text("METADATA") or one.read_text("PKG-INFO") or ""
        # Of two of a name the first one is imported. What setuptools carries for itself comes into sight only once it
        # is loaded.
        name = headed(told, "Name").lower().replace("_", "-")
        if name and name not in found and not str(one.locate_file("")).rstrip("/").endswith("_vendor"):
            # RECORD has the digests of all files; a system's package has none.
            record = one.read_text("RECORD") or told
            found[name] = (headed(told, "Version"), hashlib.sha256(record.encode()).hexdigest())
    return {"packages": [[name, *found[name]] for name in sorted(found)]}


def headed(told, name):
    """A header's value. Python's own parser takes a millisecond for each package."""
    start = name.lower() + ":"
    for line in told.splitlines():
        if not line:
            break
        if line.lower().startswith(start):
            return line[len(start) :].strip()
    return ""
