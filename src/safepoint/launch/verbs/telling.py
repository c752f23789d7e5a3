"""The verb that says who is affected, once the site is open again: it takes its time from nobody's downtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safepoint.config import PlanFile
from safepoint.launch.ground import Ground
from safepoint.launch.report.affected import affected_page
from safepoint.launch.step import Evidence, Verb
from safepoint.launch.verbs.carrying import PROOF, carried_files, django_defaults
from safepoint.wayback import written
from safepoint.wayback.affected import (
    Affected,
    Fates,
    Gathering,
    UserTable,
    Words,
    catalogue_of,
    fated,
    write_letters,
)
from safepoint.wayback.capture import CaptureFacts
from safepoint.wayback.mapping import WayBack

PAGE = "affected.html"
LETTERS = "affected-users.csv"
_SHOWN = 300


class TellAffected(Verb):
    """Each changed row with its user and what became of it; a page and a text for each user that has to be told."""

    name = "tell-affected"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What is written."""
        return (f"each row's fate and user -> affected.csv, {LETTERS}, {PAGE}",)

    def apply(self, ground: Ground) -> Evidence:
        """Reads the kept database and the spool; writes files of mode 0600 in the launch's folder, and nothing else."""
        plan = ground.plan
        words = Words(plan.launch.application, plan.releases.old.version, plan.releases.new.version)
        with Gathering(ground.folder) as gathering:
            found = _gathered(ground, gathering, words)
        page = ground.folder / PAGE
        partial = page.with_name(f"{PAGE}.partial")
        with written.private(partial) as file:
            file.write(affected_page(found, words, ground.launch_id))
        partial.replace(page)
        sums = found.totals
        unknown = f", {sums.unknown} rows of nobody known" if sums.unknown else ""
        return Evidence(
            f"{sums.users} users affected, {sums.whole} kept everything{unknown}: {page}",
            {**found.as_json(), "page": str(page)},
        )


def _gathered(ground: Ground, gathering: Gathering, words: Words) -> Affected:
    users = UserTable.of(ground.fact("project") or {})
    facts = CaptureFacts.from_json(dict(ground.need("capture")))
    proof, carried = ground.fact(PROOF), carried_files(ground)
    kept = ground.target.on(ground.kept)
    mapping = WayBack.from_json(dict(proof["mapping"])) if proof is not None and proof["proven"] else None
    reason = None
    if carried is None:
        said = (ground.evidence("back-carry") or {}).get("reason")
        reason = "nothing was carried back" + (f": {said}" if said else "")
    fates = Fates(gathering.store, mapping, catalogue_of(kept), reason)
    if carried is not None:
        fates.load(carried["put_aside"])
    told = fated(fates, gathering, django_defaults(proof))
    words_of = {"user_table": users.table, "user_label": users.label, "given": ground.plan.wayback.affected}
    out = ground.folder / "affected.csv"
    if facts.mode == "none":
        listing = written.list_rows_since(kept, facts, out, told=told, cancelled=ground.cancelled, **words_of)  # type: ignore[arg-type]
    else:
        spool = ground.folder / "spool"
        listing = written.list_written(kept, spool, out, told=told, cancelled=ground.cancelled, **words_of)  # type: ignore[arg-type]
    letters = ground.folder / LETTERS
    first = write_letters(gathering, kept, users, words, letters, shown=_SHOWN)
    return Affected(gathering.totals(), file=str(out), letters=str(letters), notes=listing.notes, accounts=first)
