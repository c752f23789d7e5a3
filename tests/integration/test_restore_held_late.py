"""What hinders the swap of names only at the end of a restore over the live database: the copy there is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from awkward import run
from snapped_shop import names

from safepoint.config import PlanFile
from safepoint.errors import Refused
from safepoint.launch.snapshots import restoring
from safepoint.postgres.target import Target


def test_a_transaction_that_is_prepared_meanwhile_leaves_the_copy_which_is_told(
    snapped: tuple[Target, Path], snapped_plan: PlanFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = snapped
    before, restore_into = names(target), restoring.restore_into

    def prepared_meanwhile(*words: Any, **more: Any) -> Any:
        run(target, "begin; insert into account (name) values ('x'); prepare transaction 'held'")
        return restore_into(*words, **more)

    monkeypatch.setattr(restoring, "restore_into", prepared_meanwhile)
    try:
        with pytest.raises(Refused, match="hold the live database") as raised:
            restoring.restore_over(snapped_plan, folder)
    finally:
        run(target, "rollback prepared 'held'")
    (beside,) = names(target) - before
    remedy = raised.value.remedy or ""
    assert f"stands beside as {beside}" in remedy and f'RENAME TO "{target.dbname}"' in remedy
