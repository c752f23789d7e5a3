"""Rows that a migration adds or removes, and the plan file says so: no question of the rehearsal is left about them."""

from __future__ import annotations

from dataclasses import replace

from safepoint.django.operations import Operations
from safepoint.rehearsal.changes import TableChange
from safepoint.rehearsal.unexpected import unexpected

NONE = Operations(("shop.0002_data",), (), {}, {})
GROUPS = TableChange("public.auth_group", "public.auth_group", 3, 4, 1, 0, ())


def test_what_the_plan_file_says_of_a_table_s_rows_is_not_asked_once_more() -> None:
    (asked,) = unexpected(NONE, [GROUPS])
    assert "1 rows more and 0 gone" in asked.why
    assert not list(unexpected(NONE, [GROUPS], added_rows={"auth_group"}))
    assert len(list(unexpected(NONE, [GROUPS], removed_rows={"auth_group"}))) == 1, "it says so of others"
    both = replace(GROUPS, removed=2)
    assert len(list(unexpected(NONE, [both], added_rows={"auth_group"}))) == 1
    assert not list(unexpected(NONE, [both], added_rows={"auth_group"}, removed_rows={"auth_group"}))
