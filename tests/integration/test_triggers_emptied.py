"""A table that is emptied in the middle of a transaction gives the places of its row versions out once more."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import ground

from safepoint.postgres.target import Target

# A trigger that changes another new row of the same statement before that one's own turn.
SCHEMA = """
create table item (id int primary key, what text);
create function next_too() returns trigger language plpgsql as $$
begin
    update item set what = what || '+' where id = new.id + 1;
    return null;
end $$;
create trigger zz after insert on item for each row execute function next_too();
"""


@pytest.mark.parametrize("rest", ["truncate item", "truncate item, other", "truncate other cascade"])
def test_what_was_written_before_is_not_taken_for_what_came_behind_it(
    database: Target, tmp_path: Path, rest: str
) -> None:
    others = "create table other (id int primary key); alter table item add other int references other"
    with ground(database, tmp_path, [SCHEMA, others], "select 1", how="triggers") as made:
        made.write(
            "insert into item values (1, 'a')",
            "update item set what = 'b' where id = 1",
            "update item set what = 'c' where id = 1",
            rest,
            "insert into item values (10, 'x'), (11, 'y')",
        )
        assert made.new("select id, what from item order by id") == [(10, "x"), (11, "y+")]
        outcome = made.carry()
        assert not outcome.put_aside, outcome.aside
        assert made.old("select id, what from item order by id") == [(10, "x"), (11, "y+")]
