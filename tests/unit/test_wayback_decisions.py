"""The pure decisions of the way back: names and marks, settings, grants, identities, quiet, ways to the user."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.postgres.pgoutput import Column, Relation
from safepoint.wayback.affected.lines import describe
from safepoint.wayback.affected.owners import ForeignKey, Schema, paths_to
from safepoint.wayback.capture.changes import Change, Transaction
from safepoint.wayback.capture.identity import Table, decide
from safepoint.wayback.fence.fence import FencePrior, RoleSetting
from safepoint.wayback.fence.quiet import Foreign, Quiet, around_copy, judge
from safepoint.wayback.names import (
    Kept,
    Made,
    Mark,
    capture_name,
    half_made_limit,
    kept_name,
    migration_role,
    own_words,
    quiet_name,
    read_mark,
    short_id,
    twin_name,
)
from safepoint.wayback.settings import Setting, split_list
from safepoint.wayback.twin.grants import Grant, in_order
from safepoint.wayback.twin.twin import without_fence

launch_ids = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)


@given(launch_ids, st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=70))
def test_names_are_what_postgresql_takes(launch_id: str, live: str) -> None:
    for name in (capture_name(launch_id), quiet_name(launch_id), migration_role(launch_id)):
        assert re.fullmatch(r"[a-z0-9_]{1,63}", name)
    for name in (twin_name(live, launch_id), kept_name(live, launch_id)):
        assert len(name.encode()) <= 63 and name != live
    assert 0 < half_made_limit(launch_id) < 2**31


def test_launches_that_look_alike_have_different_names() -> None:
    assert len({short_id(one) for one in ("books-2.0", "books-2-0", "books_2.0")}) == 3


@given(
    launch_ids,
    st.sampled_from([*get_args(Made), *get_args(Kept)]),
    st.none() | st.just("16/B374D848"),
    st.none() | st.text(min_size=1),
)
def test_a_mark_survives_the_round_trip_with_the_users_words_below_it(
    launch_id: str, role: Made | Kept, at: str | None, below: str | None
) -> None:
    mark = Mark(launch_id, role, at, below)
    assert read_mark(str(mark)) == mark
    assert own_words(str(mark)) == below


@pytest.mark.parametrize(
    "comment",
    [
        None,
        "",
        "Our books",
        "copied from: made by Safepoint for launch x: twin",
        "made by Safepoint for launch x: something",
        "made by Safepoint for launch x: the migrated database, swapped out",
        "kept by Safepoint for launch x: twin",
    ],
)
def test_what_is_not_exactly_a_mark_is_none(comment: str | None) -> None:
    assert read_mark(comment) is None and own_words(comment) == comment


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)))
def test_a_stored_list_of_names_is_read_as_it_was_written(names: list[str]) -> None:
    assert split_list(", ".join('"' + name.replace('"', '""') + '"' for name in names)) == names


def test_names_without_quotes_are_read_too() -> None:
    assert split_list('public, "$user",  "a ""b", pg_temp') == ["public", "$user", 'a "b', "pg_temp"]


def test_the_twin_gets_the_settings_from_before_the_fence() -> None:
    prior = FencePrior("books", 1, "off", (RoleSetting("cron", None), RoleSetting("app", "no")), ("app",))
    fenced = (
        Setting(None, "default_transaction_read_only", "on"),
        Setting(None, "work_mem", "7MB"),
        Setting("app", "default_transaction_read_only", "on"),
        Setting("cron", "default_transaction_read_only", "on"),
        Setting("safepoint_migrate_x", "role", "app"),
    )
    assert without_fence(fenced, prior) == [
        Setting(None, "work_mem", "7MB"),
        Setting(None, "default_transaction_read_only", "off"),
        Setting("app", "default_transaction_read_only", "no"),
    ]
    assert without_fence(fenced, None) == list(fenced[:4])


def test_grants_are_given_when_their_grantor_may_give_them() -> None:
    first = Grant("owner", "reader", "CONNECT", grantable=True)
    second = Grant("reader", "guest", "CONNECT", grantable=True)
    third = Grant("guest", None, "CONNECT", grantable=False)
    orphan = Grant("nobody", None, "CREATE", grantable=False)
    assert in_order([third, second, orphan, first], "owner") == ([first, second, third], [orphan])


def table(**changed: object) -> Table:
    fields = {
        "schema": "public",
        "relation": "t",
        "identity": "d",
        "unlogged": False,
        "partitioned": False,
        "owned": True,
        "primary_key": True,
        "own_index": None,
        "unique_index": None,
        "full_fails": False,
        "own_serves": False,
    }
    return Table(**{**fields, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, None),
        ({"identity": "f", "primary_key": False}, None),
        ({"identity": "i", "own_index": "x", "own_serves": True, "primary_key": False}, None),
        ({"identity": "i", "own_index": "x", "primary_key": False}, "f"),
        ({"primary_key": False}, "f"),
        ({"primary_key": False, "unique_index": "x"}, "i"),
        ({"identity": "n"}, "d"),
        ({"identity": "i"}, "d"),
        ({"identity": "f", "full_fails": True}, "d"),
        ({"primary_key": False, "partitioned": True}, None),
        ({"primary_key": False, "full_fails": True}, "uncovered"),
        ({"owned": False}, "uncovered"),
        ({"unlogged": True}, "uncovered"),
    ],
)
def test_a_table_gets_an_identity_only_where_it_lacks_one(changed: dict[str, object], expected: str | None) -> None:
    identities, uncovered = decide([table(**changed)])
    assert [one.now for one in identities] == ([expected] if expected in ("d", "i", "f") else [])
    assert len(uncovered) == (expected == "uncovered")


def judged(
    foreign: tuple[Foreign, ...] | None = (), *, moved: dict[str, bool] | None = None, vacuums: int = 0, xids: int = 0
) -> Quiet:
    return judge(foreign, moved or {}, vacuums=vacuums, other_xids=xids, weaker_because=None, span={})


@pytest.mark.parametrize(
    ("quiet", "verdict"),
    [
        (judged(), "pass"),
        (judged(xids=9), "pass"),
        (judged((Foreign(1, 2, "table public.t"),)), "fail"),
        (judged((Foreign(1, 0, None, ("pg_class",)),)), "fail"),
        (judged((Foreign(1, 0, None),)), "inconclusive"),
        (judged((Foreign(1, 0, None),), vacuums=1), "pass"),
        (judged((Foreign(1, 0, None, (), analyze=True),)), "pass"),
        (judged(moved={"public.scrap": True}), "inconclusive"),
        (judged(moved={"public.rolled_back": False}), "pass"),
        (judged(None), "pass"),
        (judged(None, xids=1), "inconclusive"),
        (judged(None, xids=1, moved={"public.t": False}), "fail"),
    ],
)
def test_quiet_is_never_passed_on_weak_evidence(quiet: Quiet, verdict: str) -> None:
    assert quiet.verdict == verdict and quiet.summary.endswith(".")


def test_the_shortest_way_to_the_user_comes_first_and_not_null_before_null() -> None:
    entry = "ledger_entry"
    author = ForeignKey(entry, "auth_user", ("author_id",), ("id",), not_null=True, place=5)
    approver = ForeignKey(entry, "auth_user", ("approver_id",), ("id",), not_null=False, place=4)
    line = ForeignKey("ledger_line", entry, ("entry_id",), ("id",))
    loop = ForeignKey(entry, "ledger_line", ("first_line_id",), ("id",), not_null=False)
    own = ForeignKey(entry, entry, ("parent_id",), ("id",))
    elsewhere = ForeignKey("rate", "currency", ("code",), ("code",))
    paths = paths_to("auth_user", [elsewhere, own, loop, line, approver, author])
    assert paths[entry][:2] == [(author,), (approver,)]
    assert paths["ledger_line"][:2] == [(line, author), (line, approver)]
    assert paths["auth_user"] == [()] and "rate" not in paths
    assert all(len({step.table for step in path}) == len(path) for ways in paths.values() for path in ways)


def test_two_users_in_one_transaction_are_never_guessed_between() -> None:
    relation = Relation(1, "public", "t", "d", (Column("id", 23, -1, True),))
    one = Transaction(1, 10, None)
    changes = [Change(one, relation, "insert", {"id": str(n)}, {}, {"id": str(n)}) for n in range(3)]
    schema = Schema({}, {}, ())
    rows = list(describe(changes, ["ann", None, "bob"], schema))
    assert [(row.user, row.user_from) for row in rows] == [("ann", "row"), ("", "unknown"), ("bob", "row")]
    rows = list(describe(changes, ["ann", None, "ann"], schema))
    assert [row.user_from for row in rows] == ["row", "transaction", "row"]


@pytest.mark.parametrize(
    ("before", "between", "own", "after", "verdict"),
    [
        ("pass", 3, 3, "pass", "pass"),
        ("pass", 4, 3, "pass", "inconclusive"),  # someone wrote while the copy was made
        ("pass", 3, None, "pass", "inconclusive"),  # a conductor died in the copy
        ("inconclusive", 3, 3, "pass", "inconclusive"),
        ("pass", 3, 3, "inconclusive", "inconclusive"),
        ("inconclusive", 3, 3, "fail", "fail"),
        ("fail", 3, 3, "pass", "fail"),
    ],
)
def test_without_a_slot_quiet_is_proven_before_during_and_after_the_copy(
    before: str, between: int, own: int | None, after: str, verdict: str
) -> None:
    found = around_copy(Quiet(before, "before", {}), between, own, Quiet(after, "after", {}))  # type: ignore[arg-type]
    assert found.verdict == verdict
