"""Whether a launch may go by the proof of its way back: it was made, and of what is launched, or a person waives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from safepoint.config import PlanFile
from safepoint.errors import NeedsPerson, Refused
from safepoint.launch.ground import Ground
from safepoint.launch.judging import Reason
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.promises import Mode
from safepoint.wayback.mapping.catalogue import Catalogue, read_catalogue
from safepoint.wayback.mapping.mapping import WayBack, short
from safepoint.wayback.sessions import asking

PROOF: Final = "way-back"
"""The fact that holds the proven mapping."""
CARRIED_BY: Final = "way-back-now"
"""The fact that holds it as a rollback carried by it, where that is not quite the same."""
REMEDY: Final = (
    "`safepoint plan --way-back` shows each column, and where a mapper is missing; where the launch may go on without, "
    "a person accepts that in [wayback.waiver] of the plan file, with the release, a name and a reason."
)
_ANEW: Final = "`safepoint launch` begins anew, and proves it"
_NAMED: Final = 5


def proven_mapping(ground: Ground) -> WayBack | None:
    """What a rollback carries by: the proven mapping, with untouched tables as the newest carrying found them."""
    proof = ground.fact(PROOF)
    if proof is None or not proof["proven"]:
        return None
    return WayBack.from_json(dict((ground.fact(CARRIED_BY) or proof)["mapping"]))


def accepted(plan: PlanFile) -> dict[str, str] | None:
    """The plan's waiver of this release, for the ledger."""
    waiver = plan.wayback.waived(plan.releases.new.version)
    return None if waiver is None else {"by": waiver.by, "reason": waiver.reason, "release": waiver.release}


def in_words(waived: Mapping[str, str]) -> str:
    """As a summary says it."""
    return f"accepted for {waived['release']}: {waived['reason']} ({waived['by']})"


def _of_another(plan: PlanFile) -> str:
    """A waiver that was left from an earlier launch counts for nothing, which its reader has to know."""
    waiver = plan.wayback.waiver
    if waiver is None or accepted(plan) is not None:
        return ""
    return f" The one there is of release {waiver.release}, and {plan.releases.new.version} is launched."


def refuse_unproven(plan: PlanFile, reasons: tuple[str, ...], subject: str) -> None:
    """Told the day before, while a mapper can be written: the gate before the window would say no-go.

    Raises:
        Refused: the way back is not proven, and nobody has accepted that.
    """
    if accepted(plan) is None:
        raise Refused(
            f"The way back is not proven: {_first(reasons)}. A rollback would carry nothing of what was written.",
            subject=subject,
            found="\n".join(reasons),
            remedy=f"Nothing live was touched. {REMEDY}{_of_another(plan)}",
        )


def capture_reasons(mode: Mode, why: str | None, plan: PlanFile) -> list[Reason]:
    """What the gate says where nothing of what is written will be captured: proven or not, nothing is carried. Pure."""
    if mode != "none" or not plan.wayback.prove:
        return []
    means = f"what is written will not be captured, so that a rollback carries nothing ({why})"
    waived = accepted(plan)
    if waived is not None:
        return [("waived", f"{means}, {in_words(waived)}")]
    return [("fail", f"{means}: remove that cause, set wayback.capture to 'auto', or accept it in [wayback.waiver]")]


def refuse_uncaptured(ground: Ground, why: str) -> None:
    """The gate had foreseen a capture, and now there is none: everybody would be let in with no way to carry back.

    Raises:
        NeedsPerson: so it is, and nobody has accepted that.
    """
    proof = ground.fact(PROOF)
    if proof is None or not proof["proven"] or accepted(ground.plan) is not None:
        return
    raise NeedsPerson(
        f"What is written from here on would not be captured, and a rollback would carry nothing: {why}.",
        subject=ground.step.id,
        remedy="`safepoint retry` tries it again once that cause is gone (see pg_stat_activity); `safepoint abort` "
        "takes the launch back.",
    )


def way_back_reasons(
    proof: Mapping[str, Any] | None, plan: PlanFile, digest: str | None, live: Catalogue | None
) -> list[Reason]:
    """What the gate before the window says of the way back: no proof, or one of something else, is a no-go. Pure.

    Args:
        proof: what the launch recorded of it.
        digest: names the pending migrations by their content.
        live: the live database's tables; None where there is no proof.
    """
    if not plan.wayback.prove:
        said = "the way back is not proven by the plan's choice ([wayback] prove = false)"
        return [("waived", f"{said}: a rollback will list what was written and carry nothing")]
    if proof is None:
        return [("fail", f"nothing has shown whether the way back can be proven: {_ANEW}")]
    if not proof["proven"]:
        return [_unproven(plan, proof)]
    return [("fail", f"{why}: {_ANEW}") for why in _of_something_else(proof, plan, digest, live)]


def read_tables(live: Target) -> Catalogue:
    """The live database's tables as they are now.

    Raises:
        LockNotAvailable: somebody holds one of them for longer than a gate waits.
    """
    with connect(live, lock_timeout=5) as connection, asking("Reading the tables", live.dbname, at=connection):
        return read_catalogue(connection)


def _unproven(plan: PlanFile, proof: Mapping[str, Any]) -> Reason:
    why = _first(tuple(proof.get("reasons", ())))
    means = f"the way back is NOT proven, a rollback will list what was written and carry nothing ({why})"
    waived = accepted(plan)
    if waived is None:
        return "fail", f"{means}: {REMEDY}{_of_another(plan)}"
    return "waived", f"{means}, {in_words(waived)}"


def _first(reasons: tuple[str, ...]) -> str:
    if not reasons:
        return "no reason is known"
    more = f", and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    return reasons[0].rstrip(".") + more


def _of_something_else(
    proof: Mapping[str, Any], plan: PlanFile, digest: str | None, live: Catalogue | None
) -> list[str]:
    """Why a proof says nothing of what is launched now."""
    found: list[str] = []
    if digest is not None and proof.get("digest") not in (None, digest):
        found.append("the way back was proven of other migrations than are pending now")
    if proof.get("mappers", plan.wayback.mappers) != plan.wayback.mappers:
        found.append("the way back was proven by other mappers than [wayback.tables] has now")
    if live is not None:
        others = other_tables(WayBack.from_json(dict(proof["mapping"])), live)
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        if others:
            names = ", ".join(map(short, others[:_NAMED]))
            found.append(f"the way back was proven on another schema: {names}{more} came, went or changed since")
    return found


def other_tables(proven: WayBack, live: Catalogue) -> list[str]:
    """The old tables of which a proof does not speak as they are now: gone, with other columns, or a namesake (in
    another schema) of those that the migrations touch. What they leave alone may be as it is now. Pure."""
    touched = {rule.old: {one.column for one in rule.columns} for rule in proven.tables if not rule.is_identity}
    known = {*(rule.old for rule in proven.tables), *proven.kept}
    names = {name.partition(".")[2] for name in (*touched, *proven.kept)}
    changed = [
        name for name, columns in touched.items() if name in live.tables and columns != live.tables[name].by_name.keys()
    ]
    gone = [name for name in (*touched, *proven.kept) if name not in live.tables]
    came = [name for name in live.tables if name not in known and name.partition(".")[2] in names]
    return sorted({*changed, *gone, *came})
