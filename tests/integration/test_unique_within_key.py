"""A unique rule over a part of the key that rows are named by, as tables shared by tenants have."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, ground, whole

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

TABLES = {
    "a composite key": "create table bill (tenant int, id int unique, what text, primary key (tenant, id));",
    "a deferrable key": "create table bill (tenant int not null, id int, what text, primary key (id) deferrable, "
    "unique (tenant, id));",
}


@BOTH
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_an_updated_row_is_carried_where_a_part_of_its_key_is_unique_by_itself(
    database: Target, tmp_path: Path, how: How, table: str
) -> None:
    before = table + "insert into bill select 1, n, 'old' from generate_series(1, 4) n"
    with ground(database, tmp_path, before, "alter table bill add note text", how=how) as made:
        made.write("update bill set what = 'new' where id < 3", "update bill set tenant = 2 where id = 3")
        made.write("delete from bill where id = 4", "insert into bill values (3, 4, 'again')")
        whole(made, made.carry())
        query = "select tenant, id, what from bill order by id"
        assert made.old(query) == made.new(query) == [(1, 1, "new"), (1, 2, "new"), (2, 3, "old"), (3, 4, "again")]
