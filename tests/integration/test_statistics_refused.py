"""A table whose statistics cannot be computed, with which the live database lives: a copy does as well."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from awkward import run

from safepoint.postgres.connections import connect
from safepoint.postgres.statistics import make_statistics
from safepoint.postgres.target import Target
from safepoint.rehearsal import ground

MADE = """
    create table refused (a int);
    insert into refused values (0);
    create statistics inverse on (1 / a) from refused;
    create table parts (a int) partition by list (a);
    create table part partition of parts for values in (1);
    insert into parts values (1);
    create table "Odd, one" (a int);
    insert into "Odd, one" values (1);
"""
KNOWN = "select string_agg(distinct tablename, ', ' order by tablename) from pg_stats where schemaname = 'public'"


def _by_vacuum(target: Target) -> tuple[str, ...]:
    with connect(target) as connection:
        return make_statistics(connection, "vacuum (analyze)")


@pytest.mark.parametrize("make", [ground.make_statistics, _by_vacuum], ids=["rehearsal", "twin"])
def test_all_other_tables_get_theirs(home: Target, make: Callable[[Target], tuple[str, ...]]) -> None:
    run(home, MADE)
    (told,) = make(home)
    assert told.startswith("public.refused has no statistics: division by zero")
    with connect(home) as connection:
        assert connection.execute(KNOWN).fetchone() == ("Odd, one, part, parts",)
