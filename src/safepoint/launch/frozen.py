"""The code of a release as it was frozen: its files by content, without what is no code among them, and its packages.

Uploads, caches, logs and Safepoint's own state may lie in a release's folder, and change all day. What is installed
beside it is known by the digests that came with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

from safepoint.config import HereHost, PlanFile, Release
from safepoint.django.inspector import Project
from safepoint.django.installed import installed
from safepoint.django.managepy import Manage
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
_LOST: Final = "nobody knows what, for the list of it is gone"
_RUN: Final = (".py", ".sql")
_FILE: Final = "./"


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
        found = listed(ground.manage(which), without, ground.cancelled)
        _kept(ground, which).write_bytes(found)
        digests[which] = digest_of(found)
    return digests


def alike(digests: Mapping[str, str]) -> str:
    """What has to be known of two releases with the same files and packages."""
    if digests["old"] != digests["new"]:
        return ""
    return "; both have the same files and packages: what makes the releases differ lies elsewhere, and is NOT frozen"


def changes(ground: Ground, which: Which, left_out: Sequence[str], digest: str) -> str | None:
    """What of the code is not as it was frozen, some of it by name and what to do about it; None where all is."""
    kept = _kept(ground, which)
    before = kept.read_bytes() if kept.is_file() else b""
    packages = not before or _has_packages(before)
    found = listed(ground.manage(which), left_out, ground.cancelled, packages=packages)
    if digest_of(found) == digest:
        return None
    if digest_of(before) != digest:
        return _LOST
    files, others = _differing(before, found)
    advice = f"; what of it is no code (uploads, pid files) belongs into releases.{which}.data" if files else ""
    return ", ".join(map(_some, filter(None, (others, files)))) + advice


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
    return ", ".join(map(_some, filter(None, found))) or None


def run_by_migrations(before: bytes, now: bytes) -> tuple[set[str], set[str]]:
    """The packages and the files that differ between two lists, of those that a migration may read: what it imports is
    named in no migration's own file. Of a list without packages, an earlier version's, none do. Pure."""
    files, packages = _differing(before, now)
    return packages if _has_packages(before) else set(), {name for name in files if name.endswith(_RUN)}


def _differing(before: bytes, now: bytes) -> tuple[set[str], set[str]]:
    """The files by name, and the packages with their versions. Pure."""
    old, new = (dict(_named(line) for line in text.splitlines()) for text in (before, now))
    names = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    files = {name for name in names if name.startswith(_FILE)}
    return files, {_package(name, old.get(name), new.get(name)) for name in names - files}


def _named(line: bytes) -> tuple[str, str]:
    """A file with its digest; a package with its version and digest."""
    digest, _, name = line.decode(errors="replace").partition("  ")
    if name.startswith(_FILE):
        return name, digest
    package, _, version = name.partition(" ")
    return package, f"{version} {digest}"


def _package(name: str, old: str | None, new: str | None) -> str:
    was, now = (None if one is None else one.partition(" ")[0] for one in (old, new))
    if was is None or now is None:
        return f"{name} {was} is installed no more" if now is None else f"{name} {now} is installed"
    return f"{name} {was} -> {now}" if was != now else f"{name} {now} was installed anew"


def _has_packages(found: bytes) -> bool:
    return any(not line.partition(b"  ")[2].startswith(_FILE.encode()) for line in found.splitlines())


def restless(host: Host, release: Release, left_out: Sequence[str]) -> str | None:
    """Files of the code that changed within the last hour; None where none did."""
    words = ("sh", "-c", _RECENT, "sh", *left_out)
    found = host.run(command(words, directory=release.directory), timeout=120).stdout.splitlines()
    return _some(set(found)) if found else None


def _some(found: Collection[str]) -> str:
    names = sorted(name.removeprefix("./") for name in found)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def listed(manage: Manage, left_out: Sequence[str], cancelled: Cancelled, *, packages: bool = True) -> bytes:
    """A line for each file of the code: its SHA-256, two spaces, its name from `./` on. Then one for each package.

    Args:
        packages: False for an earlier version's, which had none.
    """
    words = ("sh", "-c", _LIST, "sh", *left_out)
    found = BytesIO()
    directory = manage.command().directory
    manage.host.stream(command(words, directory=directory), stdout=found, cancelled=cancelled)
    return found.getvalue() + (installed(manage, cancelled) if packages else b"")


def _kept(ground: Ground, which: Which) -> Path:
    return ground.folder / f"frozen-{which}.txt"


def digest_of(found: bytes) -> str:
    """Names the code by its list of files."""
    return hashlib.sha256(found).hexdigest()
