"""A row that goes to another partition while the application's own triggers write."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, ground, operations, whole

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

BEFORE = """
create table task (id int, state text, legacy text default 'none'{key}) partition by list (state);
create table task_open partition of task for values in ('open');
create table task_done partition of task default;
create table noted (what text);
insert into task select n, 'open', 'own ' || n from generate_series(1, 4) n;
create function note() returns trigger language plpgsql as $$
begin
    insert into noted values (tg_op);
    return case tg_op when 'DELETE' then old else new end;
end $$;
"""
MIGRATION = "alter table task drop legacy; create trigger tell {when} on task for each row execute function note();"
REMOVED = operations(("column-removed", "task", "task", "legacy", None))


@BOTH
@pytest.mark.parametrize("key", [", primary key (id, state)", ""], ids=["key", "no key"])
@pytest.mark.parametrize("when", ["after delete", "before insert", "after insert or delete", "before insert or delete"])
def test_a_row_that_was_moved_keeps_what_only_the_old_schema_has(
    database: Target, tmp_path: Path, how: How, when: str, key: str
) -> None:
    with ground(
        database, tmp_path, BEFORE.replace("{key}", key), MIGRATION.format(when=when), REMOVED, how=how
    ) as made:
        made.write("update task set state = 'done' where id in (1, 2)")
        made.write("update task set state = 'done' where id = 3", "update task set state = 'open' where id = 1")
        whole(made, made.carry())
        assert made.old("select id, legacy from task order by id") == [(n, f"own {n}") for n in range(1, 5)]
