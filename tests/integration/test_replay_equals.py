"""Whatever is written on the new schema, in whatever order: afterwards the twin is the mapping of the migrated rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from postgres_servers import drop_database, fresh_database
from replay_ground import RELAX, RELAXED, SHOP, ground
from written_ground import BEFORE, MIGRATION, OPERATIONS, WRITES, check, write

from safepoint.postgres.servers import Server
from safepoint.wayback.replay import holding


@pytest.mark.parametrize("major", [17])
def test_the_twin_is_the_mapping_of_the_migrated_rows(servers: object, major: int, tmp_path_factory: object) -> None:
    server: Server = servers(major)  # type: ignore[operator]

    @settings(
        max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
    )
    @given(WRITES, st.integers(0, 25))
    def carried(writes: list[tuple[int, int, int, bool]], cut: int) -> None:
        folder: Path = tmp_path_factory.mktemp("replay")  # type: ignore[attr-defined]
        database = fresh_database(server)
        try:
            with ground(database, folder, BEFORE, MIGRATION, OPERATIONS) as made:
                write(made, writes[:cut])
                first = made.carry()
                check(made)
                write(made, writes[cut:])
                second = made.carry()
                check(made)
                for outcome in (first, second):
                    assert outcome.put_aside == 0, outcome.aside
                    assert outcome.partly == outcome.not_carried == 0
        finally:
            drop_database(database)

    carried()


LOOSE = (
    "insert into customer (name, mail) values (repeat('n', {a} * 3), 'c' || {b} || '@x')",
    "insert into purchase (customer_id, total) select max(id), {b} - 3 from customer",
    "insert into purchase_line (purchase_id, what) select max(id), 'line {a}' from purchase",
    "update customer set mail = 'c{b}@x' where id = {a}",
    "update customer set name = repeat('u', {b} * 4) where id = {a}",
    "update purchase set total = total - {b} where id % 3 = {a} % 3",
    "update purchase set total = total + 0.001 where id = {b}",
    "update purchase_line set purchase_id = (select max(id) from purchase) where id % 4 = {b} % 4",
    "delete from purchase_line where purchase_id = {a}; delete from purchase where id = {a}",
    "update customer set id = id + 50 where id = {b} and not exists (select from purchase where customer_id = {b})",
)
LOOSE_WRITES = st.lists(
    st.tuples(st.integers(0, len(LOOSE) - 1), st.integers(1, 12), st.integers(1, 12), st.booleans()),
    min_size=3,
    max_size=30,
)
# What the old schema says; `replica` has checked none of the foreign keys.
BROKEN = """
select count(*) from (
    select id from purchase p where not exists (select from customer c where c.id = p.customer_id) union all
    select id from purchase_line l where not exists (select from purchase p where p.id = l.purchase_id)) broken
"""


@pytest.mark.parametrize(("policy", "by_index"), [("row", True), ("transaction", False)])
def test_each_row_is_carried_or_told_and_the_old_constraints_hold(
    servers: object, policy: str, by_index: bool, tmp_path_factory: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "few", lambda *_: by_index)  # as for a big table, and for a small one
    server: Server = servers(17)  # type: ignore[operator]

    @settings(
        max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate]
    )
    @given(LOOSE_WRITES)
    def carried(writes: list[tuple[int, int, int, bool]]) -> None:
        folder: Path = tmp_path_factory.mktemp("replay")  # type: ignore[attr-defined]
        database = fresh_database(server)
        try:
            with ground(database, folder, SHOP, RELAX, RELAXED) as made:
                group: list[str] = []
                for number, a, b, commit in writes:
                    group += LOOSE[number].format(a=a, b=b).split("; ")
                    if commit:
                        made.try_to_write(*group)
                        group = []
                made.try_to_write(*group)
                outcome = made.carry(policy=policy)
                assert made.old(BROKEN) == [(0,)]
                told = {(one.table.partition(".")[2], one.key["id"]) for one in outcome.aside}
                for table, columns in (
                    ("customer", "id, name, mail"),
                    ("purchase", "id, customer_id, total::numeric(12, 4)"),
                    ("purchase_line", "id, purchase_id, what"),
                ):
                    query = f"select {columns} from {table}"
                    differ = set(made.old(query)) ^ set(made.new(query))
                    assert {(table, str(row[0])) for row in differ} <= told, (table, differ)
                whole = outcome.carried + outcome.partly + outcome.stashed + outcome.not_carried
                assert whole == outcome.transactions and (policy == "row" or outcome.partly == 0)
        finally:
            drop_database(database)

    carried()
