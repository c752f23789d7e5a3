"""Which twin a launch gets, by its facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safepoint.wayback.twin.choice import Choice, Facts, Wanted, choose

GIGABYTE = 10**9
FACTS = Facts(GIGABYTE, "logical", 10, 10, replicates=True, creates_databases=True)


def chosen(wanted: Wanted = "auto", allowance: float = 2.0, **changes: object) -> Choice:
    return choose(replace(FACTS, **changes), wanted, allowance)  # type: ignore[arg-type]


def test_a_big_database_gets_a_twin_that_is_kept_level_and_a_small_one_is_copied_in_the_window() -> None:
    assert chosen().kind == "logical"
    small = chosen(database_bytes=50_000_000)
    assert small.kind == "template" and "0.6 s" in small.reason
    assert chosen(copy_speed=2e9, measured=True).kind == "template"
    assert chosen("logical", database_bytes=1).kind == "logical"
    assert chosen("template").kind == "template"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wal_level": "replica"}, "wal_level is replica"),
        ({"replicates": False}, "REPLICATION"),
        ({"free_slots": 2}, "max_replication_slots"),
        ({"free_senders": 0}, "max_wal_senders"),
        ({"unnamed": ("a", "b", "c", "d")}, "a, b, c and 1 more"),
        ({"unlogged": ("public.u",)}, "public.u"),
        ({"large_objects": 3}, "3 large objects"),
        ({"in_the_way": (("materialised view", "public.m"),)}, "materialised view: public.m"),
    ],
)
def test_what_the_stream_does_not_carry_means_a_copy_and_the_reason_is_said(
    changes: dict[str, object], said: str
) -> None:
    for wanted in ("auto", "logical"):
        found = chosen(wanted, **changes)  # type: ignore[arg-type]
        assert found.kind == "template" and said in found.reason and said in found.against[0]


def test_tables_without_a_key_are_followed_unless_reading_them_takes_longer_than_the_window_may() -> None:
    small = {"keyless": ("public.bare",), "keyless_bytes": 10_000_000}
    assert chosen(**small).kind == "logical"
    large = {**small, "keyless_bytes": 300_000_000}
    found = chosen(**large)
    assert found.kind == "template" and "public.bare" in found.reason and "10.0 s" in found.reason
    assert chosen("logical", **large).kind == "logical"  # type: ignore[arg-type]


def test_without_the_right_or_the_room_for_a_copy_there_is_no_twin() -> None:
    for wanted in ("auto", "logical", "template"):
        assert chosen(wanted, creates_databases=False).kind == "none"  # type: ignore[arg-type]
        assert chosen(wanted, disk_free=GIGABYTE - 1).kind == "none"  # type: ignore[arg-type]
    assert chosen(disk_free=None).kind == "logical"


def test_a_server_that_the_plan_names_gets_the_twin_whatever_its_size_unless_something_speaks_against_it() -> None:
    far = {"server": "far:5432", "database_bytes": 1}
    found = chosen(**far)
    assert found.kind == "logical" and "the plan names far:5432" in found.reason
    full = chosen(**far, disk_free=0)  # no room beside the live database is a reason for it
    assert full.kind == "logical"
    lacking = chosen(**far, there=("far:5432 has no role shop",))
    assert lacking.kind == "template" and "far:5432 has no role shop" in lacking.reason
    assert chosen(**far, there=("far:5432 cannot be asked",), disk_free=0).kind == "none"
    assert chosen(**far, wal_level="replica").kind == "template"
