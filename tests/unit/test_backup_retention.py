"""Retention never gives up what may be needed, whatever the clocks and the order of things."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from safepoint.backup.retention import MINIMUM, Kept, Rules, decide

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def made(name: str, days_ago: float, *, proven: bool = True, needed: bool = False) -> Kept:
    return Kept(name, NOW - timedelta(days=days_ago), proven, needed)


some = st.lists(
    st.tuples(st.floats(-50, 400), st.booleans(), st.booleans()).map(
        lambda parts: made(f"{parts[0]}-{parts[1]}-{parts[2]}", parts[0], proven=parts[1], needed=parts[2])
    ),
    unique_by=lambda one: one.id,
    max_size=12,
)
clocks = st.floats(-100, 100_000 / 24).map(lambda days: NOW + timedelta(days=days))
periods = st.integers(0, 120).map(lambda days: timedelta(days=days))
rules = st.builds(Rules, st.integers(0, 40), st.integers(0, 20), st.integers(0, 14))


@given(some, clocks, periods)
def test_each_snapshot_gets_one_verdict_with_a_reason(snapshots: list[Kept], now: datetime, keep: timedelta) -> None:
    found = decide(snapshots, now, keep)
    assert {*found.keep} | {*found.drop} == {one.id for one in snapshots}
    assert not {*found.keep} & {*found.drop}
    assert all([*found.keep.values(), *found.drop.values()])


@given(some, clocks, periods)
def test_the_newest_proven_one_never_goes(snapshots: list[Kept], now: datetime, keep: timedelta) -> None:
    proven = [one for one in snapshots if one.proven]
    if proven:
        newest = max(proven, key=lambda one: (one.taken, one.id))
        assert newest.id in decide(snapshots, now, keep).keep


@given(some, clocks, periods)
def test_what_goes_is_old_unneeded_and_has_a_newer_proven_one_that_stays(
    snapshots: list[Kept], now: datetime, keep: timedelta
) -> None:
    found = decide(snapshots, now, keep)
    for one in snapshots:
        if one.id in found.drop:
            assert not one.needed
            assert now - one.taken >= max(keep, MINIMUM)
            assert any(
                other.proven and other.id in found.keep and other.taken - one.taken >= MINIMUM for other in snapshots
            )


@given(some, st.lists(st.floats(-50, 400), max_size=4), clocks, periods)
def test_unproven_ones_push_nothing_out(
    snapshots: list[Kept], extra: list[float], now: datetime, keep: timedelta
) -> None:
    before = decide(snapshots, now, keep)
    failed = [made(f"failed-{place}", days, proven=False) for place, days in enumerate(extra)]
    after = decide([*snapshots, *failed], now, keep)
    assert {*after.keep} >= {*before.keep}


@given(some, clocks, periods, st.floats(0, 100_000 / 24))
def test_a_clock_set_forward_drops_no_more_than_the_newest_proven_one_allows(
    snapshots: list[Kept], now: datetime, keep: timedelta, days: float
) -> None:
    if all(one.taken <= now for one in snapshots):
        newest = max((one.taken for one in snapshots if one.proven), default=now)
        at_newest = decide(snapshots, max(now, newest), keep)
        assert decide(snapshots, now + timedelta(days=days), keep).drop.keys() == at_newest.drop.keys()


@given(some, clocks, periods)
def test_deciding_again_after_dropping_drops_nothing_more(
    snapshots: list[Kept], now: datetime, keep: timedelta
) -> None:
    found = decide(snapshots, now, keep)
    left = [one for one in snapshots if one.id in found.keep]
    assert decide(left, now, keep).drop == {}


def test_an_old_proven_one_goes_when_a_new_one_is_proven() -> None:
    found = decide([made("old", 100), made("new", 1), made("broken", 90, proven=False)], NOW)
    assert found.drop.keys() == {"old", "broken"}
    assert found.keep == {"new": "the newest proven one"}


def test_a_period_below_thirty_days_is_taken_as_thirty() -> None:
    assert decide([made("a", 29), made("b", 0)], NOW, timedelta(days=1)).drop == {}


def test_what_a_launch_needs_stays() -> None:
    assert "old" in decide([made("old", 300, needed=True), made("new", 1)], NOW).keep


def test_a_proven_one_of_a_clock_that_was_years_ahead_makes_no_other_one_old() -> None:
    """As a cron job takes it and prunes by, while the machine's clock is wrong."""
    good = [made(str(days), days) for days in (3, 40, 80)]
    later = NOW + timedelta(days=3650)
    wrong = Kept("wrong", later, proven=True, dated=False)
    assert decide([*good, wrong], later).drop == decide(good, later).drop
    assert decide([*good, wrong], NOW).keep["wrong"]


@given(some, clocks, periods, rules)
def test_one_from_the_future_lets_nothing_go(
    snapshots: list[Kept], now: datetime, keep: timedelta, wanted: Rules
) -> None:
    """Both clocks were wrong then, and are right again: backups fail ever since, and `prune` runs each night."""
    future = Kept("future", now + timedelta(days=300), proven=True)
    assert (
        decide([*snapshots, future], now, keep, wanted).drop.keys() <= decide(snapshots, now, keep, wanted).drop.keys()
    )


def test_one_of_a_clock_that_was_years_behind_is_not_taken_for_old() -> None:
    wrong = Kept("wrong", NOW - timedelta(days=3650), proven=True, dated=False)
    assert "wrong" in decide([made("new", 1), wrong], NOW).keep


@given(some, clocks, periods, rules)
def test_rules_only_add_to_what_stays(snapshots: list[Kept], now: datetime, keep: timedelta, wanted: Rules) -> None:
    assert {*decide(snapshots, now, keep, wanted).keep} >= {*decide(snapshots, now, keep).keep}


@given(some, clocks, periods, rules)
def test_what_rules_keep_is_proven_and_no_more_than_they_say(
    snapshots: list[Kept], now: datetime, keep: timedelta, wanted: Rules
) -> None:
    more = {*decide(snapshots, now, keep, wanted).keep} - {*decide(snapshots, now, keep).keep}
    assert all(one.proven for one in snapshots if one.id in more)
    assert len(more) <= wanted.daily + wanted.weekly + wanted.monthly


def test_each_month_keeps_its_newest_proven_one() -> None:
    months = [
        Kept(f"{month}-{day}", datetime(2025, month, day, tzinfo=UTC), proven=day != 25)
        for month in range(1, 13)
        for day in (3, 20, 25)
    ]
    found = decide(months, NOW, rules=Rules(monthly=6))
    kept = {name for name, reason in found.keep.items() if reason.startswith("monthly")}
    assert kept | {"12-20"} == {f"{month}-20" for month in range(7, 13)}
    assert found.keep["10-20"] == "monthly 3 of 6"


def test_days_without_a_snapshot_push_nothing_out() -> None:
    days = [made(f"{days}", days) for days in (0, 100, 200, 300)]
    assert {*decide(days, NOW, rules=Rules(daily=3)).keep} == {"0", "100", "200"}
