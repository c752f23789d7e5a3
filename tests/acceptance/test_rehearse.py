"""`safepoint rehearse` on the accounting site, by the real command: what 2.0 will do is known before it is launched."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage import Stage

from safepoint.launch.faults import VARIABLE

INVARIANTS = """
[rehearsal.invariants]
entries = "SELECT count(*) FROM ledger_journalentry"

[rehearsal.invariants."balance of each account"]
before = "SELECT account_id, sum(debit - credit)::numeric(20, 2) FROM ledger_journalline GROUP BY 1"
after = "SELECT account_id, (sum(amount_cents) / 100.0)::numeric(20, 2) FROM ledger_posting GROUP BY 1"
"""


def columns(answer: dict[str, Any], table: str) -> dict[str, str]:
    """What became of each column of a table, by the name that it had (or has)."""
    change = next(one for one in answer["changes"] if one["before"] == table)
    return {column["before"] or column["after"]: column["kind"] for column in change["columns"]}


@pytest.fixture
def site(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage(change=lambda text: text + INVARIANTS)


def test_the_launch_is_known_before_the_launch(site: Stage) -> None:
    before = site.query("SELECT count(*), sum(debit), sum(credit) FROM ledger_journalline")
    files = sorted(path.name for path in (site.folder / "site").iterdir())
    said = site.safepoint("rehearse", "--json", capture=True)
    assert said.returncode == 0, said.stdout + said.stderr
    answer = json.loads(said.stdout)
    assert answer["verdict"] == "go" and answer["reasons"] == []
    _the_run_is_told(answer)
    _every_column_is_told(answer)
    _undoing_is_told(answer)
    _the_lint_is_short(answer)
    open_ = [check for check in answer["checks"] if check["verdict"] != "pass"]
    assert [check["name"] for check in open_] == ["stop command of the old release"], open_
    assert "would stop the live site" in open_[0]["summary"]
    names = {check["name"] for check in answer["checks"]}
    assert {"entries", "balance of each account", "cache", "start command", "pages to warm", "stop command"} <= names
    assert {"size checkpoint", "login checkpoint", "fence", "proof of quiet", "fence opened again"} <= names
    # 2.0 was started for real, with its files in a folder of the rehearsal's own.
    assert sorted(path.name for path in (site.folder / "site").iterdir()) == files
    _the_way_back_is_told(site)
    _the_plan_has_the_times(site, answer["steps"])
    # The people on the site noticed nothing, and nothing is left but the snapshot with what was found.
    assert site.query("SELECT count(*), sum(debit), sum(credit) FROM ledger_journalline") == before
    assert site.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'safepoint' || '%%'") == []
    assert list((site.plan.state / "scratch").iterdir()) == []
    folder = site.plan.state / "snapshots" / answer["snapshot"]["id"]
    kept = json.loads((folder / "rehearsal.json").read_text())
    assert len(kept.pop("code")) == 64  # what the gate holds against the code that is frozen
    assert kept == answer
    page = (folder / "rehearsal.html").read_text()
    assert (
        "ledger.0005_postings" in page
        and "What the window is made of" in page
        and "://" not in page.replace("http://www.w3.org/2000/svg", "")
    )
    password = site.environment["SAFEPOINT_DB_PASSWORD"]
    assert password not in said.stdout + said.stderr + page and "postgresql://" not in said.stdout + page
    _what_must_hold_and_does_not_is_a_no_go_that_says_why(site)


def _the_way_back_is_told(site: Stage) -> None:
    told = json.loads(site.safepoint("plan", "--way-back", "--json", capture=True).stdout)
    kinds = {(line["table"], line["column"]): (line["kind"], line["source"]) for line in told["lines"]}
    assert kinds["ledger_journalline", "debit"][0] == "mapped"
    assert kinds["ledger_journalentry", "date"][0] == "renamed"
    assert "ledger.0003_entry_fields" in kinds["ledger_journalentry", "date"][1]
    assert kinds["ledger_tag", "*"][0] == "stashed" and told["problems"] == [] and "rehearsal" in told["made"]
    for words in ((), ("--md",)):
        said = site.safepoint("plan", "--way-back", *words, capture=True)
        assert said.returncode == 0 and "ledger_journalentry" in said.stdout, said.stderr
    assert site.safepoint("plan", "--way-back", "--html", str(site.folder / "w.html"), capture=True).returncode == 0


def _the_run_is_told(answer: dict[str, Any]) -> None:
    migrate, foreseen = answer["migrate"], answer["forecast"]
    assert [run["label"] for run in migrate["migrations"]] == [one["label"] for one in answer["migrations"]]
    assert len(migrate["migrations"]) == 6 and all(run["ok"] for run in migrate["migrations"])
    assert all(one["sha256"] for one in answer["migrations"])
    assert "public.ledger_journalentry" in migrate["rewrites"]
    assert migrate["written"]["public.ledger_journalline → public.ledger_posting"] >= 2_000
    rows = {run["label"]: run["rows"] for run in migrate["migrations"]}
    assert rows["ledger.0005_postings"] >= 2_000 and rows["ledger.0007_posting_history"] <= 2, rows
    updates = [one for one in migrate["costs"] if one["rows"] >= 2_000]
    assert updates and updates[0]["migrations"] == ["ledger.0005_postings"] and updates[0]["wal_bytes"] > 100_000
    _what_was_built_is_told(migrate)
    disk = foreseen["disk"]
    assert disk["parts"]["twin"] > 1_000_000 and disk["needed"] >= disk["parts"]["twin"] and disk["free"] > 0
    assert "ledger_posting_history on public.ledger_posting" in migrate["indexes"]
    assert migrate["fault"] is None and migrate["looks"] > 3 and migrate["wal_bytes"] > 0
    assert foreseen["migrate"]["low"] <= foreseen["migrate"]["expected"] <= foreseen["migrate"]["high"]
    assert foreseen["ratio"]["table"] == "public.ledger_journalline"
    speeds = foreseen["speeds"]
    assert speeds["write"] > 0 and speeds["own"]["sync_seconds"] >= 0
    assert any("syncs its log" in unknown for unknown in foreseen["unknown"]), foreseen["unknown"]
    _the_window_is_told(answer)


def _what_was_built_is_told(migrate: dict[str, Any]) -> None:
    """By migration, and by the statement that did it."""
    runs = {run["label"]: run for run in migrate["migrations"]}
    assert "ledger_posting_history on public.ledger_posting" in runs["ledger.0007_posting_history"]["indexes"]
    assert "public.ledger_journalentry" in runs["ledger.0003_entry_fields"]["rewrites"]
    assert runs["ledger.0007_posting_history"]["rewrites"] == []
    altered = [one for one in migrate["costs"] if "public.ledger_journalentry" in one["rewrites"]]
    assert altered and all(one["migrations"] == ["ledger.0003_entry_fields"] for one in altered), migrate["costs"]
    assert all("TYPE" in one["text"] for one in altered), altered
    (built,) = [one for one in migrate["costs"] if any("ledger_posting_history" in name for name in one["indexes"])]
    assert built["text"].startswith("CREATE INDEX CONCURRENTLY") and built["rewrites"] == []


def _the_window_is_told(answer: dict[str, Any]) -> None:
    """Before the first launch the copy says how long each step takes, but for those that only the live site can."""
    foreseen, steps = answer["forecast"], answer["steps"]
    measured = {"fence", "twin", "prove-quiet", "migrate-check", "arm", "unfence", "start-new", "cache", "warm"}
    assert measured | {"checkpoints", "stage-new"} == set(steps) and all(seconds >= 0 for seconds in steps.values())
    assert set(foreseen["rehearsed"]) == set(steps) - {"stage-new"} and steps["start-new"] < steps["stage-new"]
    assert foreseen["fixed"]["stop-old"] == foreseen["fixed"]["reattach"] == 0  # nobody waits for them
    assert foreseen["fixed"]["fence"] == steps["fence"] > 0.1 and foreseen["fixed"]["canary"] == 1.0
    assert foreseen["unknown"][-1].endswith("no copy tells: ready, stop-traffic, old-gone, green"), foreseen["unknown"]
    rest = sum(foreseen["fixed"].values())
    assert abs(foreseen["window"]["expected"] - foreseen["migrate"]["expected"] - rest) < 0.01


def _the_plan_has_the_times(site: Stage, steps: dict[str, float]) -> None:
    told = json.loads(site.safepoint("plan", "--json", capture=True).stdout)
    assert told["estimated_seconds"]["fence"] == steps["fence"] and "fence" in told["rehearsed"]
    assert "migrate" in told["estimated_seconds"] and "migrate" not in told["rehearsed"]
    assert " (rehearsed)" in site.safepoint("plan", "--md", capture=True).stdout


def _the_lint_is_short(answer: dict[str, Any]) -> None:
    """A window covers locks and old code: four lines are left, each worth reading."""
    lint = answer["lint"]
    found = [(one["rule"], one["migration"]) for one in lint["findings"]]
    assert found == [
        ("narrows-column", "ledger.0003_entry_fields"),
        ("narrows-column", "ledger.0003_entry_fields"),
        ("narrows-column", "users.0002_full_name_and_locale"),
        ("concurrently-in-window", "ledger.0007_posting_history"),
    ]
    assert lint["mode"] == "window" and lint["notes"] == []


def _every_column_is_told(answer: dict[str, Any]) -> None:
    assert columns(answer, "public.ledger_journalline") == {
        "id": "identical",
        "debit": "removed",
        "credit": "removed",
        "note": "identical",
        "account_id": "identical",
        "entry_id": "identical",
        "amount_cents": "re-expressed",
    }
    entry = columns(answer, "public.ledger_journalentry")
    expected = {"date": "renamed", "memo": "retyped", "legacy_number": "removed", "currency": "added"}
    assert {name: entry[name] for name in expected} == expected
    assert columns(answer, "public.users_userprofile")["display_name"] == "renamed"
    kinds = {one["before"] or one["after"]: one["kind"] for one in answer["changes"]}
    assert kinds["public.ledger_tag"] == "added" and kinds["public.auth_user"] == "identical"
    assert kinds["public.ledger_journalline"] == "renamed"


def _undoing_is_told(answer: dict[str, Any]) -> None:
    """What the site's README says: the amounts come back exactly, what was removed does not."""
    undo = answer["undo"]
    assert undo["verdict"] == "loses" and undo["error"] is None
    verdicts = {table["name"]: table["verdict"] for table in undo["tables"]}
    assert verdicts["public.ledger_journalline"] == "exact" and verdicts["public.auth_user"] == "exact"
    lost = {table["name"]: " ".join(table["lost"]) for table in undo["tables"]}
    assert "phone" in lost["public.users_userprofile"] and "legacy_number" in lost["public.ledger_journalentry"]
    assert undo["structure"] == []
    shown = {table["name"]: table["examples"] for table in undo["tables"]}
    assert 1 <= len(shown["public.users_userprofile"]) <= 3 and shown["public.auth_user"] == []
    assert shown["public.users_userprofile"][0]["key"].startswith("id=")
    assert all(one["values"] for one in shown["public.users_userprofile"])


def _what_must_hold_and_does_not_is_a_no_go_that_says_why(site: Stage) -> None:
    broken = 'tags = "SELECT count(*) FROM django_migrations"'
    site.plan_path.write_text(
        site.plan_path.read_text().replace("[rehearsal.invariants]", f"[rehearsal.invariants]\n{broken}", 1)
    )
    said = site.safepoint("rehearse", capture=True)
    assert said.returncode == 3 and "no-go" in said.stdout, said.stdout + said.stderr
    assert "tags: before: 1 rows" in said.stdout and "Traceback" not in said.stdout + said.stderr


def test_an_application_that_cannot_be_pointed_elsewhere_is_told_what_to_set(tmp_path: Path, site: Stage) -> None:
    text = site.plan_path.read_text().replace("[application]", '[application]\nhost = "far"', 1)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("url_env"))
    site.plan_path.write_text(text + '\n[hosts.far]\nkind = "ssh"\naddress = "far.example"\n')
    said = site.safepoint("rehearse", capture=True)
    assert said.returncode == 2
    assert "url_env" in said.stderr and "[application]" in said.stderr and "Nothing was run" in said.stderr
    assert not (site.plan.state / "snapshots").exists()


@pytest.mark.slow  # two rehearsals and a launch; the gate's rules stand in tests/unit/test_gates_rehearsal.py
def test_a_launch_whose_migrations_are_not_those_that_were_rehearsed_has_no_go(
    make_stage: Callable[..., Stage],
) -> None:
    site = make_stage(lines=400)
    killed = site.safepoint("launch", "--now", "--plain", capture=True, env={VARIABLE: "rehearse:recorded"})
    assert killed.returncode == -signal.SIGKILL, killed.stdout
    (path,) = site.plan.state.glob("snapshots/*/rehearsal.json")
    data = json.loads(path.read_text())
    assert data["way_back"]["proven"]
    # As if ledger.0005 had been corrected since.
    data["digest"] = "0" * 64
    next(one for one in data["migrations"] if one["label"] == "ledger.0005_postings")["sha256"] = "0" * 64
    path.write_text(json.dumps(data))
    said = site.safepoint("launch", "--now", "--plain", capture=True)
    assert said.returncode == 3, said.stdout + said.stderr
    assert "they differ in ledger.0005_postings" in said.stdout and "safepoint rehearse --plan" in said.stdout
    assert site.query("SELECT 1 FROM django_migrations WHERE name = '0005_postings'") == []
    assert site.safepoint("rehearse", capture=True).returncode == 0
    again = site.safepoint("launch", "--now", "--plain", capture=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "6 migrations were rehearsed" in again.stdout
