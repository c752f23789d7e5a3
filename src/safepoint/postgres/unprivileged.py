"""Running PostgreSQL's server programs when we are root, which they refuse: as whom, and from which folders."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from safepoint.errors import DatabaseError
from safepoint.postgres.binaries import Installation

_USERS = ("postgres", "nobody")

# What the loader of programs, locales, time zones and languages, and PostGIS, need of our environment.
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "LOCPATH",
    "TMPDIR",
    "TZDIR",
    "PYTHONHOME",
    "PYTHONPATH",
    "PERL5LIB",
    "TCLLIBPATH",
)
_FAMILIES = ("LD_", "DYLD_", "LC_", "MALLOC_", "ICU_", "OPENSSL_", "PG_OOM_", "GDAL_", "PROJ_", "POSTGIS_")


@dataclass(frozen=True)
class Account:
    """The operating system's user that a server runs as; `change` says whether we must change to it."""

    name: str
    uid: int
    gid: int
    change: bool


def account() -> Account:
    """Who runs our servers: we ourselves, or, when we are root, `postgres` or `nobody`.

    Raises:
        DatabaseError: we are root and there is neither.
    """
    if os.geteuid() != 0:
        return Account(str(os.geteuid()), os.geteuid(), os.getegid(), change=False)
    for name in _USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid, change=True)
    raise DatabaseError(
        "PostgreSQL refuses to run as root, and this machine has no other user for it.",
        subject="server user",
        expected=f"one of the users {', '.join(_USERS)}",
        remedy="Run Safepoint as an ordinary user, or add a user named postgres.",
    )


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a program of the server gets of our environment: no password and no key.

    It may run as another user, who reads it in /proc; and what is restored into a server runs as its superuser there
    (an index calls its functions), who reads it as well.
    """
    passed = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_FAMILIES)}
    return {**passed, **more}


def run_as(who: Account, argv: list[str], *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a short program as that user in the root folder (our own may be closed to it) and collect its output."""
    return subprocess.run(
        argv,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd="/",
        timeout=300,
        env=environment(env or {}),
        user=who.uid if who.change else None,
        group=who.gid if who.change else None,
        extra_groups=[] if who.change else None,
    )


def reachable(who: Account, installation: Installation) -> Installation:
    """An installation whose files that user can read: the given one, or a copy made once (a clone under /root)."""
    if not who.change or _starts(who, installation):
        return installation
    root = installation.bin_dir.parent
    copy = cache_folder() / f"postgresql-{installation.version}-{_short(root)}"
    if not copy.exists():
        partial = Path(tempfile.mkdtemp(prefix="copying-", dir=copy.parent))
        shutil.copytree(root, partial / "pg", symlinks=True, dirs_exist_ok=True)
        _open_up(partial)
        try:
            (partial / "pg").rename(copy)
        except OSError:  # another process was faster: its copy is as good
            shutil.rmtree(partial / "pg")
        partial.rmdir()
    usable = replace(installation, bin_dir=copy / "bin")
    if not _starts(who, usable):
        raise DatabaseError(
            f"User {who.name} cannot run PostgreSQL from {installation.bin_dir}, nor from a copy in {copy}.",
            subject=str(installation.bin_dir),
            remedy="Is the temporary folder mounted noexec? Set TMPDIR to another folder.",
        )
    return usable


def home_for(who: Account, folder: Path) -> Path:
    """Where a server for `folder` really lives: there, or, when its user cannot get there, in the temporary folder."""
    if not who.change or passable(folder, who):
        return folder
    return cache_folder() / f"server-{_short(folder)}"


def passable(folder: Path, who: Account) -> bool:
    """Whether that user may walk down to `folder` (which need not exist yet)."""
    for parent in folder.resolve().parents:
        if not parent.exists():
            continue
        state = parent.stat()
        bit = stat.S_IXUSR if state.st_uid == who.uid else stat.S_IXGRP if state.st_gid == who.gid else stat.S_IXOTH
        if not state.st_mode & bit:
            return False
    return True


def cache_folder() -> Path:
    """A folder of our own in the temporary folder, which others may pass through but not write to.

    Raises:
        DatabaseError: somebody else made a folder of that name.
    """
    folder = Path(tempfile.gettempdir()) / f"safepoint-{os.geteuid()}"
    folder.mkdir(mode=0o711, exist_ok=True)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise DatabaseError(
            f"{folder} is not a folder of our own.",
            subject=str(folder),
            remedy="Somebody else made it or can write to it: remove it, or set TMPDIR to a folder of your own.",
        )
    folder.chmod(0o711)
    return folder


def _starts(who: Account, installation: Installation) -> bool:
    try:
        return run_as(who, [installation.program("postgres"), "--version"]).returncode == 0
    except PermissionError:
        return False


def _short(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]


def _open_up(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044))
