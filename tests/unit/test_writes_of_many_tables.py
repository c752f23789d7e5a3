"""What a rehearsed rollback writes is chosen in a time that grows with the tables, and not with their cube."""

from __future__ import annotations

import time

from safepoint.wayback.mapping.catalogue import Catalogue, Column, ForeignKey, Table
from safepoint.wayback.trial.writes import _Maker

MANY = 1000


def referring(count: int) -> Catalogue:
    """Tables that refer to the first one, and each to the one before it."""
    columns = (Column("id", "integer", "integer", not_null=True), Column("other", "integer", "integer", not_null=False))
    tables = {}
    for n in range(count):
        parents = {0, max(0, n - 1)} if n else set[int]()
        keys = tuple(ForeignKey(f"to_{one}", ("other",), f"public.t{one}", ("id",)) for one in sorted(parents))
        tables[f"public.t{n}"] = Table("public", f"t{n}", columns, ("id",), foreign_keys=keys)
    return Catalogue(tables)


def test_who_depends_on_each_of_a_thousand_tables_is_found_in_seconds() -> None:
    catalogue = referring(MANY)
    maker, began = _Maker(catalogue), time.process_time()
    sizes = [len(maker.dependants(table)) for table in catalogue.tables.values()]
    assert time.process_time() - began < 10
    assert sizes == [MANY - n for n in range(MANY)]
    assert {table.name for table, _ in maker.children(catalogue.tables["public.t7"])} == {"public.t8"}
