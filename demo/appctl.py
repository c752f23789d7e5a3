"""Start and stop a release of the accounting site: `appctl.py start --release 1.0 --port 8001 --state DIR`.

gunicorn runs in the background with a pid file below DIR. Both orders may be given twice. A process is ended only
if its command line is that of this very site, so that a pid file from before a reboot harms nobody. What the site
needs to know (DATABASE_URL, SECRET_KEY, ...) is passed on from the environment of this command.
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SITE = Path(__file__).resolve().parent / "accounting"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Site:
    """One release of the site on one port, with the folder of its pid file and its logs."""

    release: str
    port: int
    state: Path

    @property
    def source(self) -> Path:
        return SITE / f"release-{self.release}" / "src"

    @property
    def name(self) -> str:
        return f"accounting-{self.release}-{self.port}"

    @property
    def pid_file(self) -> Path:
        return self.state / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        return self.state / f"{self.name}.log"

    def argv(self) -> list[str]:
        """gunicorn's command line. The pid file in it is what tells this site's process from any other.

        The application is loaded once, before the workers are forked; it holds no connection then. Connections
        are kept longer than a proxy keeps them, or the proxy may send a request into one that is being closed.
        """
        return [
            *(sys.executable, "-m", "gunicorn", "accounting.wsgi:application"),
            *("--chdir", str(self.source), "--bind", f"{HOST}:{self.port}", "--pid", str(self.pid_file)),
            *("--workers", "2", "--threads", "2", "--preload", "--keep-alive", "130", "--graceful-timeout", "5"),
            *("--no-control-socket", "--log-level", "warning", "--error-logfile", str(self.log)),
        ]


def recorded_pid(site: Site) -> int | None:
    """The site's process if it lives; None if there is none or the pid belongs to something else by now."""
    try:
        pid = int(site.pid_file.read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid if str(site.pid_file) in command_line(pid) else None


def command_line(pid: int) -> str:
    """The command line of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except FileNotFoundError:
        pass
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout


def health(site: Site, timeout: float = 2) -> dict[str, object] | None:
    """What `/healthz` says, whether good or bad; None if nothing answers."""
    connection = http.client.HTTPConnection(HOST, site.port, timeout=timeout)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return {"code": answer.status, **json.loads(answer.read())}
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


@contextmanager
def only_one(site: Site) -> Iterator[None]:
    """Orders for the same site wait for each other."""
    site.state.mkdir(parents=True, exist_ok=True)
    with site.pid_file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start(site: Site, timeout: float) -> str:
    """Start the site and wait until it answers (a 503 from `/healthz` is an answer: the schema may come later)."""
    if not site.source.is_dir():
        raise SystemExit(f"There is no release {site.release}: {site.source} does not exist.")
    if (pid := recorded_pid(site)) is not None and health(site) is not None:
        return f"{site.name} runs already (pid {pid})"
    if pid is None:
        refuse_taken_port(site)
        site.pid_file.unlink(missing_ok=True)
        with site.log.open("ab") as log:
            process = subprocess.Popen(
                site.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
    else:
        process = None
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if health(site) is not None and (pid := recorded_pid(site)) is not None:
            return f"{site.name} answers (pid {pid})"
        if process is not None and process.poll() is not None:
            raise SystemExit(f"{site.name} ended with code {process.returncode}:\n{tail(site.log)}")
        time.sleep(0.03)
    end(site)
    raise SystemExit(f"{site.name} did not answer within {timeout:g} s:\n{tail(site.log)}")


def refuse_taken_port(site: Site, timeout: float = 3) -> None:
    """Say so if something else listens there, instead of taking its answers for the site's.

    Workers whose gunicorn was killed go by themselves within about a second: they are waited for.
    """
    deadline = time.monotonic() + timeout
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, site.port)) != 0:
                return
        if time.monotonic() > deadline:
            raise SystemExit(f"Port {site.port} is in use by another program; {site.name} was not started.")
        time.sleep(0.1)


def stop(site: Site) -> str:
    """End the site's process: politely, then for good. Requests under way are answered first."""
    if recorded_pid(site) is None:
        site.pid_file.unlink(missing_ok=True)
        return f"{site.name} does not run"
    end(site)
    return f"{site.name} was stopped"


def end(site: Site) -> None:
    for order, seconds in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 3.0)):
        pid = recorded_pid(site)
        if pid is None:
            break
        if order is signal.SIGKILL:
            os.killpg(pid, order)  # the workers too: start_new_session made gunicorn the leader of its group
        else:
            os.kill(pid, order)
        deadline = time.monotonic() + seconds
        while recorded_pid(site) is not None and time.monotonic() < deadline:
            time.sleep(0.03)
    site.pid_file.unlink(missing_ok=True)


def status(site: Site) -> str:
    pid = recorded_pid(site)
    return json.dumps({"site": site.name, "running": pid is not None, "pid": pid, "health": health(site)})


def tail(log: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("order", choices=("start", "stop", "status"))
    parser.add_argument("--release", required=True)
    parser.add_argument("--port", type=int, required=True)
    state = os.environ.get("ACCOUNTING_STATE")
    where = "folder of the pid file and the logs (ACCOUNTING_STATE)"
    parser.add_argument("--state", type=Path, required=state is None, default=state, help=where)
    parser.add_argument("--timeout", type=float, default=20, help="seconds to wait for the first answer (20)")
    arguments = parser.parse_args()
    site = Site(arguments.release, arguments.port, Path(arguments.state).resolve())
    if arguments.order == "status":
        print(status(site))
        return 0 if recorded_pid(site) is not None else 1
    with only_one(site):
        print(start(site, arguments.timeout) if arguments.order == "start" else stop(site))
    return 0


if __name__ == "__main__":
    sys.exit(main())
