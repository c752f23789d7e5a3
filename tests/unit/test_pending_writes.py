"""Which SQL of a migration may change rows: one that only defines things may be tried again."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.migrations import AddIndex, RunPython, RunSQL
from django.db.models import Index

from safepoint.django.scripts.pending import writes


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("create index concurrently if not exists x on y (z)", False),
        ("-- first\nCREATE INDEX a ON b (c); /* then; */ SET lock_timeout = 1;", False),
        ([("ALTER TABLE t ADD c int", None)], False),
        ("update t set a = 1", True),
        (["ALTER TABLE t ADD c int", ("insert into t values (%s)", [1])], True),
        ("with x as (delete from t returning a) select count(*) from x", True),
        ("select fill()", True),
    ],
)
def test_sql_that_does_more_than_to_define_may_change_rows(sql: Any, found: bool) -> None:
    assert writes(RunSQL(sql)) is found


def test_code_may_change_rows_and_an_index_does_not() -> None:
    assert writes(RunPython(RunPython.noop)) is True
    assert writes(AddIndex("item", Index(fields=["name"], name="named"))) is False
