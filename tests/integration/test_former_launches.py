"""The launches before the plan file's present one: their reports are to be had, months later, by their ids."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from least_plan import SOMEDAY
from test_answers import PROGRAM

from safepoint.launch.ledger import Ledger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state folder in which five launches were carried out, each begun after the one before it."""
    (tmp_path / "launch.toml").write_text(SOMEDAY.format(port=1))
    for number in range(1, 6):
        path = tmp_path / f".safepoint/launches/shop-{number}/ledger.jsonl"
        path.parent.mkdir(parents=True)
        with Ledger(path) as ledger:
            plan = {"launch_id": f"shop-{number}", "application": "shop", "old": "1", "new": str(number), "steps": []}
            ledger.append("launch", "launch", {"plan": plan, "by": "ada", "machine": "ops"})
            ledger.append("run", "run:1", {"run": 1, "course": "launch", "by": "ada", "machine": "ops", "pid": 1})
            ledger.append("end", "end:1", {"run": 1, "status": "rolled back", "reason": "a drill"})
    return tmp_path


def report(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [PROGRAM, "report", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_report_of_a_former_launch_is_had_by_its_id(folder: Path) -> None:
    said = report(folder, "--launch", "shop-2", "--json")
    assert said.returncode == 0 and json.loads(said.stdout)["launch"]["id"] == "shop-2"
    page = folder / ".safepoint/launches/shop-2/report.html"
    assert report(folder, "--launch", "shop-2").stdout.splitlines()[-1] == str(page.resolve()) and page.exists()


@pytest.mark.parametrize("words", [(), ("--launch", "shop-9"), ("--launch", "../launches/shop-2")])
def test_where_there_is_no_such_launch_those_that_there_are_are_named(folder: Path, words: tuple[str, ...]) -> None:
    said = report(folder, *words)
    assert said.returncode == 3 and "safepoint report --launch ID" in said.stderr
    assert all(f"shop-{number}" in said.stderr for number in range(1, 6))
    shutil.rmtree(folder / ".safepoint")
    assert "--launch" not in report(folder, *words).stderr
