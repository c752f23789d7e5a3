"""What is said of a snapshot whose copy differs: DDL while it was taken is no damage of its rows."""

from __future__ import annotations

import pytest

from safepoint.backup.prints import Difference
from safepoint.backup.proof import _after

ROWS = Difference("table", "public.entry", "12 rows 1f", "11 rows 2e")


@pytest.mark.parametrize(
    "found",
    [
        Difference("relation", "public.entry", "a, b", "a"),
        Difference("index", "public.entry_day", None, "btree (day)"),
        Difference("table", "public.made_meanwhile", "0 rows, content 00", None),
    ],
)
def test_definitions_that_differ_ask_for_what_was_changed_meanwhile(found: Difference) -> None:
    assert "while the snapshot was taken" in _after([found]) and "Do not rely" not in _after([found])


def test_rows_that_differ_are_nothing_to_rely_on() -> None:
    assert _after([Difference("relation", "public.entry", "a, b", "a"), ROWS]).startswith("Do not rely")


def test_a_table_with_rows_that_the_copy_lacks_is_no_ddl() -> None:
    assert _after([Difference("table", "public.entry", "12 rows, content 1f", None)]).startswith("Do not rely")
