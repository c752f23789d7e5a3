"""What is installed beside a release's own code: libraries may have migrations and models, and run all of it."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from typing import Final

from safepoint.django.managepy import Manage
from safepoint.django.piped import ask, interpreter, source
from safepoint.progress import Cancelled

_SECONDS: Final = 120.0


def installed(manage: Manage, cancelled: Cancelled) -> bytes:
    """A line for each package that the release's Python finds, by name: a digest, two spaces, name and version.

    Raises:
        CommandFailed: it cannot be asked.
    """
    packages = _by_python(manage, cancelled)
    if packages is None:
        packages = ask(manage, "installed", {}, timeout=_SECONDS, cancelled=cancelled)["packages"]
    return "".join(f"{digest}  {name} {version}\n" for name, version, digest in packages).encode()


def _by_python(manage: Manage, cancelled: Cancelled) -> list[list[str]] | None:
    """Without the application, whose start takes many times as long; None where that is not to be had."""
    if not (python := interpreter(manage)):
        return None
    marker = secrets.token_hex(8)
    program = f"{source('installed')}\nimport json\nprint({marker!r} + json.dumps(answer({{}})) + {marker!r})"
    command = replace(manage.command(), argv=(*python, "-c", program))
    said = manage.host.run(command, check=False, timeout=_SECONDS, cancelled=cancelled).stdout.split(marker)
    return json.loads(said[1])["packages"] if len(said) == 3 else None
