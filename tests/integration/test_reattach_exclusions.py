"""A deferrable exclusion constraint forbids some of what is stashed: that is told, and the rest comes back."""

from __future__ import annotations

import json
from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask

from safepoint.postgres.target import Target
from safepoint.wayback.stash.exclusions import to_leave

BEFORE = """
create table room (id int primary key, since int not null);
insert into room select n, 10 * n from generate_series(1, 4) n;
"""
# Without overlaps, as Django's ExclusionConstraint(deferrable=Deferrable.DEFERRED) holds it.
NEXT = """
create table stay (id serial primary key, room_id int not null references room, term int4range,
    constraint stay_once exclude using gist (term with &&) where (id > 0) deferrable initially deferred);
insert into stay (room_id, term) select id, int4range(since, since + 5) from room order by id;
create table note (id serial primary key, stay_id int not null references stay, body text);
alter table room add term int4range;
alter table room add constraint room_once exclude using gist (term with &&) deferrable initially deferred;
"""
WRITES = (
    "insert into stay (id, room_id, term) values (11, 1, '[51,55)'), (12, 2, '[61,65)'), (13, 3, '[71,75)')",
    "insert into stay (id, room_id, term) values (-1, 1, '[51,55)')",
    "insert into note (stay_id, body) values (11, 'a'), (12, 'b'), (13, 'c')",
    "update room set term = int4range(id, id + 1) where id < 4",
)


def test_what_it_forbids_is_told_and_the_rest_comes_back(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": NEXT}
    # The old release makes a room, and the migration its stay, where somebody's own had been.
    since = "insert into room values (5, 60)"
    with (
        rolled_back(database, tmp_path, *WRITES, **words) as (made, _),  # type: ignore[arg-type]
        launched_again(made, since, migration=f"{NEXT} update room set term = '[1,2)' where id = 5") as again,
    ):
        done = attached(made, again)
        stays = ask(again, "select room_id, lower(term) from stay where lower(term) > 50 order by 2, 1")
        assert stays == [(1, 51), (1, 51), (5, 60), (3, 71)]
        assert ask(again, "select body from note order by 1") == [("a",), ("c",)]
        assert ask(again, "select id, lower(term) from room order by id") == [
            (1, None),
            (2, 2),
            (3, 3),
            (4, None),
            (5, 1),
        ]
        left = [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()]
        assert [(one["table"].partition(".")[2], one["key"]["id"], one["reason"]) for one in left] == [
            ("note", "2", "the row of stay that it refers to is not there"),
            ("room", "1", "room_once would not hold"),
            ("stay", "12", "stay_once would not hold"),
        ]
        assert done.left == 3


def test_of_rows_that_exclude_each_other_as_many_come_back_as_may() -> None:
    assert to_leave([(1, 2), (2, 3)]) == {2}
    assert to_leave([(3, 1), (None, 1)]) == {1}
    assert to_leave([(4, 5), (6, 5), (6, 7)]) == {5}
    assert to_leave([(None, None)]) == set()
