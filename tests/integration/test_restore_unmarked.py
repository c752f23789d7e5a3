"""A restore whose process is killed while the server makes its database, which has no comment yet: the next one knows
it for what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from awkward import run
from snapped_shop import ask, names

from safepoint.config import PlanFile
from safepoint.errors import Refused
from safepoint.launch.snapshots.restoring import restore_into, restore_over
from safepoint.postgres.target import Target

LIMITS = "select datconnlimit, shobj_description(oid, 'pg_database') from pg_database where datname = '{}'"


class Killed(BaseException):
    """What a SIGKILL is: nothing of what comes afterwards is done."""


def test_what_has_no_comment_yet_is_made_anew_and_goes_with_the_next_restore_over_the_live_one(
    snapped: tuple[Target, Path], snapped_plan: PlanFile
) -> None:
    target, folder = snapped

    def killed(*_words: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as process:
        process.setattr("safepoint.backup.unfinished.mark", killed)
        with pytest.raises(Killed):
            restore_into(snapped_plan, folder, "shop_again")
        with pytest.raises(Killed):
            restore_over(snapped_plan, folder)
    (left,) = [name for name in names(target) if name.startswith("shop_restored_")]
    assert [ask(target, LIMITS.format(name))[0][1] for name in ("shop_again", left)] == [None, None]
    assert restore_into(snapped_plan, folder, "shop_again").rows
    ((limit, comment),) = ask(target, LIMITS.format("shop_again"))
    assert limit == 50 and str(comment).startswith("made by Safepoint: restored from"), "as the source has it"
    done = restore_over(snapped_plan, folder)
    assert left not in names(target) and any(left in note and "is gone" in note for note in done.placed.notes)
    run(target.on("postgres"), "drop database shop_again with (force)")
    for statement in done.undo:
        run(target.on("postgres"), "select pg_terminate_backend(pid) from pg_stat_activity where datname like 'shop%'")
        run(target.on("postgres"), statement)


def test_somebody_else_s_database_without_a_comment_is_not_touched(
    snapped: tuple[Target, Path], snapped_plan: PlanFile
) -> None:
    target, folder = snapped
    run(target.on("postgres"), "create database shop_again connection limit 262143")
    with pytest.raises(Refused, match="There is a database shop_again already"):
        restore_into(snapped_plan, folder, "shop_again")
    run(target.on("postgres"), "drop database shop_again")
