"""A restore that is ended, by whomever and wherever it is, leaves nothing, and the next one is whole."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from awkward import run
from snapped_shop import ask, names

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.manifest import read_manifest
from safepoint.backup.snapshot import take_snapshot
from safepoint.config import PlanFile
from safepoint.errors import DatabaseError
from safepoint.hosts.here import Here
from safepoint.launch.snapshots.restoring import restore_into
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.progress import Progress


@pytest.mark.parametrize("how", ["Ctrl-C", "a lost connection"])
def test_what_ends_the_comparison_of_a_restore_leaves_nothing(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, how: str
) -> None:
    """It is the last step, and as long as the others: the whole database would stay, and its roles."""
    strike = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'shop_copy'"

    def report(progress: Progress) -> None:
        if progress.what.startswith("fingerprint"):
            if how == "Ctrl-C":
                raise KeyboardInterrupt
            if how == "a lost connection":
                ask(snapped[0], strike)

    errors = {"Ctrl-C": KeyboardInterrupt, "a lost connection": DatabaseError}
    with pytest.raises(errors[how]) as caught:
        restore_into(snapped_plan, snapped[1], "shop_copy", report=report)
    assert "shop_copy" not in names(snapped[0])
    if isinstance(caught.value, DatabaseError):
        assert "removed again" in str(caught.value.found)


def test_one_that_a_killed_restore_left_is_made_anew(snapped: tuple[Target, Path], snapped_plan: PlanFile) -> None:
    target, folder = snapped
    run(
        target.on("postgres"),
        "create database shop_copy",
        "comment on database shop_copy is 'made by Safepoint: unfinished restore of shop-1'",
    )
    run(target.on("shop_copy"), "create table half (x int)")
    assert restore_into(snapped_plan, folder, "shop_copy").rows == 952


@pytest.fixture(scope="module")
def large(server: Server, snapped: tuple[Target, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot that takes some seconds to restore."""
    folder = tmp_path_factory.mktemp("large")
    run(snapped[0].on("postgres"), "create database shop_large")
    target = snapped[0].on("shop_large")
    run(target, "create table big as select n as id, md5(n::text) as x from generate_series(1, 200000) n")
    run(target, *(f"create index on big (x, (id + {number}))" for number in range(5)))
    take_snapshot(
        target,
        Here("here", folder),
        installation=server.installation,
        folder=folder,
        snapshot_id="large",
        launch_id=None,
    )
    return folder / "large"


def test_a_killed_restore_leaves_the_live_one_alone_and_is_made_anew(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, large: Path
) -> None:
    """What the killed one had started (pg_restore) ends with it, or is sent away: it never writes into the new one."""
    code = (
        "import sys; from pathlib import Path; from safepoint.config import load; "
        "from safepoint.launch.snapshots.restoring import restore_into; "
        f"restore_into(load(Path({str(snapped_plan.path)!r})), Path({str(large)!r}), 'shop_copy')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    loading = "select from pg_stat_activity where datname = 'shop_copy' and query ~ 'COPY|CREATE INDEX'"
    while not ask(snapped[0], loading):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = ask(snapped[0], "select count(*) from account")
    assert restore_into(snapped_plan, large, "shop_copy").rows == 200_000
    time.sleep(0.5)  # time for whatever is left of the first one to do harm
    assert compare(read_manifest(large).fingerprint, take(snapped[0].on("shop_copy"))) == ()
    assert ask(snapped[0], "select count(*) from account") == before


def test_sessions_that_are_ended_during_a_restore_leave_nothing(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, large: Path
) -> None:
    strike = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'shop_copy' and query ~ 'COPY'"
    struck = threading.Event()

    def attack() -> None:
        while not struck.wait(0.01):
            if ask(snapped[0], strike):
                return

    attacker = threading.Thread(target=attack)
    attacker.start()
    try:
        with pytest.raises(DatabaseError, match="could not be restored") as caught:
            restore_into(snapped_plan, large, "shop_copy")
    finally:
        struck.set()
        attacker.join()
    assert "removed again" in str(caught.value.found)
    assert "shop_copy" not in names(snapped[0])
