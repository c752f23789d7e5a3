"""Columns that are computed and stored, by a function that was changed since: no dump brings back what they were."""

from __future__ import annotations

from awkward import run

from safepoint.backup.fingerprint import take
from safepoint.backup.prints import Difference
from safepoint.backup.proof import computed_anew
from safepoint.postgres.target import Target


def test_rows_with_such_columns_that_differ_say_what_helps(database: Target) -> None:
    run(
        database,
        'create table t (a text, "the b" text generated always as (lower(a)) stored, stored text default 1)',
        "create table plain (stored text default 1)",
    )
    relations = take(database).structure["relation"]
    differences = [Difference("table", f"public.{name}", "1 row", "1 row, other content") for name in ("t", "plain")]
    (told,) = computed_anew(relations, differences)
    assert 'public.t ("the b")' in told and "plain" not in told
    assert computed_anew(relations, differences[1:]) == ()
