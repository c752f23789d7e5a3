"""Which twin a launch gets: chosen once by what the server says, told to people, and given up where it does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from safepoint.config import PlanFile, format_duration
from safepoint.errors import SafepointError
from safepoint.launch.doctor.disk_room import server_disk
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import read
from safepoint.launch.wayback import led_login
from safepoint.launch.wayback.pairs import is_led, level_pair
from safepoint.launch.whose import is_of
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import Connection, connect
from safepoint.wayback.twin import choice, elsewhere, feed
from safepoint.wayback.twin.pair import Pair

WORK: Final = "keep the twin level"
CHOICE: Final = "twin-choice"
_SMALL: Final = 64 * 1024**2


def decide(ground: Ground) -> choice.Choice:
    """Choose by what the server says now; the first choice of a try stays, where one was possible."""
    known = ground.fact(CHOICE)
    if known is not None and known["kind"] != "none":
        return choice.Choice(**{**known, "against": tuple(known["against"])})
    found = choose(ground.plan)
    ground.renew(CHOICE, found.as_json())
    return found


def choose(plan: PlanFile) -> choice.Choice:
    """What a launch by this plan file would choose now. Changes nothing."""
    pair = level_pair(plan, plan.launch_id)
    with connect(pair.live, application_name="safepoint twin") as connection:
        facts = survey(connection)
        measured = choice.measure(
            connection,
            disk_free=server_disk(plan, facts),
            copy_speed=_known_speed(plan),
            found=facts,
            server=None if plan.wayback.server is None else pair.twin.address,
            there=() if plan.wayback.server is None else _against_there(plan, connection, pair),
        )
    return choice.choose(measured, plan.wayback.twin, plan.wayback.copy_allowance.total_seconds())


def _against_there(plan: PlanFile, connection: Connection, pair: Pair) -> tuple[str, ...]:
    """What speaks against the server that the plan names for the twin."""
    found = elsewhere.problems(connection, pair, plan.database.application_roles)
    if found:
        return found
    if is_led(plan):
        said = led_login.refused(plan, pair)
        return () if said is None else (said,)
    how = "the variables by which [application] is led to a database, wayback.server.env or wayback.server.lead"
    return (f"nothing leads the application to {pair.twin.address} after a rollback: set {how}",)


def _known_speed(plan: PlanFile) -> float | None:
    """Bytes a second of the newest copy that a launch made here; a small one says nothing."""
    for path in sorted(plan.state.glob("launches/*/ledger.jsonl"), key=lambda one: one.stat().st_mtime, reverse=True):
        with suppress(SafepointError):
            entries = list(read(path))
            for entry in reversed(entries) if is_of(plan.launch.application, entries) else ():
                if entry.kind != "fact" or not entry.key.endswith(":twin"):
                    continue
                seconds, copied = entry.data["copy_seconds"], entry.data["size_bytes"]
                if seconds > 0 and copied >= _SMALL:  # a level twin is not copied, and has 0 seconds
                    return float(copied / seconds)
    return None


def wanted(ground: Ground) -> bool:
    """Whether this launch has a level twin, or is to get one: chosen, and not given up."""
    known = ground.fact(CHOICE)
    return known is not None and known["kind"] == "logical" and given_up(ground) is None


def given_up(ground: Ground) -> str | None:
    """Why the level twin was given up in this run; None where it was not."""
    known = ground.fact(_given_up_name(ground))
    return None if known is None else str(known["reason"])


def give_up(ground: Ground, reason: str) -> None:
    """Note it: from here on the twin is to be copied inside the window."""
    ground.record(_given_up_name(ground), {"reason": reason})


def _given_up_name(ground: Ground) -> str:
    # A run that is begun anew after a failure may try again.
    return f"twin-given-up:{sum(entry.kind == 'run' for entry in ground.ledger.entries)}"


def doubt(ground: Ground) -> str | None:
    """Before the window: why it will take longer than planned, where it will. None: the twin is level, or never was."""
    known = ground.fact(CHOICE)
    if known is None or known["kind"] != "logical":
        return None
    failure = ground.background.failure(WORK)
    if failure is not None and given_up(ground) is None:
        give_up(ground, str(getattr(failure, "message", failure)))
    reason = given_up(ground)
    if reason is None and feed.begins_at(ground.target, ground.launch_id) is None:
        give_up(ground, "its replication slot is gone or lost")
        reason = given_up(ground)
    if reason is None and ground.pair.apart and (said := _of_no_use(ground)) is not None:
        give_up(ground, said)
        reason = given_up(ground)
    if reason is None:
        return None
    return (
        f"the twin could not be kept level ({reason}), so the window will be longer by its copy, "
        f"some {format_duration(known['copy_seconds'])}"
    )


def _of_no_use(ground: Ground) -> str | None:
    """What the twin's own server says, where it does not answer, or will not let the old release in."""
    try:
        ground.pair.at_twin().close()
    except SafepointError as error:
        return error.message
    return led_login.refused(ground.plan, ground.pair)


def shown(found: choice.Choice | Mapping[str, Any]) -> str:
    """The choice in one line, for `plan`, `doctor` and the survey."""
    data = found.as_json() if isinstance(found, choice.Choice) else found
    words = {"logical": "kept level before the window", "template": "copied inside the window", "none": "not possible"}
    return f"The twin: {words[data['kind']]}; {data['reason']}"
