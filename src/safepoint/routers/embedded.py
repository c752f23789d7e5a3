"""A Caddy of our own, for the demo and for tests: its first configuration, its start and its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from safepoint.config import CaddyRouter
from safepoint.errors import RouterError
from safepoint.routers import caddy
from safepoint.routers.http import exchange

ROUTE = "safepoint"
_START_SECONDS = 15.0
_STOP_SECONDS = 10.0


def initial_config(port: int, admin_port: int, upstream: str | None) -> dict[str, Any]:
    """Caddy's configuration: one server and the admin API, both on the loopback interface; closed without `upstream`.

    Nothing is written elsewhere: no certificates, no saved configuration, no access log.
    """
    # No idle connections to a release: one that is told to stop would wait for them before it ends.
    bare = {"handler": "reverse_proxy", "transport": {"protocol": "http", "keep_alive": {"enabled": False}}}
    if upstream is None:
        handler = caddy.closed(ROUTE, bare, "The application has not been started yet.", 5)
    else:
        handler = caddy.opened(ROUTE, bare, upstream)
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable": True},
        "protocols": ["h1"],
        "routes": [{"handle": [handler]}],
    }
    return {
        "admin": {"listen": f"127.0.0.1:{admin_port}", "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "WARN"}}},
        "apps": {"http": {"servers": {"safepoint": server}}},
    }


class EmbeddedCaddy:
    """A Caddy that runs as a child of this process. A context manager: it is gone afterwards.

    Args:
        folder: for its configuration and its log (`caddy.json`, `caddy.log`).
        port: where clients connect on 127.0.0.1.
        admin_port: where its admin API listens on 127.0.0.1.
    """

    def __init__(self, folder: Path, port: int, admin_port: int) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self.admin = f"http://127.0.0.1:{admin_port}"
        self._ports = (port, admin_port)
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self) -> CaddyRouter:
        """How the plan file would name this Caddy."""
        return CaddyRouter(kind="caddy", admin=self.admin, route=ROUTE, url=self.url)

    def start(self, upstream: str | None = None) -> EmbeddedCaddy:
        """Start it and wait until it answers; closed until `open` where no `upstream` is given.

        Raises:
            RouterError: there is no Caddy, or it does not start (its log is told).
        """
        for port in self._ports:
            _must_be_free(port)
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "caddy.json"
        config.write_text(json.dumps(initial_config(*self._ports, upstream), indent=2))
        env = {**os.environ, "XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        with (self.folder / "caddy.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(find_caddy()), "run", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it; requests in flight may finish for some seconds. Does nothing where it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> EmbeddedCaddy:
        """Start it closed, where it does not run yet."""
        return self if self._process else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.stop()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                if exchange("GET", f"{self.admin}/id/{ROUTE}", timeout=1).status == 200:
                    return
            except RouterError:
                pass  # not yet; the deadline bounds it
            time.sleep(0.02)
        log = (self.folder / "caddy.log").read_text(errors="replace").strip().splitlines()
        raise RouterError(
            "Caddy did not start.",
            subject=self.url,
            found=log[-1] if log else "no word in its log",
            remedy=f"Read {self.folder / 'caddy.log'}.",
        )


def _must_be_free(port: int) -> None:
    """Caddy listens with SO_REUSEPORT: a second one on a port would start well, and take half of the traffic."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise RouterError(
                f"Caddy cannot listen on port {port} of 127.0.0.1.",
                subject=f"127.0.0.1:{port}",
                found=str(error),
                remedy="End what listens there, or choose another port.",
            ) from None


def find_caddy() -> Path:
    """The Caddy of the wheel (extra `embedded`), or the system's.

    Raises:
        RouterError: there is neither.
    """
    wheel = Path(sysconfig.get_path("scripts")) / "caddy"
    found = str(wheel) if wheel.is_file() else shutil.which("caddy")
    if found is None:
        raise RouterError(
            "There is no Caddy on this machine.", subject="caddy", remedy="Install `safepoint[embedded]`, or Caddy."
        )
    return Path(found)
