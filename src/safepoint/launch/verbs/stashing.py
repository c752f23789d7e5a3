"""Verbs of the stash: kept at the end of a rollback, re-attached by the next launch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safepoint.config import PlanFile
from safepoint.django.operations import read_operations
from safepoint.launch.ground import Ground
from safepoint.launch.step import Evidence
from safepoint.launch.verb import Verb
from safepoint.launch.verbs.migrate import migrating
from safepoint.launch.wayback.carried import carried_files
from safepoint.launch.wayback.new_defaults import defaults_of, django_defaults
from safepoint.launch.wayback.proof_standing import PROOF, proven_mapping
from safepoint.launch.whose import owner_of
from safepoint.wayback.door import entering
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.replay.stash_schema import schema_name
from safepoint.wayback.stash import stash
from safepoint.wayback.stash.left import MOVED, Reattached
from safepoint.wayback.stash.reattach import forget_mark, reattach

LEFT = "not-reattached.jsonl"


class Reattach(Verb):
    """What earlier rollbacks put away comes back into the schema that has a place for it.

    After `migrate --check`, for only a whole schema can take it; before the capture is armed, for it is not what users
    write on this release: a rollback would list it with them, and the stash that it comes from is still there then.
    """

    name = "reattach"

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What is done."""
        return ("values and rows of the stash by key, where nothing newer stands there",)

    def apply(self, ground: Ground) -> Evidence:
        """One transaction with a mark in it: killed anywhere and run again, nothing is attached twice."""
        waiting = stash.waiting(ground.plan.state, ground.launch_id, owner_of(ground.plan))
        # It may be another application's: no reason to end this launch.
        unread = [str(folder) for folder in stash.unread(ground.plan.state)]
        untold = f"; NOT re-attached, for its manifest cannot be read: {', '.join(unread)}" if unread else ""
        if not waiting:
            return Evidence(f"nothing is put away{untold}", {"values": 0, "rows": 0, "left": 0, "unread": unread})
        recorded = ground.fact("reattached")
        if recorded is None:
            with entering(ground.standing.twin, ground.standing.twin_maintenance) as twin:
                old = read_catalogue(twin)
            out = ground.folder / LEFT
            proof = ground.fact(PROOF)
            homeless = () if proof is None or not proof["proven"] else tuple(proof["mapping"]["stash"])
            done = reattach(
                ground.target,
                old,
                waiting,
                _defaults(ground),
                launch_id=ground.launch_id,
                out=out,
                homeless=homeless,
            )
            recorded = ground.record("reattached", done.as_json())
        done = Reattached.from_json(recorded)
        for one in waiting:
            stash.take(one, ground.launch_id)
        forget_mark(ground.target, ground.launch_id)
        left = f"; {done.left} could not be, each with its reason in {LEFT}" if done.left else ""
        stood = f" ({done.already} stood there already)" if done.already else ""
        if done.moved:
            left += f"; {done.moved} new ones have other numbers, for the migration has given theirs away: see {MOVED}"
        what = f"{done.values} values and {done.rows} rows of {', '.join(done.launches)}"
        return Evidence(
            f"{what} are re-attached{stood}{left}{untold}",
            {**done.as_json(), "unread": unread},
        )


def _defaults(ground: Ground) -> dict[str, dict[str, str | None]]:
    """What Django gives to columns that nobody filled in. Where nothing was proven nobody has asked for it yet."""
    known = django_defaults(ground.fact(PROOF))
    if known:
        return known
    return defaults_of(read_operations(migrating(ground), (), cancelled=ground.cancelled))


class KeepStash(Verb):
    """What has no home in the old schema waits in the state folder for the next launch."""

    name = "keep-stash"

    def apply(self, ground: Ground) -> Evidence:
        """What this launch had re-attached waits again too: it went with the migrated database. It is given back last,
        for who is killed here must find again that there is something to give back.
        """
        state, launch_id = ground.plan.state, ground.launch_id
        back = stash.taken_by(state, launch_id)
        mapping, carried = proven_mapping(ground), carried_files(ground)
        kept = None
        if mapping is not None and carried is not None:
            rows, release = carried["stash"], ground.release("new").version
            kept = stash.keep_stash(
                *(state, launch_id, release, rows, ground.target.on(ground.kept), mapping),
                spool=ground.folder / "spool",
                owner=owner_of(ground.plan),
                again=bool(back),
            )
        stash.give_back(state, launch_id)
        words = [f"{kept.count} rows wait in {kept.folder}"] if kept is not None else []
        words += [f"{len(back)} earlier stashes wait again"] if back else []
        facts = {
            "rows": 0 if kept is None else kept.count,
            "folder": None if kept is None else str(kept.folder),
            "sha256": None if kept is None else kept.sha256,
            "schema": None if kept is None else schema_name(launch_id),
            "tables": {} if kept is None else {name: table.rows for name, table in kept.tables.items()},
            "again": [one.launch_id for one in back],
        }
        return Evidence("; ".join(words) or "nothing had to be put away", facts)
