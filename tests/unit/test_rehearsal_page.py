"""The page of a rehearsal, from its data alone."""

from __future__ import annotations

from safepoint.launch.report.rehearsal import rehearsal_page
from safepoint.rehearsal.sampling import EVERY


def test_the_page_shows_names_from_a_database_as_text() -> None:
    evil = "<script>alert(1)</script>"
    lock = {"table": evil, "mode": "m", "blocks": "writers", "began": 0.1, "seconds": 0.2}
    run = {"label": evil, "began": 0.0, "seconds": 1.0, "ok": True, "locks": [lock], "wal_bytes": 9}
    run |= {"rows": None, "temporary_bytes": None, "grown_bytes": -5, "rewrites": [evil], "indexes": [evil]}
    cost = {"text": evil, "calls": 2, "seconds": 0.5, "rows": 3, "wal_bytes": 1, "temporary_bytes": 0}
    cost |= {"rewrites": [evil], "indexes": []}
    example = {"key": evil, "fate": "cannot go back", "values": [{"column": evil, "before": evil, "after": evil}]}
    table = {"name": evil, "verdict": "fails", "rows": 1, "lost": [evil], "examples": [example]}
    column = {"before": evil, "after": evil, "kind": "narrowed", "detail": evil}
    change = {"before": evil, "after": evil, "kind": "changed", "rows_before": 1, "rows_after": 1, "added": 0}
    data = {
        "release": evil,
        "verdict": "no-go",
        "reasons": [evil],
        "notes": [evil],
        "digest": "ab",
        "made_at": "2026-01-01T00:00:00",
        "snapshot": {"id": evil, "taken_at": "2026-01-01T00:00:00"},
        "sql": [
            {"label": evil, "forward": evil, "forward_error": None, "backward": None, "backward_error": evil},
        ],
        "migrate": {
            "seconds": 1.0,
            "error": None,
            "migrations": [run],
            "locks": [lock],
            "statements": [
                {"text": evil, "seconds": 0.5, "wal_bytes": 1, "temporary_bytes": 0, "locks": [lock]},
            ],
            "costs": [{**cost, "migrations": [evil]}],
            "wal_bytes": 1,
            "peak_bytes": 1,
            "rewrites": [],
            "looks_every_seconds": EVERY,
        },
        "forecast": {
            "migrate": {"low": 1.0, "expected": 2.0, "high": 3.0},
            "window": {"low": 1.0, "expected": 2.0, "high": 3.0},
            "planned": 2.5,
            "disk": {"needed": 5, "free": None, "parts": {}},
            "ratio": {"warm": 1.0},
            "speeds": {"write": 1.1, "sync": None},
            "fixed": {evil: 0.5, "migrate-check": 0.1},
            "rehearsed": [evil],
            "unknown": [evil],
        },
        "checks": [{"name": evil, "verdict": "fail", "summary": evil}],
        "way_back": {"proven": True, "doubts": [], "rows": 1, "tables": 1, "seconds": 0.1},
        "trial": {
            "verdict": "differs",
            "reasons": [evil],
            "writes": {evil: 1},
            "refused": [evil],
            "carried": 1,
            "transactions": 2,
            "seconds": 0.1,
        },
        "lint": {
            "mode": "window",
            "findings": [
                {
                    "grade": "risk",
                    "rule": evil,
                    "migration": evil,
                    "why": evil,
                    "where": evil,
                    "waived": one,
                    "safer": evil,
                }
                for one in (None, evil)
            ],
            "notes": [evil],
        },
        "changes": [{**change, "removed": 0, "columns": [column]}],
        "undo": {"verdict": "fails", "migration": evil, "error": evil, "tables": [table], "structure": [evil]},
    }
    page = rehearsal_page(data)
    assert evil not in page and "&lt;script&gt;" in page
    assert "What the window is made of" in page and page.index(">migrate</text>") < page.index(">migrate-check</text>")
    unproven = {"proven": False, "doubts": [evil], "rows": 0, "tables": 0, "seconds": 0.0}
    alone = {**data["migrate"], "costs": []}
    for more in (
        {"migrate": alone},
        {"way_back": unproven, "trial": None},
        {"trial": {**data["trial"], "verdict": "not tried"}},
    ):
        assert evil not in rehearsal_page({**data, **more})
