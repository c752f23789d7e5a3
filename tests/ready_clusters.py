"""New clusters are copied, where initdb made one by the same words before: hundreds are made, and each takes a second.

What tells a cluster from others is made anew for each copy: its identifier, and the superuser's password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from safepoint.postgres import processes, servers
from safepoint.postgres.unprivileged import Account, run_as

VARIABLE: Final = "SAFEPOINT_TEST_CLUSTERS"
PREFIX: Final = "safepoint-clusters-"
_CASTAGNOLI: Final = 0x82F63B78
_SMALL: Final = 1 << 30
_IDENTIFIER_IN_LOG: Final = 24  # of a segment's first page (XLogLongPageHeaderData, access/xlog_internal.h)

_ROLES: Final = "1260"  # pg_authid, in a cluster that initdb has just made
_CHECKSUM: Final = slice(8, 10)  # of a page (PageHeaderData, storage/bufpage.h)
_SECRET: Final = re.compile(rb"SCRAM-SHA-256\$(?P<rounds>\d+):(?P<salt>[\w+/=]{24})\$[\w+/=]{44}:[\w+/=]{44}")

Result = subprocess.CompletedProcess[str]
_folder: Final[list[Path]] = []  # not the variable: a command may be run with an environment of its own


def begin() -> Path | None:
    """Copy clusters from now on; the new folder that they are copied from, where this process has to remove it.

    The workers of this process inherit it, and forked commands have it as it is.
    """
    servers.run_as = copied
    if VARIABLE in os.environ:
        _folder.append(Path(os.environ[VARIABLE]))
        return None
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if processes.birth(int(left.name.split("-")[2])) is None:
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    folder.chmod(0o711)
    os.environ[VARIABLE] = str(folder)
    _folder.append(folder)
    return folder


def copied(who: Account, argv: list[str], *, env: dict[str, str] | None = None) -> Result:
    """As `run_as`; of initdb only the first run is one."""
    if Path(argv[0]).name != "initdb":
        return run_as(who, argv, env=env)
    own = {
        word.partition("=")[0]: word.partition("=")[2] for word in argv if word.startswith(("--pgdata=", "--pwfile="))
    }
    words = [word for word in argv if word.partition("=")[0] not in own]
    # Once more as it was asked for where that fails: then it fails in the words of the one that was to be made.
    ready = _ready(who, words, "--pwfile" in own, env)
    if ready is None:
        return run_as(who, argv, env=env)
    data = Path(own["--pgdata"])
    # On a disk that a test fills, the log's first file must have its room as initdb would have given it.
    holes = "never" if shutil.disk_usage(data.parent).total < _SMALL else "auto"
    done = run_as(who, ["cp", "-a", f"--sparse={holes}", str(ready), str(data)], env=env)
    if done.returncode == 0:
        _identify(data)
    if done.returncode == 0 and "--pwfile" in own:
        superuser = next(word for word in words if word.startswith("--username=")).partition("=")[2]
        password = Path(own["--pwfile"]).read_text(encoding="utf-8").rstrip("\n")
        done = _set_password(who, Path(argv[0]).with_name("postgres"), data, superuser, password)
    return done


def _ready(who: Account, words: list[str], password: bool, env: dict[str, str] | None) -> Path | None:
    name = hashlib.sha256("\0".join([*words, str(password)]).encode()).hexdigest()[:16]
    ready = _folder[-1] / name
    if ready.exists():
        return ready
    partial = Path(tempfile.mkdtemp(prefix="making-", dir=ready.parent))
    if who.change:
        os.chown(partial, who.uid, who.gid)
    argv = [*words, f"--pgdata={partial / 'data'}"]
    if password:
        (partial / "pwfile").write_text("replaced in each copy\n")
        (partial / "pwfile").chmod(0o644)
        argv.append(f"--pwfile={partial / 'pwfile'}")
    try:
        if run_as(who, argv, env=env).returncode != 0:
            return None
        # What initdb has filled with zeros are holes in the copies: most of the log's first file.
        run_as(who, ["cp", "-a", "--sparse=always", str(partial / "data"), str(partial / "sparse")], env=env)
        if not ready.exists():  # another worker's may have come first
            (partial / "sparse").rename(ready)
    except OSError:
        return ready if ready.exists() else None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ready


def _identify(data: Path) -> None:
    """Another identifier, as no two clusters have the same: where it stands, in pg_control and in the log."""
    new = struct.pack("=Q", secrets.randbits(63))
    control = data / "global" / "pg_control"
    whole = bytearray(control.read_bytes())
    (end,) = (at for at, found in _crcs(whole) if at >= 64 and found == struct.unpack_from("=I", whole, at)[0])
    whole[:8] = new
    struct.pack_into("=I", whole, end, dict(_crcs(whole))[end])
    with control.open("r+b") as file:
        file.write(whole)
    (segment,) = (path for path in (data / "pg_wal").iterdir() if len(path.name) == 24)
    with segment.open("r+b") as file:
        file.seek(_IDENTIFIER_IN_LOG)
        file.write(new)


def _crcs(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """The CRC-32C of the first bytes, by their number: where it stands is another place in each version."""
    found = 0xFFFFFFFF
    for at, byte in enumerate(data[:512]):
        yield at, found ^ 0xFFFFFFFF
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ (_CASTAGNOLI if found & 1 else 0)


def _set_password(who: Account, postgres: Path, data: Path, superuser: str, password: str) -> Result:
    if _written(data, password):
        return subprocess.CompletedProcess([], 0, "", "")
    name, words = superuser.replace('"', '""'), password.replace("'", "''")
    return subprocess.run(
        [str(postgres), "--single", "-F", "-D", str(data), "template1"],
        input=f"ALTER ROLE \"{name}\" PASSWORD '{words}'\n",
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        timeout=60,
        user=who.uid if who.change else None,
        group=who.gid if who.change else None,
        extra_groups=[] if who.change else None,
    )


def _written(data: Path, password: str) -> bool:
    """Put the password's secret in the place of the one that there is; not where pages have checksums (from 18 on).

    As it is made from a password: RFC 5802, section 3.
    """
    with (data / "global" / _ROLES).open("r+b") as file:
        page = file.read()
        found = list(_SECRET.finditer(page))
        if len(found) != 1 or page[_CHECKSUM] != bytes(2) or not password.isascii():
            return False
        salt, rounds = secrets.token_bytes(16), int(found[0]["rounds"])
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
        stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
        parts = [base64.b64encode(one) for one in (salt, stored, hmac.digest(salted, b"Server Key", "sha256"))]
        file.seek(found[0].start("salt"))
        file.write(b"%s$%s:%s" % tuple(parts))
    return True
