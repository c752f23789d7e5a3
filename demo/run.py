"""`make demo`: the accounting site is launched from 1.0 to 2.0 while people post entries, and rolled back.

Everything is real and on this machine: PostgreSQL and Caddy from Python packages, the site under gunicorn, writers
that post over HTTP and keep every entry that was acknowledged to them. What is started here is stopped here.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent))

from posted import Tally  # the demo's own modules, beside this file
from stage import Stage

from safepoint.launch.begin import entries_of
from safepoint.launch.report import html, model

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "demo"
LINES = 200_000

console = Console(highlight=False)


def main() -> int:
    """Run the demo; 0 when the launch and the rollback did what they promise."""
    begun = time.monotonic()
    console.print("[bold]Safepoint[/]: an accounting site goes from 1.0 to 2.0 while people use it, and back again.\n")
    with Stage(BUILD, lines=LINES, own_ports=True, tell=lambda line: console.print(f"  {line}")) as stage:
        writers = stage.writers()
        console.print(f"  site 1.0 is open at {stage.plan.router.url}; 4 people post entries all the time\n")
        time.sleep(1.0)
        code = launch_and_roll_back(stage)
        report = finish(stage, writers.stop())
    summary(report, time.monotonic() - begun)
    return code or int(report["writers"]["lost_unlisted"] > 0)


def launch_and_roll_back(stage: Stage) -> int:
    """Launch, let people write against 2.0, roll back; the exit code of the first that failed."""
    console.print("[dim]$ safepoint launch --now[/]")
    code = stage.safepoint("launch", "--now", timeout=None).returncode  # a slow machine may take its time
    if code != 0:
        console.print(f"[red]The launch ended with exit code {code}.[/]")
        return code
    console.print("\n  2.0 is open, and people go on posting against it for three seconds ...")
    time.sleep(3.0)
    console.print("  ... then something turns out to be wrong with 2.0.\n\n[dim]$ safepoint rollback[/]")
    code = stage.safepoint("rollback", timeout=None).returncode
    time.sleep(1.5)
    return code


def finish(stage: Stage, tally: Tally) -> dict[str, Any]:
    """Compare what was acknowledged with what is there and what is listed, and write the report."""
    told, present, listed = stage.acknowledged(), stage.present(), stage.listed()
    writers = {
        "acknowledged": tally.acknowledged,
        "failed_requests": tally.failed_requests,
        "present_after": len(present),
        "listed": len((told - present) & listed),
        "lost_unlisted": len(told - present - listed),
    }
    report = model.build(entries_of(stage.plan), {"writers": writers})
    (BUILD / "report.json").write_text(json.dumps(report, indent=2))
    (BUILD / "report.html").write_text(html.render(report))
    return report


def summary(report: dict[str, Any], seconds: float) -> None:
    """What happened, in a few lines."""
    writers, window, rollback = report["writers"], report["window"], report["rollback"]
    console.print("\n[bold]What happened[/]")
    if window:
        console.print(
            f"  launched     window {window['seconds']:.1f} s: migrate {window['migrate_seconds']:.1f} s "
            f"+ {window['minus_migrate_seconds']:.1f} s for everything else"
        )
    if rollback:
        console.print(
            f"  rolled back  the site was closed for {rollback['downtime_seconds']:.1f} s; of the transactions since "
            f"the launch {rollback['carried']} are carried back across the schema change, {rollback['listed']} listed"
        )
    console.print(
        f"  entries      {writers['acknowledged']} acknowledged: {writers['present_after']} are in the database, "
        f"{writers['listed']} are listed, [bold]{writers['lost_unlisted']} are lost without a word[/]"
    )
    console.print(f"  report       {(BUILD / 'report.html').relative_to(ROOT)}")
    console.print(f"  took         {seconds:.0f} s")


def play() -> NoReturn:
    """Run the demo, and leave its stage whoever ends it: a signal's default action would leave the servers behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        console.print("\nInterrupted: what the demo started is stopped.")
        sys.exit(130)


if __name__ == "__main__":
    play()
