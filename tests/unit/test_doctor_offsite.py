"""Doctor says where no store would outlive this machine's disk."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from least_plan import LEAST

from safepoint.config.load import parse
from safepoint.launch.doctor.world import stores
from safepoint.stores import open_store

SECOND = '[[stores]]\nname = "second"\nurl = "{}"\n'


def said(text: str, folder: Path) -> list[str]:
    plan = parse(text, folder / "launch.toml")
    return [one.message for one in stores(plan, datetime.now(UTC)) if one.verdict != "ok"]


def test_a_store_on_the_disk_of_the_state_folder_is_not_offsite(tmp_path: Path) -> None:
    [told] = said(LEAST + SECOND.format("file:second"), tmp_path)
    assert told.startswith("No store is elsewhere: offsite, second")


def test_one_store_elsewhere_is_enough(tmp_path: Path) -> None:
    away = parse(LEAST + SECOND.format("s3://bucket/x"), tmp_path / "launch.toml").stores[1]
    assert not open_store(away, tmp_path).on_disk_of(tmp_path)
    places = [Path("/dev/shm"), Path("/var/tmp")]
    other = next((one for one in places if one.is_dir() and one.stat().st_dev != tmp_path.stat().st_dev), None)
    if other is None:
        pytest.skip("there is no second file system here")
    assert said(LEAST + SECOND.format(f"file:{other / tmp_path.name}"), tmp_path) == []
    (other / tmp_path.name).rmdir()
