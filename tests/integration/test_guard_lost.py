"""The guard of a conductor whose machine slept: what it has not seen is looked for before its next step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest
from broken_link import broken_link
from psycopg import sql

from safepoint.launch.guard import HOLDERS, Guard, key_of
from safepoint.postgres.target import Target
from safepoint.wayback.names import Mark, twin_name

LAUNCH = "accounting-2.0"


@pytest.fixture
def asleep(database: Target, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Guard]]:
    """Makes guards over which nobody watches, for nothing reaches a machine that sleeps."""
    monkeypatch.setattr(Guard, "_watch", lambda _self: None)
    guards: list[Guard] = []

    def make(who: str) -> Guard:
        guards.append(Guard(lambda: database, "postgres", LAUNCH, who))
        guards[-1].take()
        guards[-1].refuse_remains(list)
        return guards[-1]

    yield make
    for guard in guards:
        guard.release()


def end_sessions(database: Target) -> None:
    with psycopg.connect(**database.on("postgres").conninfo(), autocommit=True) as admin:  # type: ignore[arg-type]
        for pid, *_ in admin.execute(HOLDERS, key_of(database.dbname)).fetchall():
            admin.execute("SELECT pg_terminate_backend(%s, 2000)", (pid,))


def test_one_that_nobody_took_is_taken_again(database: Target, asleep: Callable[[str], Guard]) -> None:
    ann = asleep("ann@one")
    assert ann.confirm()
    end_sessions(database)
    assert ann.confirm() and ann.held and ann.refusal is None


def test_one_that_another_has_is_given_up(database: Target, asleep: Callable[[str], Guard]) -> None:
    ann = asleep("ann@one")
    end_sessions(database)
    asleep("bob@two")
    assert not ann.confirm()
    assert "bob@two" in str(ann.refusal)


def test_one_that_another_had_is_given_up_where_the_launch_was_gone_on_with(
    database: Target, asleep: Callable[[str], Guard]
) -> None:
    ann = asleep("ann@one")
    end_sessions(database)
    bob = asleep("bob@two")
    name = sql.Identifier(twin_name(database.dbname, LAUNCH))
    with psycopg.connect(**database.on("postgres").conninfo(), autocommit=True) as admin:  # type: ignore[arg-type]
        admin.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            mark = sql.Literal(str(Mark(LAUNCH, "twin", "0/1", None)))
            admin.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, mark))
            bob.release()
            assert not ann.confirm()
            assert "gone on with" in str(ann.refusal) or "begun before" in str(ann.refusal)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {}").format(name))


@pytest.mark.parametrize("new_ones", ["are carried", "are not"])
def test_a_link_that_went_silent_holds_no_step_up_for_long(database: Target, new_ones: str) -> None:
    """As long as the link carried nothing each step waited for it; the site may be closed meanwhile."""
    with broken_link(database.port, rate=1e9) as link:
        guard = Guard(lambda: replace(database, port=link.port), "postgres", LAUNCH, "ann@one")
        guard.take()
        guard.refuse_remains(list)
        threading.Thread(target=link.stall, args=(60,), daemon=True).start()
        link.rate = 1e9 if new_ones == "are carried" else 0
        time.sleep(0.2)  # the link carries nothing more by then
        began = time.monotonic()
        assert guard.confirm() and guard.held == (new_ones == "are carried")
        assert time.monotonic() - began < (6 if guard.held else 12)
        began = time.monotonic()
        assert guard.confirm() and time.monotonic() - began < 6  # it is not waited for again and again
        guard.release()
