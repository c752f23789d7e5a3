# mypy: ignore-errors
"""What is installed beside a project's own code: a line for each package. Python 3.8 and newer."""

import hashlib
from importlib.metadata import distributions


def answer(_parameters):
    """`packages`: name, version, and a digest that another build of the same version does not have."""
    found = {}
    for one in distributions():
        # Of two of a name the first one is imported. What setuptools carries for itself comes into sight only once it
        # is loaded.
        name = (one.metadata["Name"] or "").lower().replace("_", "-")
        if name and name not in found and not str(one.locate_file("")).rstrip("/").endswith("_vendor"):
            found[name] = (one.version, digest(one))
    return {"packages": [[name, *found[name]] for name in sorted(found)]}


def digest(package):
    """RECORD has the digests of all files; a system's package has none."""
    texts = (package.read_text(name) for name in ("RECORD", "METADATA", "PKG-INFO"))
    return hashlib.sha256(next(filter(None, texts), "").encode()).hexdigest()
