"""The page of a rehearsal, from its data alone."""

from __future__ import annotations

from typing import Any

from safepoint.launch.report.rehearsal import rehearsal_page
from safepoint.rehearsal.sampling import EVERY

EVIL = "<script>alert(1)</script>"


def rehearsed() -> dict[str, Any]:
    """A rehearsal in which whatever a database or an application names has a name that is a script."""
    return {
        "release": EVIL,
        "verdict": "no-go",
        "reasons": [EVIL],
        "notes": [EVIL],
        "digest": "ab",
        "made_at": "2026-01-01T00:00:00",
        "snapshot": {"id": EVIL, "taken_at": "2026-01-01T00:00:00"},
        "sql": [{"label": EVIL, "forward": EVIL, "forward_error": None, "backward": None, "backward_error": EVIL}],
        "migrate": migrated(),
        "forecast": foretold(),
        "checks": [{"name": EVIL, "verdict": "fail", "summary": EVIL}],
        "way_back": {"proven": True, "doubts": [], "rows": 1, "tables": 1, "seconds": 0.1},
        "trial": tried(),
        "lint": linted(),
        "changes": [changed()],
        "undo": undone(),
    }


def migrated() -> dict[str, Any]:
    lock = {"table": EVIL, "mode": "m", "blocks": "writers", "began": 0.1, "seconds": 0.2}
    run = {"label": EVIL, "began": 0.0, "seconds": 1.0, "ok": True, "locks": [lock], "wal_bytes": 9}
    run |= {"rows": None, "temporary_bytes": None, "grown_bytes": -5, "rewrites": [EVIL], "indexes": [EVIL]}
    cost = {"text": EVIL, "calls": 2, "seconds": 0.5, "rows": 3, "wal_bytes": 1, "temporary_bytes": 0}
    cost |= {"rewrites": [EVIL], "indexes": []}
    return {
        "seconds": 1.0,
        "error": None,
        "migrations": [run],
        "locks": [lock],
        "statements": [{"text": EVIL, "seconds": 0.5, "wal_bytes": 1, "temporary_bytes": 0, "locks": [lock]}],
        "costs": [{**cost, "migrations": [EVIL]}],
        "wal_bytes": 1,
        "peak_bytes": 1,
        "rewrites": [],
        "looks_every_seconds": EVERY,
    }


def foretold() -> dict[str, Any]:
    return {
        "migrate": {"low": 1.0, "expected": 2.0, "high": 3.0},
        "window": {"low": 1.0, "expected": 2.0, "high": 3.0},
        "planned": 2.5,
        "disk": {"needed": 5, "free": None, "parts": {}},
        "ratio": {"warm": 1.0},
        "speeds": {"write": 1.1, "sync": None},
        "fixed": {EVIL: 0.5, "migrate-check": 0.1},
        "rehearsed": [EVIL],
        "unknown": [EVIL],
    }


def tried() -> dict[str, Any]:
    found = {"verdict": "differs", "reasons": [EVIL], "writes": {EVIL: 1}, "refused": [EVIL]}
    return {**found, "carried": 1, "transactions": 2, "seconds": 0.1}


def linted() -> dict[str, Any]:
    finding = {"grade": "risk", "rule": EVIL, "migration": EVIL, "why": EVIL, "where": EVIL, "safer": EVIL}
    return {"mode": "window", "findings": [{**finding, "waived": one} for one in (None, EVIL)], "notes": [EVIL]}


def changed() -> dict[str, Any]:
    column = {"before": EVIL, "after": EVIL, "kind": "narrowed", "detail": EVIL}
    change = {"before": EVIL, "after": EVIL, "kind": "changed", "rows_before": 1, "rows_after": 1}
    return {**change, "added": 0, "removed": 0, "columns": [column]}


def undone() -> dict[str, Any]:
    example = {"key": EVIL, "fate": "cannot go back", "values": [{"column": EVIL, "before": EVIL, "after": EVIL}]}
    table = {"name": EVIL, "verdict": "fails", "rows": 1, "lost": [EVIL], "examples": [example]}
    return {"verdict": "fails", "migration": EVIL, "error": EVIL, "tables": [table], "structure": [EVIL]}


def test_the_page_shows_names_from_a_database_as_text() -> None:
    data = rehearsed()
    page = rehearsal_page(data)
    assert EVIL not in page and "&lt;script&gt;" in page
    assert "What the window is made of" in page and page.index(">migrate</text>") < page.index(">migrate-check</text>")
    unproven = {"proven": False, "doubts": [EVIL], "rows": 0, "tables": 0, "seconds": 0.0}
    alone = {**data["migrate"], "costs": []}
    for more in (
        {"migrate": alone},
        {"way_back": unproven, "trial": None},
        {"trial": {**data["trial"], "verdict": "not tried"}},
    ):
        assert EVIL not in rehearsal_page({**data, **more})
