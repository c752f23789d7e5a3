"""Running a command of Safepoint in a forked process: a real process with a real end, without the time that a fresh
interpreter takes to import everything. For the tests that kill a conductor dozens of times."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import dbos._sys_db_sqlite as engine_state
import fsspec.implementations.local as folders
import httpx
import sqlalchemy.dialects.sqlite as dialect
import typer.main

from safepoint import cli
from safepoint.cli import timeline
from safepoint.launch import conductor, engine, verbs
from safepoint.launch.doctor import doctor

PRELOADED = (conductor, engine, doctor, timeline, engine_state, dialect, folders, httpx)


def safepoint(
    words: Sequence[str],
    env: Mapping[str, str],
    output: Path,
    errors: Path | None = None,
    *,
    timeout: float = 120.0,
    bare: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `safepoint WORDS` with `env` on top of this process' environment (`bare`: with nothing else); the exit code
    as `subprocess` gives it.

    What it says goes to `output`; what it says of errors too, where they have no file of their own.

    Raises:
        subprocess.TimeoutExpired: it did not end within `timeout` seconds, and was killed.
    """
    # What the commands import late is imported here, so that the children find it there; and so are they put together.
    verbs.verb("migrate")
    typer.main.get_command(cli.app)

    def command() -> None:
        if bare:
            os.environ.clear()
        os.environ.update(env)
        sys.argv = ["safepoint", *words]
        cli.main()

    return call(command, words, output, errors, timeout=timeout)


def call(
    work: Callable[[], object],
    words: Sequence[str],
    output: Path,
    errors: Path | None = None,
    *,
    timeout: float = 120.0,
) -> subprocess.CompletedProcess[str]:
    """Do some work in a forked process; see `safepoint`. `words` only say what it was."""
    pid = os.fork()
    if pid == 0:
        _child(work, output, errors or output)
    deadline = time.monotonic() + timeout
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise subprocess.TimeoutExpired(list(words), timeout, output.read_text(errors="replace"))
        time.sleep(0.01)
    status = ended[1]
    text = output.read_text(errors="replace")
    faults = "" if errors is None else errors.read_text(errors="replace")
    return subprocess.CompletedProcess(list(words), os.waitstatus_to_exitcode(status), text, faults)


def _child(work: Callable[[], object], output: Path, errors: Path) -> None:
    code = 1
    try:
        gc.freeze()  # what was loaded before is shared with the parent as long as nobody looks through it
        os.setsid()
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1 if errors == output else os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
