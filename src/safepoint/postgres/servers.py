"""PostgreSQL servers that Safepoint itself makes, owns and removes: for scratch copies, for the demo, for the tests."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from safepoint.errors import DatabaseError
from safepoint.postgres import processes
from safepoint.postgres.binaries import Installation
from safepoint.postgres.encrypting import encrypting
from safepoint.postgres.target import Target
from safepoint.postgres.unprivileged import Account, account, environment, home_for, reachable, run_as

MARKER = "safepoint-server.json"
_PORTS: Final = range(12_000, 32_000)
SCRATCH = "scratch"
_PORT_TRIES = 5
_SCRAM_ROUNDS: Final = 16  # from this version on their number can be set

# Started as a program of its own, because a thread of ours may hold any lock at a fork: it becomes the server's
# user, asks the kernel (Linux) to end the server when we die, and turns into the server.
_LAUNCHER = """
import ctypes, os, sys
uid, gid, signal = (int(word) for word in sys.argv[1:4])
if uid >= 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if signal and sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal, 0, 0, 0)
os.execv(sys.argv[4], sys.argv[4:])
"""


@dataclass(frozen=True)
class Marker:
    """What stands in a server's folder, so that the next run knows what it finds there. Holds no secret."""

    purpose: str
    home: str
    version: str
    superuser: str
    port: int
    made_by: int
    made_by_birth: str

    def write(self, folder: Path) -> None:
        """Put it into the folder, whole or not at all."""
        partial = folder / f"{MARKER}.partial"
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / MARKER)

    @classmethod
    def read(cls, folder: Path) -> Marker | None:
        """Read it back; None when there is none or it is damaged."""
        try:
            return cls(**json.loads((folder / MARKER).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


class Server:
    """One PostgreSQL server on 127.0.0.1 that belongs to us, with everything it has in one folder.

    As a context manager it starts on entering, and stops and removes all it made on leaving.
    """

    def __init__(self, folder: Path, programs: Installation, marker: Marker, password: str | None) -> None:
        self.folder = folder
        self.installation = programs
        self.purpose = marker.purpose
        self._marker = marker
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self._account = account()

    @classmethod
    def create(
        cls,
        folder: Path,
        installation: Installation,
        *,
        superuser: str = "postgres",
        password: str | None = None,
        settings: Mapping[str, str] | None = None,
        purpose: str = SCRATCH,
        port: int | None = None,
    ) -> Server:
        """Make a new server in a folder that does not exist yet (or is empty); it is not started.

        Args:
            password: of the superuser (scram-sha-256); None lets every user of this machine in (trust on loopback).
            settings: for postgresql.conf; `ssl` is switched on with a certificate of its own, where its build can.
            purpose: "scratch" servers are removed by `sweep` when their maker is gone; others are not.
            port: a fixed one; None takes a free one.

        Raises:
            DatabaseError: the folder is in use, or initdb failed.
        """
        if folder.exists() and any(folder.iterdir()):
            raise DatabaseError(
                f"{folder} is not empty; a new server is not put over what is there.",
                subject=str(folder),
                remedy="Choose another folder, or remove this one if you know that it is not needed.",
            )
        who = account()
        programs = reachable(who, installation)
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        home = home_for(who, folder / "home")
        born = processes.birth(os.getpid()) or ""
        marker = Marker(purpose, str(home), installation.version, superuser, port or free_port(), os.getpid(), born)
        marker.write(folder)
        server = cls(folder, programs, marker, password)
        try:
            server._initialise(dict(settings or {}))
        except BaseException:
            server.remove()
            raise
        return server

    @classmethod
    def open(cls, folder: Path, programs: Installation, *, password: str | None = None) -> Server:
        """A server that an earlier process made in this folder, running or not.

        Raises:
            DatabaseError: there is none.
        """
        folder = folder.resolve()
        marker = Marker.read(folder)
        if marker is None:
            raise DatabaseError(
                f"{folder} holds no PostgreSQL server of Safepoint.", subject=str(folder), expected=f"a {MARKER} in it"
            )
        return cls(folder, reachable(account(), programs), marker, password)

    @property
    def data(self) -> Path:
        """The data folder."""
        return Path(self._marker.home) / "data"

    @property
    def log(self) -> Path:
        """The file that the server writes its messages to."""
        return self.folder / "server.log"

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._marker.port

    @property
    def target(self) -> Target:
        """The superuser's login to the database `postgres`."""
        return Target("127.0.0.1", self.port, "postgres", self._marker.superuser, self._password, sslmode="disable")

    @property
    def pid(self) -> int | None:
        """The server process, or None when it does not run."""
        return processes.postmaster(self.data)

    def running(self) -> bool:
        """Whether the server process lives (it may still be starting)."""
        return self.pid is not None

    def start(self, *, dies_with_us: bool | None = None, timeout: float = 120) -> Server:
        """Start it and wait until it takes connections. A running one is left as it is.

        Args:
            dies_with_us: end the server when the thread that started it ends (Linux); by default for scratch ones.
            timeout: seconds, crash recovery included.

        Raises:
            DatabaseError: it does not start; the end of its log is in the error.
        """
        if self.running():
            self._wait_ready(timeout)
            return self
        dies = self.purpose == SCRATCH if dies_with_us is None else dies_with_us
        for attempt in range(_PORT_TRIES):
            # What it refuses stands there with its rows.
            with open(self.log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
                position = log.tell()
                self._process = self._spawn(log, dies)
            if self._wait_ready(timeout):
                return self
            said = _tail(self.log, position)
            self._process = None
            if "Address already in use" not in said or attempt == _PORT_TRIES - 1:
                raise DatabaseError(
                    f"The {self.purpose} server (PostgreSQL {self._marker.version}) did not start:\n{said}",
                    subject=str(self.folder),
                    remedy="The lines above are from its own log.",
                )
            self._marker = replace(self._marker, port=free_port())
            self._marker.write(self.folder)
        return self

    def stop(self, mode: str = "fast", *, timeout: float = 60) -> None:
        """Stop it: "fast" ends the sessions and writes a checkpoint, "immediate" leaves it as after a crash.

        When it does not end within `timeout` seconds the next harder order follows, SIGKILL at last.
        """
        pid = self.pid
        if pid is None and self._process is not None and self._process.poll() is None:
            pid = self._process.pid  # it has been started this instant, and has not written down that it is there
        if pid is not None:
            born = processes.birth(pid)
            orders = [signal.SIGINT] if mode == "fast" else []
            for order in (*orders, signal.SIGQUIT, signal.SIGKILL):
                if self._ended(pid, born, order, timeout):
                    break
                timeout = 10
        if self._process is not None:
            self._process.wait(timeout=10)
            self._process = None

    def remove(self) -> None:
        """Stop it and remove everything that was made for it."""
        self.stop("immediate")
        remove_folders(self.folder, self._marker)

    def __enter__(self) -> Server:
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _ended(self, pid: int, born: str | None, order: signal.Signals, seconds: float) -> bool:
        if self._process is None or self._process.pid != pid:
            return processes.end(pid, born, order, seconds)
        self._process.send_signal(order)
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _initialise(self, settings: dict[str, str]) -> None:
        who = self._account
        home = self.data.parent
        home.mkdir(parents=True, exist_ok=True)
        _give(home, who)
        argv = initdb_argv(self.installation, self.data, self._marker.superuser, scram=self._password is not None)
        if self._password is not None:
            pwfile = home / "pwfile"
            pwfile.touch(mode=0o600)
            _give(pwfile, who)
            pwfile.write_text(self._password + "\n", encoding="utf-8")
            argv.append(f"--pwfile={pwfile}")
        result = run_as(who, argv, env={"LC_ALL": "C.UTF-8", "TZ": "UTC"})
        (home / "pwfile").unlink(missing_ok=True)
        if result.returncode != 0:
            raise DatabaseError(
                f"initdb could not make a {self.purpose} server: {result.stderr.strip()[-1500:]}",
                subject=str(self.data),
                remedy="Is there space and are there inodes left in that folder?",
            )
        if settings.get("ssl") == "on":
            settings |= encrypting(self.installation, self.data, who)
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.write(configuration(settings))

    def _spawn(self, log: IO[bytes], dies: bool) -> subprocess.Popen[bytes]:
        who = self._account
        ids = [str(who.uid), str(who.gid)] if who.change else ["-1", "-1"]
        postgres = [self.installation.program("postgres"), "-D", str(self.data), "-p", str(self.port)]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, *ids, str(int(signal.SIGQUIT) if dies else 0), *postgres],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment({"LC_ALL": "C.UTF-8", "TZ": "UTC"}),
            start_new_session=True,  # a Ctrl-C at the terminal is for us: we stop the server in order
        )

    def _wait_ready(self, timeout: float) -> bool:
        """Wait for "ready" in postmaster.pid (line 8, see src/include/utils/pidfile.h); False when it ended."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            lines = _lines(self.data / "postmaster.pid")
            if len(lines) >= 8 and lines[7].strip() == "ready" and self.running():
                return True
            if self._process is not None and self._process.poll() is not None:
                return False
            if self._process is None and not self.running():
                return False
            time.sleep(0.02)
        said = _tail(self.log, 0)
        self.stop("immediate")
        raise DatabaseError(
            f"The {self.purpose} server was not ready after {timeout:.0f} s:\n{said}", subject=str(self.folder)
        )


def initdb_argv(programs: Installation, data: Path, superuser: str, *, scram: bool) -> list[str]:
    """The command that makes a data folder; durability of its files is not waited for. Pure.

    Rounds of SCRAM are for passwords that people choose. Those of our servers are random, and each connection would
    cost the client 4,096 rounds: half of its time.
    """
    rounds = ["--set=scram_iterations=1"] if scram and programs.major >= _SCRAM_ROUNDS else []
    return [
        programs.program("initdb"),
        *rounds,
        f"--pgdata={data}",
        f"--username={superuser}",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
        "--no-instructions",
        f"--auth={'scram-sha-256' if scram else 'trust'}",
    ]


def configuration(settings: Mapping[str, str]) -> str:
    """The lines that go to the end of postgresql.conf. Pure.

    No Unix socket is made: its path may have 107 bytes at most, and 127.0.0.1 serves.
    """
    base = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "logging_collector": "off"}
    lines = [f"{name} = '{_quoted(value)}'" for name, value in {**base, **settings}.items()]
    return "\n".join(["", "# Set by Safepoint, which made this server:", *lines, ""])


def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now; whoever uses it must be ready to find it taken.

    Below the range from which systems give out ports by themselves (32768 and up on Linux): a server that is started
    again must not find that a passing connection took its port meanwhile.
    """
    for _attempt in range(200):
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise DatabaseError("No free port was found on 127.0.0.1.", remedy="End what listens there, and try again.")


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def _give(path: Path, who: Account) -> None:
    if who.change:
        os.chown(path, who.uid, who.gid)


def remove_folders(folder: Path, marker: Marker) -> None:
    """Remove a server's folders; the marker goes last, so that an interrupted removal is taken up again."""
    shutil.rmtree(marker.home, ignore_errors=True)
    for path in folder.glob("server.log*"):
        path.unlink(missing_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    (folder / f"{MARKER}.partial").unlink(missing_ok=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _tail(path: Path, position: int) -> str:
    try:
        with path.open("rb") as log:
            log.seek(position)
            return log.read()[-3000:].decode(errors="replace").strip()
    except OSError:
        return "(no log)"
