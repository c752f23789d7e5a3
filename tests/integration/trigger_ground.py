"""What tests of the capture by triggers share: odd tables, an application's role, what is noted and what is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from awkward import run
from replay_ground import Ground

from safepoint.postgres.target import Target
from safepoint.wayback.capture.spool import read_changes

# What a capture by triggers would leave in a database, counted.
NOTHING = """
select count(*) from pg_trigger where tgname like '!safepoint%' union all
select count(*) from pg_namespace where nspname = 'safepoint_capture' union all
select count(*) from pg_event_trigger
"""


def changes(made: Ground) -> list[tuple[str, str, dict[str, object]]]:
    """Table, action and values of each change in the spool."""
    return [(one.table, one.action, dict(one.new or one.old)) for one in read_changes(made.spool)]


ODD = """
create table keyless (at timestamptz, size float8, raw bytea, took interval, price money);
create table made (id int primary key, n int, twice int generated always as (n * 2) stored, "Odd "" name" text);
create table part (id int, kind text, primary key (id, kind)) partition by list (kind);
create table part_a partition of part for values in ('a');
create unlogged table fast (id int primary key);
create table nothing ();
"""


@contextmanager
def application_role(target: Target) -> Iterator[str]:
    """A role of the application's, whose password is `only-for-tests`; what is its own goes with it."""
    role = f"{target.dbname}_app"
    run(target, f"create role {role} login password 'only-for-tests'")
    try:
        yield role
    finally:
        run(target, f"drop owned by {role}", f"drop role {role}")
