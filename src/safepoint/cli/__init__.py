"""The commands: one file each, which parses, calls a room, and renders.

Nothing heavy is imported here or at the top of a command's file: `safepoint --help` answers within 0.3 s.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any, Final

import typer

from safepoint import __version__
from safepoint.cli import (
    doctor,
    follow,
    init,
    launch,
    orders,
    plan,
    prune,
    rehearse,
    report,
    restore,
    settings,
    snapshots,
    status,
    watch,
)
from safepoint.cli.saying import asks_for_json, echo, say
from safepoint.cli.streams import open_streams
from safepoint.errors import ExitCode, Interrupted, SafepointError, UsageError

app = typer.Typer(
    name="safepoint",
    help="Carries a Django + PostgreSQL application through a launch, and brings it back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_BEFORE, _LAUNCH, _BACKUP = "Before the launch", "The launch", "Snapshots"

app.command("init", rich_help_panel=_BEFORE)(init.init)
app.command("doctor", rich_help_panel=_BEFORE)(doctor.doctor)
app.command("rehearse", rich_help_panel=_BEFORE)(rehearse.rehearse)
app.command("plan", rich_help_panel=_BEFORE)(plan.plan)
app.command("settings", rich_help_panel=_BEFORE)(settings.settings)
app.command("launch", rich_help_panel=_LAUNCH)(launch.launch)
app.command("status", rich_help_panel=_LAUNCH)(status.status)
app.command("go", rich_help_panel=_LAUNCH)(orders.go)
app.command("hold", rich_help_panel=_LAUNCH)(orders.hold)
app.command("retry", rich_help_panel=_LAUNCH)(orders.retry)
app.command("abort", rich_help_panel=_LAUNCH)(orders.abort)
app.command("rollback", rich_help_panel=_LAUNCH)(orders.rollback)
app.command("return", rich_help_panel=_LAUNCH)(orders.return_)
app.command("follow", rich_help_panel=_LAUNCH)(follow.follow)
app.command("retire", rich_help_panel=_LAUNCH)(orders.retire)
app.command("watch", rich_help_panel=_LAUNCH)(watch.watch)
app.command("report", rich_help_panel=_LAUNCH)(report.report)
app.command("backup", rich_help_panel=_BACKUP)(snapshots.backup)
app.command("verify", rich_help_panel=_BACKUP)(snapshots.verify)
app.command("restore", rich_help_panel=_BACKUP)(restore.restore)
app.command("backups", rich_help_panel=_BACKUP)(snapshots.backups)
app.command("prune", rich_help_panel=_BACKUP)(prune.prune)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and end.", is_eager=True)] = False,
) -> None:
    if version:
        echo(f"safepoint {__version__}")
        raise typer.Exit


def _interrupt(number: int, _frame: object) -> None:
    if number == signal.SIGHUP:  # the shell sends it once more, and what was begun is being undone then
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise KeyboardInterrupt


# The base of what Typer raises for a wrong option or argument, which it does not show under its own name.
_WRONGLY_TYPED: Final[type[Any]] = typer.BadParameter.__bases__[0]


def _say_usage(error: Any) -> None:
    """How the command is typed, for people; one document for programs, which asked for it."""
    if not asks_for_json():
        error.show()
        return
    command = error.ctx.command_path if error.ctx is not None else "safepoint"
    told = error.format_message().rstrip(".")
    say(UsageError(f"{told}.", subject=command, remedy=f"`{command} --help` says how it is typed."))


def main() -> None:
    """The entry point: an error that a person may see is one clear message, never a traceback."""
    open_streams()
    # What was begun is undone, as after Ctrl-C; also where the terminal was closed, but for a command that outlives it.
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        code = app(standalone_mode=False)
        if code == ExitCode.INTERRUPTED and asks_for_json() and not getattr(sys.stdout, "begun", True):
            say(Interrupted("This command was interrupted before its end.", remedy="Give it again."))
        sys.exit(code)
    except SafepointError as error:
        say(error)
        sys.exit(int(error.exit_code))
    except _WRONGLY_TYPED as error:
        _say_usage(error)
        sys.exit(int(ExitCode.USAGE))
    except Exception as error:
        from safepoint.launch.storage import told

        if os.environ.get("SAFEPOINT_TRACEBACK"):  # for whoever looks for the fault
            raise
        say(told(error))
        sys.exit(int(ExitCode.FAILED))
    except KeyboardInterrupt:
        sys.exit(int(ExitCode.INTERRUPTED))
