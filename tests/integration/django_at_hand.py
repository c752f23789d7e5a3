"""Management commands in processes forked from one that has loaded Django: real processes, without the half
second that a fresh interpreter takes to import it (see `forked`). For the tests that migrate dozens of projects."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safepoint.hosts.command import Command, Result
from safepoint.hosts.here import Here

PROGRAM = """
import json, os, runpy, sys, traceback
import django.core.management.commands.migrate, django.core.management.commands.shell
import django.db.backends.postgresql.base

def run(work):
    code = 1
    try:
        for number, (path, flags) in enumerate(work["streams"]):
            os.dup2(os.open(path, flags, 0o600), number)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
        os.chdir(work["folder"])
        os.environ.clear()
        os.environ.update(work["env"])
        sys.argv = work["argv"]
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

for line in sys.stdin:
    if (pid := os.fork()) == 0:
        run(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@functools.cache
def loaded() -> subprocess.Popen[str]:
    """It ends with its input: when this process does."""
    return subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def manage(
    argv: Sequence[str], folder: Path | str | None, env: Mapping[str, str], stdin: bytes = b""
) -> subprocess.CompletedProcess[str]:
    """Run a program of this very Python, a file and its words, to its end; `env` is the whole environment."""
    with tempfile.TemporaryDirectory(prefix="safepoint-django-") as name:
        given, out, err = (Path(name) / one for one in ("in", "out", "err"))
        given.write_bytes(stdin)
        streams = [(str(given), os.O_RDONLY), *((str(path), os.O_WRONLY | os.O_CREAT) for path in (out, err))]
        process = loaded()
        assert process.stdin is not None and process.stdout is not None
        work = {"streams": streams, "folder": str(folder), "env": dict(env), "argv": list(argv)}
        print(json.dumps(work), file=process.stdin, flush=True)
        code = int(process.stdout.readline())
        said, faults = (path.read_text(encoding="utf-8", errors="replace") for path in (out, err))
    return subprocess.CompletedProcess(list(argv), code, said, faults)


class AtHand(Here):
    """This machine, for management commands in this very Python; none of them is stopped."""

    def run(
        self,
        command: Command,
        *,
        check: bool = True,
        timeout: float | None = None,
        stdin: bytes | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Result:
        """See `Host.run`."""
        local, began = self.local(command, feeds=stdin is not None), time.monotonic()
        python, *argv = local.argv
        assert python == sys.executable
        done = manage(argv, local.directory, local.env, stdin or b"")
        seconds = time.monotonic() - began
        result = Result(command, done.returncode, done.stdout, command.scrub(done.stderr), seconds)
        return self._judged(result, check=check)
