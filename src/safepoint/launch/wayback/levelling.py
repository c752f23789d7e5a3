"""The twin that is kept level before the window: where the backup's room (seed, fingerprints) and the way back's meet.

What is true is asked of the server: the twin's mark says at which instant it was seeded, the slot whether the feed is
whole. The ledger says only why a level twin was given up; then the twin is copied inside the window.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg

from safepoint.backup import fingerprint
from safepoint.backup.contents import LOCK_TIMEOUT
from safepoint.backup.manifest import read_manifest
from safepoint.backup.pouring import pour
from safepoint.backup.snapshot import Instant
from safepoint.config import format_duration
from safepoint.errors import CaptureLost, Interrupted, ProofFailed, Refused, SafepointError, ServerAway
from safepoint.launch.ground import Ground, since_abort
from safepoint.launch.patience import TRIES, answers, comes_back, live_answers
from safepoint.launch.snapshots.snapshots import local_tools, take
from safepoint.launch.step import Evidence
from safepoint.launch.wayback import following
from safepoint.launch.wayback.twin_choice import CHOICE, WORK, give_up, given_up, wanted
from safepoint.progress import Cancelled, Progress
from safepoint.wayback.capture.capture import CaptureFacts
from safepoint.wayback.fence.fence import FencePrior
from safepoint.wayback.replay.manner import NotWhole
from safepoint.wayback.twin import feed, level, twin
from safepoint.wayback.twin.pair import Pair

EVERY: Final = 1.0
"""Seconds between two looks of the keeper."""
# What is Safepoint's own in a twin that is being kept level.
_OWN: Final = re.compile(r"(^|[\s\"])safepoint(_twin_\w+)?([.\"(\s]|$)")
_FINAL: Final = (CaptureLost, NotWhole, Refused, ProofFailed)


@contextmanager
def seed_instant(ground: Ground, label: str) -> Iterator[Instant | None]:
    """The instant of the feed's beginning, for the final snapshot: so the proven snapshot is the seed itself."""
    if label != "final" or not wanted(ground):
        yield None
        return
    with ExitStack() as stack:
        try:
            found = stack.enter_context(feed.opened(ground.target, ground.launch_id))
        except SafepointError as error:
            give_up(ground, error.message)
            yield None
            return
        yield Instant(found.lsn, found.snapshot)


# -- the seed ------------------------------------------------------------------------------------------------------


def seed(ground: Ground) -> Evidence:
    """Restore the seed beside the live database, bring it level, prove it equal, and keep it level from now on."""
    if not wanted(ground):
        known = ground.fact(CHOICE) or {}
        reason = given_up(ground) or known.get("reason", "")
        return Evidence(f"the twin is copied inside the window: {reason}", {"kind": "template", "reason": reason})
    begun = time.monotonic()
    for attempt in range(TRIES):
        try:
            evidence = _seeded(ground, begun)
        except Interrupted:
            raise
        except (SafepointError, psycopg.Error) as error:
            if not answers(ground) and attempt + 1 < TRIES:
                comes_back(ground)
                continue
            if not live_answers(ground):
                raise
            return _without(ground, error)
        go_on(ground)
        return evidence
    raise AssertionError("unreachable")


def _without(ground: Ground, error: SafepointError | psycopg.Error) -> Evidence:
    """Go on without: said now, and at the gate before the window."""
    reason = error.message if isinstance(error, SafepointError) else " ".join(str(error).split())
    give_up(ground, reason)
    _remove_what_answers(ground)
    known = ground.need(CHOICE)
    return Evidence(
        f"no twin beforehand: {reason} It will be copied inside the window "
        f"(some {format_duration(known['copy_seconds'])})",
        {"kind": "template", "reason": reason, "error": error.as_json() if isinstance(error, SafepointError) else {}},
    )


def _seeded(ground: Ground, begun: float) -> Evidence:
    at = standing_at(ground)
    facts = None if at is None else feed.standing(ground.target, ground.launch_id, at)
    restored = 0.0
    if at is None or facts is None:
        clock = time.monotonic()
        at = _restore(ground)
        restored = time.monotonic() - clock
        facts = feed.standing(ground.target, ground.launch_id, at)
        if facts is None:
            raise CaptureLost("The twin's feed vanished while its seed was restored.", subject=ground.twin)
    with _keeper(ground, facts, patience=LOCK_TIMEOUT) as keeper:
        ground.report(Progress("bringing the twin level", 0, None, "transactions"))
        levelled = keeper.level(cancelled=ground.cancelled)
        proof = _proof(ground, keeper)
    return Evidence(
        f"the twin is level, proven equal at {proof['lsn']}: {proof['rows']:,} rows in {proof['tables']} tables",
        {
            "kind": "logical",
            "seeded_at": at,
            "restore_seconds": round(restored, 3),
            "followed": levelled.transactions,
            "proof": proof,
            "seconds": round(time.monotonic() - begun, 3),
        },
    )


def standing_at(ground: Ground) -> str | None:
    """The instant of the seed that stands on the server; None where none does."""
    return level.seeded_at(ground.pair)


def _restore(ground: Ground) -> str:
    """The seed as a database. The final snapshot is it, where the feed still begins at its instant."""
    folder, own = _source(ground)
    try:
        manifest = pour(
            folder,
            level.begin(ground.pair),
            maintenance=ground.pair.twin_maintenance,
            jobs=ground.plan.snapshot.jobs,
            report=ground.report,
            cancelled=ground.cancelled,
            extra=local_tools(ground.plan),
        )
        level.seeded(ground.pair, manifest.source.lsn)
    finally:
        if own:
            shutil.rmtree(folder, ignore_errors=True)
    return manifest.source.lsn


def _source(ground: Ground) -> tuple[Path, bool]:
    """The folder of the seed's dump, and whether it is a dump of its own, which nobody else needs."""
    known = ground.fact("snapshot:final")
    folder = None if known is None else ground.snapshots / str(known["id"])
    begins = feed.begins_at(ground.target, ground.launch_id)
    if folder is not None and (folder / "manifest.json").exists() and read_manifest(folder).source.lsn == begins:
        return folder, False
    name = f"{ground.launch_id}-seed"
    shutil.rmtree(ground.scratch / name, ignore_errors=True)
    with feed.opened(ground.target, ground.launch_id) as found:
        take(
            ground.plan,
            name,
            ground.launch_id,
            folder=ground.scratch,
            at=Instant(found.lsn, found.snapshot),
            report=ground.report,
            cancelled=ground.cancelled,
        )
    return ground.scratch / name, True


def _proof(ground: Ground, keeper: level.Keeper) -> dict[str, Any]:
    """Twin and live database, fingerprinted at one instant while the application goes on writing."""
    with feed.instant(ground.target, ground.launch_id) as now:
        keeper.level_at(now, cancelled=ground.cancelled)
        jobs = ground.plan.snapshot.jobs
        live = fingerprint.take(
            ground.target, snapshot=now.snapshot, jobs=jobs, report=ground.report, cancelled=ground.cancelled
        )
    with level.open_to_us(ground.pair):
        ours = fingerprint.take(ground.pair.twin, jobs=jobs, report=ground.report, cancelled=ground.cancelled)
    differences = _differences(ground.pair, live, ours)
    if differences:
        raise ProofFailed(
            "The twin is not equal to the live database.",
            subject=ground.twin,
            expected="no difference",
            found="; ".join(str(one) for one in differences[:5]),
        )
    return {"lsn": now.lsn, "rows": live.rows, "tables": len(live.tables)}


def _differences(
    pair: Pair, live: fingerprint.Fingerprint, ours: fingerprint.Fingerprint
) -> list[fingerprint.Difference]:
    """What counts. Sequences and settings are set at the safe point, and Safepoint's own records leave the twin there;
    another server's roles are its own."""
    aside = {"sequence", "setting", *(["role"] if pair.apart else [])}
    return [one for one in fingerprint.compare(live, ours) if one.kind not in aside and not _OWN.search(one.name)]


# -- keeping it level ----------------------------------------------------------------------------------------------


def go_on(ground: Ground) -> None:
    """Keep it level beside the steps, until the window; after a crash whoever resumes calls it again."""
    at = standing_at(ground)
    facts = None if at is None else feed.standing(ground.target, ground.launch_id, at)
    if facts is not None:
        ground.background.go_on(WORK, lambda stop: _keep(ground, facts, stop))


def _keep(ground: Ground, facts: CaptureFacts, stop: Cancelled) -> None:
    while not stop():
        try:
            with _keeper(ground, facts) as keeper:
                while not stop():
                    keeper.level(cancelled=stop)
                    _wait(stop)
        except Interrupted:
            return
        except _FINAL:
            raise
        except (SafepointError, psycopg.Error):
            _wait(stop)  # PostgreSQL is away, or its sessions were ended


def _wait(stop: Cancelled) -> None:
    until = time.monotonic() + EVERY
    while not stop() and time.monotonic() < until:
        time.sleep(0.02)


def _keeper(ground: Ground, facts: CaptureFacts, *, patience: float = 5.0) -> level.Keeper:
    return level.Keeper(ground.pair, facts, feed.spool_path(ground.folder, facts.start_lsn), patience=patience)


def resume(ground: Ground) -> None:
    """Go on keeping a twin level that a former conductor seeded, if its time is not over. Never raises."""
    if ground.fact("unfenced") is not None and not any(e.kind == "wayback" for e in ground.ledger.entries):
        with suppress(SafepointError):
            following.begin(ground)
        return
    known = ground.fact(CHOICE)
    if known is None or known["kind"] != "logical" or given_up(ground) is not None:
        return
    if ground.evidence("seed-twin") is None or any(
        e.step == "stop-traffic" for e in since_abort(ground.ledger.entries)
    ):
        return
    with suppress(SafepointError, psycopg.Error):
        go_on(ground)


# -- the safe point ------------------------------------------------------------------------------------------------


def pause(ground: Ground) -> None:
    """Stop keeping it level, before the fence ends all sessions; a failure of it is noted."""
    failure = ground.background.end(WORK)
    if isinstance(failure, _FINAL) and wanted(ground):
        give_up(ground, failure.message)


def take_over(ground: Ground) -> twin.TwinFacts | None:
    """Inside the window: apply what came last, and make the level twin this safe point's.

    None where there is none, or it does not fit; then why is noted, and it is to be copied.
    """
    pause(ground)
    if not wanted(ground):
        return None
    try:
        return _taken_over(ground)
    except Interrupted:
        raise
    except (SafepointError, psycopg.Error) as error:
        give_up(ground, error.message if isinstance(error, SafepointError) else " ".join(str(error).split()))
        return None


def _taken_over(ground: Ground) -> twin.TwinFacts:
    began = time.monotonic()
    safe_point = str(ground.need("safe-point")["lsn"])
    prior = FencePrior.from_json(dict(ground.need("fence")))
    if not level.is_finished(ground.pair, safe_point):
        at = standing_at(ground)
        facts = None if at is None else feed.standing(ground.target, ground.launch_id, at)
        if facts is None:
            raise CaptureLost("The twin or its feed is gone.", subject=ground.twin)
        # Rows change no definition, so both are done at the same time.
        with (
            level.open_to_us(ground.pair),
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="twin") as pool,
        ):
            compared = pool.submit(_compare_definitions, ground)
            with _keeper(ground, facts) as keeper:
                keeper.level(up_to=safe_point, cancelled=ground.cancelled)
                keeper.set_sequences()
            compared.result()
    return level.finish(ground.pair, at=safe_point, prior=prior, began=began)


def _compare_definitions(ground: Ground) -> None:
    """Definitions, owners and grants do not travel in the stream: whoever changed one since the seed is seen here."""
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="definitions") as pool:  # the site is closed meanwhile
        live, ours = pool.map(fingerprint.definitions, (ground.target, ground.pair.twin))
    differences = _differences(ground.pair, live, ours)
    if differences:
        raise NotWhole(
            f"The live database was changed since the twin was seeded: {differences[0]}.",
            subject=ground.twin,
            found="; ".join(str(one) for one in differences[:5]),
        )


# -- the end -------------------------------------------------------------------------------------------------------


def end_feed(ground: Ground) -> bool:
    """Take the feed off the live database: before the migration, which a publication could hinder."""
    ended = feed.end(ground.target, ground.launch_id)
    for path in ground.folder.glob("twin-*.spool*"):
        path.unlink(missing_ok=True)
    return ended


def _remove_what_answers(ground: Ground) -> None:
    """As `remove`; what stays on another server that is away is removed when the launch is retired, or aborted."""
    try:
        remove(ground)
    except ServerAway:
        if not ground.pair.apart:
            raise


def remove(ground: Ground) -> None:
    """Everything of a level twin goes: keeper, feed, the twin itself. May be run again at any time."""
    ground.background.end(WORK)
    end_feed(ground)
    pair = ground.pair
    twin.drop_twin(pair.twin, pair.twin.dbname, pair.launch_id, maintenance=pair.twin_maintenance)


def clear(ground: Ground) -> None:
    """`remove` for a launch that failed before its window. Never raises: what stays is told by `safepoint status`."""
    if (ground.fact(CHOICE) or {}).get("kind") == "logical":
        with suppress(SafepointError, psycopg.Error):
            remove(ground)
