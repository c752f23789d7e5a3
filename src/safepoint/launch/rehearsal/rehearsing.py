"""The rehearsal: the proven snapshot in a scratch server, the new release's `migrate` on it, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from safepoint.backup.manifest import read_manifest
from safepoint.backup.proof import prove, restored
from safepoint.backup.restoring import programs_for
from safepoint.backup.shelf import list_snapshots
from safepoint.config import PlanFile
from safepoint.django.address import how_to_lead, unled
from safepoint.errors import PlanFileError
from safepoint.hosts import open_host
from safepoint.hosts.lending import lent
from safepoint.launch.rehearsal.manage import Pointed, loading
from safepoint.launch.rehearsal.order import obeying, sessions_end
from safepoint.launch.rehearsal.rehearsals import Rehearsal, rehearsal_folder, write_rehearsal
from safepoint.launch.rehearsal.stand import Clock, Stand
from safepoint.launch.snapshots.snapshots import at_hand, scratch_of, snapshots_folder, stores_of, take
from safepoint.launch.whose import own_mark
from safepoint.postgres.connections import connect
from safepoint.postgres.encrypting import OFFERED
from safepoint.postgres.scratch_databases import MAINTENANCE
from safepoint.postgres.servers import free_port
from safepoint.postgres.target import Target, server_target, target
from safepoint.progress import Cancelled, Report, never, silent
from safepoint.rehearsal import costs, ground, speeds


def rehearse(
    plan_file: PlanFile,
    snapshot_id: str | None = None,
    *,
    report: Report = silent,
    cancelled: Cancelled = never,
) -> Rehearsal:
    """Carry out the new release's migrations on a restored snapshot, and say what will happen.

    Args:
        snapshot_id: None takes the newest proven one, or takes and proves one where there is none.

    Raises:
        PlanFileError: no variables lead the application to a copy, and it is not on this machine.
        Refused: the application does not go where it is pointed; nothing was run then.
        ProofFailed, DatabaseError, StoreError, CommandFailed, Interrupted: as the parts.
    """
    refuse_unpointed(plan_file)
    clock = Clock(report, {})
    if snapshot_id is None:
        with clock.part("snapshot", "find the newest proven snapshot"):
            snapshot_id = newest_proven(plan_file) or _take_one(plan_file, report, cancelled)
    with connect(target(plan_file.database)) as connection:
        live = ground.read_settings(connection)
    with (
        obeying(cancelled),
        at_hand(plan_file, snapshot_id, report=report, cancelled=cancelled) as folder,
        ExitStack() as stack,
    ):
        own = stack.enter_context(_own_folder(plan_file))
        # The release loads while the snapshot is restored, so its server's address has to be known before.
        port = free_port()
        pointed = Pointed(plan_file, own, stack.enter_context(_reached(plan_file, port, cancelled)))
        soon = Target("127.0.0.1", port, read_manifest(folder).source.database, "")
        code = pointed.code(soon, cancelled)
        loaded = stack.enter_context(loading(pointed, soon) if plan_file.scratch is None else nullcontext())
        with clock.part("restore", "restore"):
            copy = stack.enter_context(
                restored(
                    folder,
                    scratch_parent=plan_file.state / "scratch",
                    scratch=scratch_of(plan_file, port),
                    roles=plan_file.database.application_roles,
                    jobs=plan_file.snapshot.jobs,
                    report=report,
                    cancelled=cancelled,
                    extra=plan_file.database.tools,
                    settings={**ground.settings_at_start(live, _memory()), **OFFERED, **_counting(plan_file, folder)},
                )
            )
        with sessions_end(copy.target, cancelled):
            done = Stand(plan_file, copy, live, pointed, loaded, clock, cancelled).rehearse()
    write_rehearsal(rehearsal_folder(plan_file, snapshot_id), done, code)
    return done


def _reached(plan_file: PlanFile, port: int, cancelled: Cancelled) -> AbstractContextManager[int]:
    """The scratch server's port, as the application reaches it; `port` is that of one of our own."""
    application, address = plan_file.application.host, "127.0.0.1"
    if plan_file.scratch is not None:
        named = server_target(plan_file.scratch, "scratch", MAINTENANCE)
        address, port = named.host, named.port
    host = open_host(application, plan_file.host(application), plan_file.folder)
    return lent(host, address, port, cancelled=cancelled)


@contextmanager
def _own_folder(plan_file: PlanFile) -> Iterator[Path]:
    place = plan_file.state / "scratch"
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="rehearsal-", dir=place) as folder:
        yield Path(folder)


def refuse_unpointed(plan_file: PlanFile) -> None:
    """The rehearsal must lead the application to the scratch server, and not by editing its files.

    Settings can be made for it on this machine; elsewhere there are only its variables.

    Raises:
        PlanFileError: the plan file does not name such variables, and the application is not on this machine.
    """
    host = plan_file.host(plan_file.application.host)
    if plan_file.application.fixed and host.kind != "here":
        raise PlanFileError(
            "A rehearsal needs to know how to point the application at another database: "
            f"{unled(plan_file.application)}.",
            subject="[application]",
            expected='url_env = "DATABASE_URL" (or the like) in [application], or host, port, name, user, password in '
            "[application.variables]: the environment variables from which the settings take the database's address",
            remedy=f"{how_to_lead(plan_file.application)}. A launch without a rehearsal says so in its plan: "
            "[rehearsal] required = false. Nothing was run.",
        )


def newest_proven(plan_file: PlanFile) -> str | None:
    """The newest proven snapshot here, or else in the stores, which others may share.

    One of a clock that was wrong is no newest one: every rehearsal after it would be of that one, and be refused.
    """
    own, now = own_mark(plan_file), datetime.now(UTC)
    for stores in ({}, stores_of(plan_file)):
        listed = list_snapshots(snapshots_folder(plan_file), stores, unreachable=lambda _name, _error: None)
        proven = [one for one in listed if one.proven and one.fault is None and one.source in (None, own)]
        if proven:
            return min(proven, key=lambda one: not one.dated or one.taken > now).id  # the first of these
    return None


def _take_one(plan_file: PlanFile, report: Report, cancelled: Cancelled) -> str:
    snapshot_id = f"{plan_file.launch.application}-rehearsal-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    take(plan_file, snapshot_id, None, report=report, cancelled=cancelled)
    folder = snapshots_folder(plan_file) / snapshot_id
    prove(
        folder,
        scratch_parent=plan_file.state / "scratch",
        scratch=scratch_of(plan_file),
        jobs=plan_file.snapshot.jobs,
        report=report,
        cancelled=cancelled,
    )
    return snapshot_id


def _counting(plan_file: PlanFile, folder: Path) -> Mapping[str, str]:
    """What lets the scratch server count statements, where its installation has the library, and time its writes."""
    programs = programs_for(read_manifest(folder), plan_file.database.tools)
    counting = costs.SETTINGS if programs.has_library(costs.LIBRARY) else {}
    return {**counting, **(speeds.SETTINGS if programs.major >= 14 else {})}


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
