"""The one place where processes are started: time limits, orders to stop, and what is left when they end.

A child is the leader of a session of its own, so that it can be ended together with everything that it started, and
so that a Ctrl-C at the terminal reaches the conductor alone, which then decides what happens to the child.
"""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from safepoint.errors import CommandFailed, Interrupted, SafepointError
from safepoint.hosts.command import Command, Result, Sink, Source
from safepoint.hosts.streams import Bytes, Streams

GRACE_SECONDS = 5.0
"""How long a process has to obey SIGTERM before it gets SIGKILL."""

_POLL_SECONDS = 0.02
_SHOWN_LINES = 15
_NAMING_WORDS, _LONGEST_WORD = 4, 80


@dataclass(frozen=True)
class Local:
    """The process on this machine that carries a command out.

    `env` is the whole environment (secrets included, so it is not shown). `preamble` is written to the standard input
    before the command's own; `hold_stdin` keeps that input open until the process ends, because for a remote
    command its end means that the connection is gone.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    directory: Path | None = None
    preamble: bytes = field(default=b"", repr=False)
    hold_stdin: bool = False


class ProcessHost:
    """The part of a host that is the same everywhere: a local process is run, watched and judged."""

    name: str

    def local(self, command: Command, *, feeds: bool) -> Local:
        """What to start for a command; `feeds` says whether it is given a standard input. Pure but for `os.environ`.

        Raises:
            CommandFailed: the command cannot be expressed on this host.
        """
        raise NotImplementedError  # each of here, compose and ssh has its own

    def lost(self, result: Result) -> CommandFailed | None:
        """The error for an exit code that does not come from the command but from the way to it."""
        del result
        return None

    def run(
        self,
        command: Command,
        *,
        check: bool = True,
        timeout: float | None = None,
        stdin: bytes | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Result:
        """Run to the end and collect the output; see `Host.run`."""
        local = self.local(command, feeds=stdin is not None)
        feed = None if stdin is None else Bytes(stdin)
        result = execute(local, command, self.name, source=feed, timeout=timeout, cancelled=cancelled)
        return self._judged(result, check=check)

    def stream(
        self,
        command: Command,
        *,
        stdin: Source | None = None,
        stdout: Sink | None = None,
        timeout: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Result:
        """Run with streams; see `Host.stream`."""
        local = self.local(command, feeds=stdin is not None)
        result = execute(local, command, self.name, source=stdin, sink=stdout, timeout=timeout, cancelled=cancelled)
        return self._judged(result, check=True)

    def _judged(self, result: Result, *, check: bool) -> Result:
        if result.code and (lost := self.lost(result)):
            raise lost
        if check and result.code:
            raise failure(result, self.name)
        return result


def execute(
    local: Local,
    command: Command,
    host: str,
    *,
    source: Source | None = None,
    sink: Sink | None = None,
    timeout: float | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Result:
    """Run a local process to its end, whatever its exit code.

    Without a `sink` the output is collected. A process that leaves children behind which hold its output open is
    waited for where there is a sink (more may come), and for a second of quiet where there is none.

    Raises:
        CommandFailed: it could not be started, ran out of `timeout` seconds, or its input or output failed here.
        Interrupted: `cancelled` became true.
    """
    began = time.monotonic()
    process = _start(local, command, host, feeds=source is not None)
    work = Streams(process, source, sink, preamble=local.preamble, hold_stdin=local.hold_stdin)
    try:
        why = _watch(process, work, None if timeout is None else began + timeout, cancelled)
    except BaseException:
        _end(process)
        raise
    finally:
        work.close()
    result = Result(
        command,
        process.returncode,
        work.out.text(),
        command.scrub(work.err.text()),
        time.monotonic() - began,
        truncated=work.out.truncated or work.err.truncated,
    )
    if why == "time":
        raise _out_of_time(result, host, timeout or 0.0)
    if why == "cancelled":
        raise Interrupted(
            f"The command {result.command.argv[0]} on {host} was ended because an order to stop came.",
            subject=result.command.shown(),
        )
    if work.fault is not None:
        _raise_stream_fault(work.fault, result, host)
    return result


def failure(result: Result, host: str) -> CommandFailed:
    """The error for a command that ended with another exit code than zero."""
    name = result.command.argv[0]
    said = _last_lines(result.stderr) or _last_lines(result.command.scrub(result.stdout))
    found = ended(result.code) + (f", saying:\n{said}" if said else ", saying nothing")
    if result.code == 127:
        remedy = f"Is {name} installed on {host} and in its PATH?"
    elif result.code == 126:
        remedy = f"Is {name} on {host} allowed to be executed?"
    elif result.code == -signal.SIGKILL:
        remedy = f"Something killed it: did the memory of {host} run out (its system log says so)? Then try again."
    else:
        remedy = f"Read what it said; by hand, on {host}: {result.command.shown()}"
    # The question to a person, and `status`, have the message alone; the end of what a program says is its error.
    last = said.splitlines()[-1].strip()[:200].rstrip(".") if said else ended(result.code)
    error = CommandFailed(
        f"The command {name} on {host} failed: {last}.",
        subject=result.command.shown(),
        expected="exit code 0",
        found=found,
        remedy=remedy,
    )
    # What was raised may stand far above the end: PostgreSQL tells of a trigger's function the whole statement.
    error.said = result.stderr.strip() or result.command.scrub(result.stdout).strip() or None
    return error


def ended(code: int) -> str:
    """Say in words how a process ended (a negative code is the signal, as `subprocess` has it)."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _start(local: Local, command: Command, host: str, *, feeds: bool) -> subprocess.Popen[bytes]:
    piped = feeds or bool(local.preamble) or local.hold_stdin
    try:
        return subprocess.Popen(
            local.argv,
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=dict(local.env),
            cwd=local.directory,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise _not_started(error, local, command, host) from None


def _not_started(error: Exception, local: Local, command: Command, host: str) -> CommandFailed:
    program = local.argv[0]
    if local.directory is not None and not local.directory.is_dir():
        said, remedy = f"the folder {local.directory} is not there", "Correct `directory` in the plan file."
    elif isinstance(error, FileNotFoundError):
        said, remedy = f"there is no program {program}", f"Install {program}, or correct its name in the plan file."
    elif isinstance(error, PermissionError):
        said, remedy = f"{program} may not be executed", f"Check the permissions of {program} and of its folders."
    else:
        said, remedy = str(error), "Check how the plan file names this command."
    return CommandFailed(
        f"The command {command.argv[0]} on {host} could not be started: {said}.",
        subject=command.shown(),
        remedy=remedy,
    )


def _watch(
    process: subprocess.Popen[bytes],
    work: Streams,
    deadline: float | None,
    cancelled: Callable[[], bool] | None,
) -> str:
    """Wait for the end of the process and of its output; say why it ended: itself, time, cancelled, fault."""
    while True:
        if work.exited.wait(_POLL_SECONDS) and work.finished(_POLL_SECONDS):
            return "itself"
        why = _reason_to_end(work, deadline, cancelled)
        if why is not None:
            _end(process)
            return why


def _reason_to_end(work: Streams, deadline: float | None, cancelled: Callable[[], bool] | None) -> str | None:
    if work.fault is not None:
        return "fault"
    if cancelled is not None and cancelled():
        return "cancelled"
    if deadline is not None and time.monotonic() >= deadline:
        return "time"
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its whole group: SIGTERM, then SIGKILL for what is left after the grace."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    # The leader may have obeyed while a child of it did not; the group's id is not reused while a member lives.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _out_of_time(result: Result, host: str, timeout: float) -> CommandFailed:
    said = _last_lines(result.stderr)
    return CommandFailed(
        f"The command {_named(result)} on {host} ran out of time and was ended.",
        subject=result.command.shown(),
        expected=f"an end within {timeout:g} s",
        found=f"still running after {result.seconds:.1f} s" + (f", saying:\n{said}" if said else ""),
        remedy="Find out what it waits for (a lock, another machine, or its turn on a busy one), then try again.",
    )


def _named(result: Result) -> str:
    """The first words of the command, up to a program in them: of `python -m shop migrate` the first says nothing."""
    words = itertools.takewhile(lambda word: len(word) <= _LONGEST_WORD and "\n" not in word, result.command.argv[1:])
    return shlex.join([result.command.argv[0], *itertools.islice(words, _NAMING_WORDS)])


def _raise_stream_fault(fault: BaseException, result: Result, host: str) -> NoReturn:
    """A fault of the caller's own stream: the disk is full, an upload was refused, a file cannot be read."""
    if isinstance(fault, SafepointError) or not isinstance(fault, Exception):
        raise fault
    raise CommandFailed(
        f"The data of the command {result.command.argv[0]} on {host} could not be carried: {fault}.",
        subject=result.command.shown(),
        remedy="Check the disk space and the permissions where its data comes from or goes to.",
    ) from fault


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_SHOWN_LINES:])


def environment(command: Command) -> dict[str, str]:
    """This process's environment with the command's own variables, the public and the secret ones."""
    inherited = {name: value for name, value in os.environ.items() if name not in command.misleading}
    return {**inherited, **command.env, **command.secrets}
