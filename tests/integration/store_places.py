"""Real stores for tests, and small folders that pass for snapshots."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from s3_server import BUCKET, Address
from ssh_server import SshServer

from safepoint.config import Store
from safepoint.errors import SafepointError
from safepoint.stores import SnapshotStore, open_store

SNAPSHOT = "accounting-20260228-180000"
BIG = 20 * 1024 * 1024  # several parts of a multipart upload


@dataclass(frozen=True)
class Place:
    """A store under test, and the folder in which its server keeps the files."""

    settings: Store
    folder: Path

    def open(self) -> SnapshotStore:
        return open_store(self.settings, self.folder)


def s3_store(address: Address, prefix: str, *, port: int | None = None) -> Place:
    endpoint = f"http://127.0.0.1:{port or address.port}"
    settings = Store(name="offsite", url=f"s3://{BUCKET}/{prefix}", options={"endpoint_url": endpoint})
    return Place(settings, address.folder / BUCKET / prefix)


def sftp_store(server: SshServer, folder: Path, *, port: int | None = None) -> Place:
    options = {"key_filename": str(server.key), "known_hosts": str(server.known_hosts), "allow_agent": False}
    if port:
        known = server.folder / f"known_hosts_{port}"
        known.write_text(server.known_hosts.read_text().replace(f":{server.port}", f":{port}"))
        options["known_hosts"] = str(known)
    url = f"sftp://{server.user}@127.0.0.1:{port or server.port}{folder}"
    return Place(Store(name="appliance", url=url, options=options), folder)


def make_snapshot(folder: Path, *, big: int = BIG) -> Path:
    (folder / "archive").mkdir(parents=True)
    (folder / "archive" / "3012.dat.zst").write_bytes(os.urandom(big))
    (folder / "archive" / "toc.dat").write_bytes(b"PGDMP\x00\xff")
    (folder / "globals.sql").write_bytes("CREATE ROLE bücher;\n".encode())
    (folder / "empty").write_bytes(b"")
    (folder / "manifest.json").write_text(json.dumps({"files": sums(folder)}))
    return folder


def sums(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def where_it_lies(place: Place) -> Path:
    """The big file of the snapshot, where its server keeps it."""
    return next(path for path in place.folder.rglob("3012.dat.zst") if SNAPSHOT in path.parts)


def peak_megabytes() -> float:
    """The most memory that this process has used since the peak was last set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def told(error: SafepointError) -> str:
    """All that an error says, wherever it is shown."""
    return json.dumps(error.as_json()) + str(error) + repr(error)
