"""A column that a mapper reads, filled by the migration: its default is what the old release says of it."""

from __future__ import annotations

from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask, operations

from safepoint.postgres.target import Target

BEFORE = """
create table team (id int primary key, sees boolean not null, changes boolean not null, note text);
insert into team values (1, true, false, 'a'), (2, true, false, 'b');
"""
CHANGE = """
alter table team add everything boolean not null default false, add sees_all boolean not null default false,
    add colour text not null default 'none';
update team set everything = sees and changes, sees_all = sees;
alter table team drop sees, drop changes;
"""
CHANGES = operations(
    ("column-removed", "team", "team", "sees", None), ("column-removed", "team", "team", "changes", None)
)
MAPPERS = {"team": {"sees": "sees_all", "changes": "everything and id > 0"}}


def test_what_the_old_release_took_away_since_is_not_given_back(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": CHANGE, "found": CHANGES, "mappers": MAPPERS}
    write = "update team set everything = true, colour = 'red'"
    with rolled_back(database, tmp_path, write, **words) as (made, _):  # type: ignore[arg-type]
        assert ask(made.twin, "select sees, changes from team") == [(True, True)] * 2
        since = "update team set changes = false where id = 1"
        with launched_again(made, since, migration=CHANGE) as again:
            done = attached(made, again)
            assert ask(again, "select id, everything, colour from team order by id") == [
                (1, False, "red"),
                (2, True, "red"),
            ]
            assert [(one.key["id"], one.column) for one in done.preview] == [("1", "everything")]
