"""The snapshots of a plan file: found here or in its stores, and which of them a launch still needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safepoint.backup.manifest import Manifest
from safepoint.backup.scratch import OWN, NamedServer, OwnServers, Scratch
from safepoint.backup.shelf import fetch_snapshot, in_use
from safepoint.backup.snapshot import Instant, take_snapshot
from safepoint.config import PlanFile
from safepoint.errors import Refused, SafepointError, StoreError
from safepoint.hosts import open_host
from safepoint.hosts.temporary import HeldFolder, sweep
from safepoint.launch.begin import status_of
from safepoint.launch.ledger import Entry, read
from safepoint.launch.remains import FENCES
from safepoint.launch.whose import is_of
from safepoint.postgres.binaries import for_server
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import connect
from safepoint.postgres.scratch_databases import MAINTENANCE
from safepoint.postgres.target import server_target, target
from safepoint.progress import Cancelled, Report, never, silent
from safepoint.stores import SnapshotStore, open_store

UNREADABLE = "unreadable"
UNDER_WAY = "under way"
_FENCES = (":fence", ":back-fence")  # facts: how things stood before it


def snapshots_folder(plan_file: PlanFile) -> Path:
    """Where the snapshots of this machine are."""
    return plan_file.state / "snapshots"


def local_tools(plan_file: PlanFile) -> Path | None:
    """The folder of PostgreSQL's programs that the plan file names, where it is one of this machine."""
    return plan_file.database.tools if plan_file.database.tools_host == "here" else None


def scratch_of(plan_file: PlanFile, port: int | None = None) -> Scratch:
    """Where copies are made and thrown away: on the server that the plan file names, else on one of our own.

    Args:
        port: of one of our own; None takes any.

    Raises:
        PlanFileError: the password of the named one is not in the environment.
    """
    if plan_file.scratch is None:
        return OWN if port is None else OwnServers(port)
    return NamedServer(server_target(plan_file.scratch, "scratch", MAINTENANCE), target(plan_file.database))


def stores_of(plan_file: PlanFile, identity: Path | None = None) -> dict[str, SnapshotStore]:
    """All stores of the plan file by name; none is connected yet. `identity` opens encrypted snapshots."""
    return {store.name: open_store(store, plan_file.folder, identity=identity) for store in plan_file.stores}


def take(
    plan_file: PlanFile,
    snapshot_id: str,
    launch_id: str | None,
    *,
    folder: Path | None = None,
    at: Instant | None = None,
    report: Report = silent,
    cancelled: Cancelled = never,
) -> Manifest:
    """Take a snapshot of the live database as the plan file says: where, and by whose programs. It is not proven yet.

    Args:
        folder: where its folder is made; None: among the snapshots of this machine.
        at: an exported snapshot to dump through.

    Raises:
        DatabaseError, CommandFailed, Interrupted: as `take_snapshot`.
    """
    settings = plan_file.database
    database = target(settings)
    with connect(database) as connection:
        version = survey(connection).server_version_num
    return take_snapshot(
        database,
        open_host(settings.tools_host, plan_file.host(settings.tools_host), plan_file.folder),
        installation=for_server(version, local_tools(plan_file)),
        remote=database.at(settings.tools_address),
        tools_folder=settings.tools,
        folder=folder or snapshots_folder(plan_file),
        snapshot_id=snapshot_id,
        launch_id=launch_id,
        jobs=plan_file.snapshot.jobs,
        compress=plan_file.snapshot.compress,
        report=report,
        cancelled=cancelled,
        at=at,
    )


def refuse_fenced(plan_file: PlanFile) -> None:
    """A snapshot that is taken in a launch's window brings the fence back with it: nobody can write, or log in.

    Raises:
        Refused: the fence of a launch stands.
    """
    standing = standing_launches(plan_file.state, plan_file.launch.application)
    launches = [name for name in standing if _makes_read_only(plan_file.state / "launches" / name / "ledger.jsonl")]
    if not launches:
        return
    with connect(target(plan_file.database)) as connection:
        if connection.execute(FENCES, [plan_file.database.name]).fetchone() is None:
            return
    raise Refused(
        "Writes to the database are stopped by a launch; what is restored from a snapshot of now would be read-only.",
        subject=", ".join(launches),
        expected="no fence: the database writable by default, its roles with their logins",
        found=f"ALTER DATABASE {plan_file.database.name} SET default_transaction_read_only = on",
        remedy="Nothing was taken. Take it when the site is open again; the launch took its own before its window.",
    )


def _makes_read_only(ledger: Path) -> bool:
    """Whether a launch put up its fence (it may be down again) before a database that was not read-only for good."""
    try:
        facts = [
            entry for entry in read(ledger) if entry.kind == "fact" and entry.key.endswith((":fence", ":back-fence"))
        ]
    except (SafepointError, OSError):
        return True
    return any(fact.data.get("read_only") in (None, "off") for fact in facts)


def standing_launches(state: Path, application: str | None = None) -> dict[str, str]:
    """Launches that are under way, or whose way back still stands, with their status; from their ledgers.

    A ledger that cannot be read counts: what it needs is not known.

    Args:
        application: only its own, where several share the state folder.
    """
    found: dict[str, str] = {}
    for path in sorted((state / "launches").glob("*/ledger.jsonl")):
        try:
            entries = list(read(path))
        except (SafepointError, OSError):
            found[path.parent.name] = UNREADABLE
            continue
        if application is not None and not is_of(application, entries):
            continue
        if (status := _standing(entries)) is not None:
            found[path.parent.name] = status
    return found


def _standing(entries: list[Entry]) -> str | None:
    if not entries or any(entry.kind == "retired" for entry in entries):
        return None
    status = status_of(entries) or UNDER_WAY
    return status if status in (UNDER_WAY, "launched", "rolled back") else None


@contextmanager
def at_hand(
    plan_file: PlanFile,
    snapshot_id: str,
    store_name: str | None = None,
    *,
    identity: Path | None = None,
    report: Report = silent,
    cancelled: Cancelled = never,
) -> Iterator[Path]:
    """The folder of a snapshot: the one here, or a copy from a store that is removed again on leaving.

    What a killed command fetched goes first.

    Args:
        store_name: take it from this store, although it may be here as well.
        identity: the file that opens it where it is encrypted.

    Raises:
        StoreError: it is neither here nor in a store, or there is no such store.
    """
    sweep_fetched(plan_file)
    here = snapshots_folder(plan_file) / snapshot_id
    a_name = snapshot_id not in ("", ".", "..") and "/" not in snapshot_id  # an empty variable of a script's, say
    if store_name is None and a_name and here.is_dir():
        with in_use(here):
            yield here
        return
    store = _holding(stores_of(plan_file, identity), snapshot_id, store_name)
    parent = _fetched(plan_file)
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Held, as two commands may fetch the same one, and neither may take away the other's.
    with HeldFolder("", parent) as held:
        fetch_snapshot(snapshot_id, store, Path(held), report=report, cancelled=cancelled)
        yield Path(held) / snapshot_id


def sweep_fetched(plan_file: PlanFile) -> None:
    """Remove what commands that were killed had fetched: of an encrypted snapshot it is the copy in the clear."""
    sweep(_fetched(plan_file))


def _fetched(plan_file: PlanFile) -> Path:
    return plan_file.state / "fetched"


def _holding(stores: Mapping[str, SnapshotStore], snapshot_id: str, store_name: str | None) -> SnapshotStore:
    if store_name is not None:
        if store_name in stores:
            return stores[store_name]
        raise StoreError(
            f"The plan file has no store {store_name}.",
            subject=store_name,
            found=", ".join(stores),
            remedy="Name one of these with --from.",
        )
    faults = []
    for store in stores.values():
        try:
            if snapshot_id in store.ids():
                return store
        except StoreError as error:
            faults.append(f"{store.name}: {error.message}")
    raise StoreError(
        f"There is no snapshot {snapshot_id}, neither here nor in a store.",
        subject=snapshot_id,
        found="; ".join(faults) or f"looked in {', '.join(['here', *stores])}",
        remedy="List them: `safepoint backups`.",
    )
