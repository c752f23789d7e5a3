"""Whose something in a state folder is: the plan files of several applications, or of several databases, may share one.

Light: `status` and `plan` ask it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safepoint.backup.manifest import mark_of
from safepoint.config import PlanFile
from safepoint.errors import Refused
from safepoint.launch.ledger import Entry


def own_mark(plan_file: PlanFile) -> str:
    """What tells the plan file's database from others, by its server's address and its name (see `mark_of`)."""
    database = plan_file.database
    return mark_of(f"{database.host}:{database.port}", database.name)


def owner_of(plan_file: PlanFile) -> str:
    """Whose a stash is: `application/database`. Not by the server, which a rollback may have changed for another."""
    return f"{plan_file.launch.application}/{plan_file.database.name}"


def is_of(application: str, entries: Sequence[Entry]) -> bool:
    """Whether a launch is this application's; one that has said nothing yet may be anybody's."""
    begun = next((entry for entry in entries if entry.kind == "launch"), None)
    return begun is None or begun.data["plan"]["application"] == application


def origin(plan_file: PlanFile) -> dict[str, str]:
    """By which plan file a launch is begun, and for which database, as its ledger records it."""
    return {"from": str(plan_file.path.resolve()), "owner": owner_of(plan_file), "database": own_mark(plan_file)}


def refuse_foreign(plan_file: PlanFile, entries: Sequence[Entry]) -> None:
    """Two plan files of one release and day give the same id: neither may conduct the launch of the other.

    A plan file that was moved, or whose own database was corrected, is the same one: only where that one is there
    still, and this one names another database, is it another launch.

    Raises:
        Refused: it is.
    """
    begun = next((entry.data for entry in entries if entry.kind == "launch"), {})
    recorded, here = begun.get("from"), origin(plan_file)
    if recorded is None or all(begun.get(name) == value for name, value in here.items() if name != "from"):
        return
    if recorded == here["from"] or not Path(recorded).is_file():
        return
    raise Refused(
        f"The launch {plan_file.launch_id} was begun by another plan file, for another database.",
        subject=plan_file.launch_id,
        expected=f"{recorded} ({begun.get('owner')})",
        found=f"{here['from']} ({here['owner']})",
        remedy="Nothing was done. Give this one an id (launch.id) or a state folder (launch.state) of its own; to go "
        "on with that launch, name its plan file with --plan.",
    )
