"""The code of a release as it was frozen: by the content of its files, without what is no code among them.

Uploads, caches, logs and Safepoint's own state may lie in a release's folder, and change all day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

from safepoint.config import HereHost, PlanFile, Release
from safepoint.django.inspector import Project
from safepoint.hosts import Host, command
from safepoint.launch.ground import Ground, Which
from safepoint.progress import Cancelled

# Makes of paths ($@), absolute or below the folder, what `find` is told to leave out; what Python caches is no code.
_LEFT_OUT: Final = """
base=$(pwd -P)
for one in "$@"; do
  shift
  case $one in "$base"/?*) one=${one#"$base"/} ;; /*) continue ;; esac
  set -- "$@" ! -path "./$one" ! -path "./$one/*"
done
set -- . -type f ! -path '*/__pycache__/*' ! -path '*/.git/*' ! -name '*.pyc' ! -name '*.log' "$@"
"""
_LIST: Final = _LEFT_OUT + 'find "$@" -print0 | LC_ALL=C sort -z | xargs -0 sha256sum'
# BusyBox's `find` counts in minutes only.
_RECENT: Final = _LEFT_OUT + 'find "$@" -mmin -60'
_SHOWN: Final = 3
REHEARSED: Final = "rehearsed-code.txt"
"""The list of files beside a rehearsal."""
_LOST: Final = "nobody knows which files, for the list of them is gone"
_RUN: Final = (".py", ".sql")


def no_code(plan: PlanFile, release: Release, project: Project) -> list[str]:
    """Paths that may lie in the release's folder and are no code: what its settings say, and Safepoint's own."""
    ours = []
    if isinstance(plan.host(plan.application.host), HereHost):
        stores = (plan.folder / store.url.removeprefix("file:") for store in plan.stores if _is_folder(store.url))
        ours = [str(path.resolve()) for path in (plan.path, plan.state, *stores)]
    return sorted({*release.data, *project.data, *ours})


def _is_folder(url: str) -> bool:
    return url.startswith("file:") or "://" not in url


def freeze(ground: Ground, left_out: Mapping[Which, Sequence[str]]) -> dict[str, str]:
    """The digest of each release's code. What it is of, file by file, is kept in the launch's folder."""
    digests: dict[str, str] = {}
    for which, without in left_out.items():
        found = _listed(ground, which, without)
        _kept(ground, which).write_bytes(found)
        digests[which] = digest_of(found)
    return digests


def alike(digests: Mapping[str, str]) -> str:
    """What has to be known of two folders with the same files in them: a product that is installed beside them."""
    if digests["old"] != digests["new"]:
        return ""
    return "; both folders hold the same files: what makes the releases differ lies elsewhere, and is NOT frozen"


def changes(ground: Ground, which: Which, left_out: Sequence[str], digest: str) -> str | None:
    """What of the code is not as it was frozen, some of the files by name; None where all is."""
    found, kept = _listed(ground, which, left_out), _kept(ground, which)
    if digest_of(found) == digest:
        return None
    before = kept.read_bytes() if kept.is_file() else b""
    if digest_of(before) != digest:
        return _LOST
    lines = set(before.splitlines()) ^ set(found.splitlines())
    return _some({line.split(b"  ", 1)[1].decode(errors="replace") for line in lines})


def since_rehearsal(ground: Ground, folder: Path, digest: str | None) -> str | None:
    """What a migration may run, and is not what was rehearsed; None where all is, or the rehearsal did not say.

    Args:
        folder: the rehearsal's.
        digest: of the list of files there.
    """
    rehearsed, kept = folder / REHEARSED, _kept(ground, "new")
    if digest is None or not kept.is_file():
        return None
    before = rehearsed.read_bytes() if rehearsed.is_file() else b""
    if digest_of(before) != digest:
        return _LOST
    found = run_by_migrations(before, kept.read_bytes())
    return _some(found) if found else None


def run_by_migrations(before: bytes, now: bytes) -> set[str]:
    """The files that differ between two lists, of those that a migration may read: what it imports is named in no
    migration's own file. Pure."""
    lines = set(before.splitlines()) ^ set(now.splitlines())
    names = {line.split(b"  ", 1)[1].decode(errors="replace") for line in lines}
    return {name for name in names if name.endswith(_RUN)}


def restless(host: Host, release: Release, left_out: Sequence[str]) -> str | None:
    """Files of the code that changed within the last hour; None where none did."""
    words = ("sh", "-c", _RECENT, "sh", *left_out)
    found = host.run(command(words, directory=release.directory), timeout=120).stdout.splitlines()
    return _some(set(found)) if found else None


def _some(found: Collection[str]) -> str:
    names = sorted(name.removeprefix("./") for name in found)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def listed(host: Host, release: Release, left_out: Sequence[str], cancelled: Cancelled) -> bytes:
    """A line for each file of the code: its SHA-256, two spaces, its name."""
    words = ("sh", "-c", _LIST, "sh", *left_out)
    found = BytesIO()
    host.stream(command(words, directory=release.directory), stdout=found, cancelled=cancelled)
    return found.getvalue()


def _listed(ground: Ground, which: Which, left_out: Sequence[str]) -> bytes:
    return listed(ground.application_host, ground.release(which), left_out, ground.cancelled)


def _kept(ground: Ground, which: Which) -> Path:
    return ground.folder / f"frozen-{which}.txt"


def digest_of(found: bytes) -> str:
    """Names the code by its list of files."""
    return hashlib.sha256(found).hexdigest()
