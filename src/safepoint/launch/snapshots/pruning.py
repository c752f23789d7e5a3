"""Which snapshots go, here and in each store by its own rules; and letting them go. Decided first, then carried out."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from safepoint.backup.retention import Rules
from safepoint.backup.shelf import HERE, Listed, list_here, list_there, remove_here, retention
from safepoint.config import KeepRules, PlanFile
from safepoint.errors import SafepointError, StoreError
from safepoint.launch.snapshots.snapshots import snapshots_folder, standing_launches, stores_of, sweep_fetched
from safepoint.launch.whose import own_mark
from safepoint.stores import Abandoned, SnapshotStore

Verdict = Literal["keep", "drop", "dropped", "locked", "failed"]


@dataclass(frozen=True)
class Decision:
    """One snapshot in one place (`here`, or a store's name): what is to become, or became, of it, and why."""

    place: str
    snapshot_id: str
    taken: datetime
    bytes: int
    verdict: Verdict
    reason: str

    def as_json(self) -> dict[str, Any]:
        """For `prune --json`."""
        return {
            "place": self.place,
            "snapshot": self.snapshot_id,
            "taken": self.taken.isoformat(),
            "bytes": self.bytes,
            "verdict": self.verdict,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Pruning:
    """All decisions, and the places that could not be looked at (nothing goes there)."""

    decisions: tuple[Decision, ...]
    unreachable: dict[str, StoreError]

    @property
    def failed(self) -> bool:
        """Whether something should have gone and could not; what a store has locked is no failure."""
        return bool(self.unreachable) or any(one.verdict == "failed" for one in self.decisions)

    def as_json(self) -> dict[str, Any]:
        """For `prune --json`."""
        return {
            "decisions": [one.as_json() for one in self.decisions],
            "unreachable": {name: error.as_json() for name, error in self.unreachable.items()},
        }


def plan_pruning(plan_file: PlanFile, now: datetime) -> Pruning:
    """Decide, and change nothing."""
    standing = standing_launches(plan_file.state)
    # One that was rolled back goes nowhere any more; and nobody retires it once the plan file has the next one's date.
    needed = [launch_id for launch_id, status in standing.items() if status != "rolled back"]
    settings = plan_file.snapshot
    own = own_mark(plan_file)
    decisions = list[Decision]()
    # Where the database's address has changed, or another plan has the same folder, each one keeps its newest.
    for listed in _by_source(list_here(snapshots_folder(plan_file)), own).values():
        decisions += _decided(HERE, listed, now, settings.keep, settings.keep_rules, needed)
    unreachable: dict[str, StoreError] = {}
    for store in plan_file.stores:
        try:
            found = list_there(stores_of(plan_file)[store.name])
        except StoreError as error:
            unreachable[store.name] = error
            continue
        mine, others = shared_out(found, own)
        decisions += _decided(store.name, mine, now, store.keep, store.keep_rules, needed)
        decisions += [_foreign(store.name, one) for one in others]
    return Pruning(tuple(decisions), unreachable)


def carry_out(plan_file: PlanFile, pruning: Pruning, now: datetime) -> Pruning:
    """Remove what was decided to go. One that cannot be removed keeps no other from going."""
    stores = stores_of(plan_file)
    done = []
    for one in pruning.decisions:
        if one.verdict != "drop":
            done.append(one)
            continue
        try:
            done.append(_remove(plan_file, stores, one, now))
        except SafepointError as error:
            done.append(replace(one, verdict="failed", reason=f"{error.message} {error.remedy or ''}".strip()))
        except OSError as error:  # another user's folder, say
            done.append(replace(one, verdict="failed", reason=f"this machine does not remove it: {error}"))
    for name, store in stores.items():
        if name not in pruning.unreachable:
            with suppress(StoreError):  # they are invisible, and the next time will do
                done += [_left(name, one) for one in store.tidy()]
    sweep_fetched(plan_file)
    return replace(pruning, decisions=tuple(done))


def _remove(plan_file: PlanFile, stores: dict[str, SnapshotStore], one: Decision, now: datetime) -> Decision:
    if one.place == HERE:
        remove_here(snapshots_folder(plan_file), one.snapshot_id)
        return replace(one, verdict="dropped")
    store = stores[one.place]
    until = store.locked_until(one.snapshot_id)
    if until is not None and until > now:
        # Deleting it would only hide it (S3 puts a delete marker): it stays visible for as long as it is there.
        return replace(one, verdict="locked", reason=f"the store locks it until {until:%Y-%m-%d}; {one.reason}")
    store.remove(one.snapshot_id)
    hidden = "; only hidden, as the bucket keeps versions: a lifecycle rule of its own (for noncurrent ones) removes it"
    return replace(one, verdict="dropped", reason=one.reason + hidden if store.keeps_versions() else one.reason)


def _left(place: str, one: Abandoned) -> Decision:
    what = f"an upload or a removal that nobody went on with since {one.touched:%Y-%m-%d}"
    if one.locked_until is not None:
        reason = f"the store locks it until {one.locked_until:%Y-%m-%d}; {what}"
        return Decision(place, one.snapshot_id, one.touched, 0, "locked", reason)
    return Decision(place, one.snapshot_id, one.touched, 0, "dropped", what)


def shared_out(listed: Iterable[Listed], own: str) -> tuple[list[Listed], list[Listed]]:
    """What a store has of the plan file's database, and what it has of others. Pure.

    What does not say of which it is (it is damaged, or of a former version) is another one's as well where there are
    others: to them it may be the only one that can still be mended.
    """
    found = list(listed)
    shared = any(one.source not in (None, own) for one in found)
    mine = [one for one in found if one.source == own or (one.source is None and not shared)]
    return mine, [one for one in found if one not in mine]


def _by_source(listed: Iterable[Listed], own: str) -> dict[str, list[Listed]]:
    """By the database that they are of; of which one is not known counts as the plan file's own."""
    found: dict[str, list[Listed]] = {}
    for one in listed:
        found.setdefault(one.source or own, []).append(one)
    return found


def _foreign(place: str, one: Listed) -> Decision:
    """Of a store that several plan files share each lets go of its own: it knows no other one's rules and launches."""
    if one.source is None:
        reason = (
            "whose it is cannot be read, and the store has snapshots of other databases: look at it, and remove it "
        )
        return Decision(place, one.id, one.taken, one.bytes, "keep", reason + "by hand when it is worth nothing")
    reason = "it is of another database than the plan file's (by server and name), whose own plan file lets it go"
    return Decision(place, one.id, one.taken, one.bytes, "keep", reason)


def _decided(
    place: str, listed: Iterable[Listed], now: datetime, keep: timedelta, rules: KeepRules, needed: Iterable[str]
) -> Iterable[Decision]:
    found = {one.id: one for one in listed}
    decided = retention(found.values(), now, keep, needed, Rules(rules.daily, rules.weekly, rules.monthly))
    for one in found.values():
        kept = decided.keep.get(one.id)
        verdict: Verdict = "drop" if kept is None else "keep"
        yield Decision(place, one.id, one.taken, one.bytes, verdict, kept or decided.drop[one.id])
