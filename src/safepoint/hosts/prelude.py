"""What a command is wrapped in on another machine or in a container: a few lines of POSIX shell.

They do two things that neither `ssh` nor `docker compose exec` does:

*Secrets.* They are read from the standard input, one line each, before anything else: so they are in no argv on either
side. (`docker compose exec -e NAME` would take them from the environment, but Compose 2.0 passes nothing on for it.)

*The end.* Neither tool ends the remote command when the connection is gone. The conductor therefore keeps the standard
input open; its end means that nobody is there any more, and a watcher in the same process group then sends SIGTERM,
and after five seconds SIGKILL, to the group. A command that is itself fed by the standard input cannot be watched
that way: it sees the end of its input, and it is on it to judge what it got (`pg_restore` does, `psql` does not).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from safepoint.errors import CommandFailed
from safepoint.hosts.command import Command

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

SETUP_FAILED = 125
"""The exit code of the prelude itself: the folder is not there, or the secrets did not arrive."""

_WATCHED = """\
exec 3<&0 </dev/null
"$@" 3<&- & main=$!
{ while read -r line; do :; done
  trap '' TERM
  kill -0 $main && kill -TERM 0 || exit
  for second in 1 2 3 4 5; do kill -0 $main && sleep 1 || break; done
  kill -KILL 0
} <&3 3<&- >/dev/null 2>&1 & watcher=$!
exec 3<&-
wait $main; code=$?
kill $watcher; wait $watcher 2>/dev/null
exit $code
"""
# `kill 0` reaches the process group: sshd and the container runtime give each command a session of its own
# (OpenSSH session.c do_exec_no_pty; setsid in runc's nsexec). What detached itself with setsid lives on, as it must.


def wrapped(
    argv: Sequence[str],
    *,
    secrets: Sequence[str],
    directory: str | None,
    feeds: bool,
    without: Sequence[str] = (),
) -> tuple[str, ...]:
    """The words that carry `argv` out on the other side.

    Args:
        feeds: it has a standard input of its own.
        without: variables of the other side that it does not get.
    """
    script = "".join(f"IFS= read -r {name} && export {name} || exit {SETUP_FAILED}\n" for name in secrets)
    if without:
        script += f"unset {' '.join(without)}\n"
    if directory is not None:
        script += f"cd -- {shlex.quote(directory)} || exit {SETUP_FAILED}\n"
    script += 'exec "$@"\n' if feeds else _WATCHED
    return ("sh", "-c", script, "safepoint", *argv)


def spoken(secrets: Mapping[str, str]) -> bytes:
    """What the prelude reads: the secrets' values, a line each. Never print it."""
    return b"".join(os.fsencode(value) + b"\n" for value in secrets.values())


def check(command: Command, host: str) -> None:
    """Refuse what the prelude cannot carry.

    Raises:
        CommandFailed: a variable's name is not one, or a secret's value is more than one line.
    """
    for name in (*command.env, *command.secrets):
        if not _NAME.fullmatch(name):
            raise CommandFailed(
                f"{name!r} is no name of an environment variable.",
                subject=command.shown(),
                expected="letters, digits and underscores, not beginning with a digit",
                remedy="Correct the name in the plan file.",
            )
    for name, value in command.secrets.items():
        if "\n" in value or "\0" in value:
            raise CommandFailed(
                f"The value of {name} cannot be handed over to {host}: it is longer than one line.",
                subject=name,
                expected="a value without line ends",
                remedy=f"Give {name} a value of one line, or set it on {host} itself.",
            )
