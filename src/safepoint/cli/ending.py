"""What is said where a command that conducts comes to its end, other than by a finished launch: state, safety, next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from safepoint.cli.saying import echo
from safepoint.errors import ExitCode

if TYPE_CHECKING:
    from safepoint.config import PlanFile


def last_words(plan_file: PlanFile) -> None:
    """The lines of `safepoint status` that a person needs when nobody conducts any more, on standard error."""
    told = _standing(plan_file)["standing"]
    lines = [f"safepoint: {told['headline']}"]
    lines += [
        f"  {name + ':':<10}{told[key]}" for name, key in (("let in", "open"), ("safe", "safe"), ("next", "next"))
    ]
    echo("\n".join(lines), err=True)


def tell_left(plan_file: PlanFile, code: ExitCode, *, json_: bool) -> None:
    """This process leaves a launch that is not over: by a signal, or where a person must decide."""
    if not json_:
        last_words(plan_file)
        return
    import json

    found = _standing(plan_file)
    answer = {
        "launch": found["launch"]["id"],
        "status": found["launch"]["status"],
        "left": code.name.lower().replace("_", " "),
        "question": found["question"],
        "remedy": found["standing"]["next"],
    }
    echo(json.dumps(answer))


def _standing(plan_file: PlanFile) -> dict[str, Any]:
    from safepoint.cli.status import standing_of

    return standing_of(plan_file, plan_file.path, None, datetime.now(UTC))
