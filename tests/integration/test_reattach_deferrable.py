"""While triggers are silent PostgreSQL asks no deferrable unique constraint: what it forbids does not come back."""

from __future__ import annotations

import json
from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import ask

from safepoint.postgres.target import Target

BEFORE = (
    "create table item (id int primary key, code text); insert into item select n, 'c' from generate_series(1, 6) n"
)
# Places in a list, as Django's UniqueConstraint(deferrable=Deferrable.DEFERRED) holds them.
NEXT = """
alter table item add place int, add note text;
update item set place = id;
alter table item add constraint item_place unique (place) deferrable initially deferred;
create table slot (id int primary key, item_id int, at int, unique (item_id, at) deferrable initially deferred);
insert into slot select id, id, 1 from item where id > 5;
"""
WRITES = (
    "update item set place = 9 where id = 1",
    "update item set place = 5 - place, note = 'swapped' where id in (2, 3)",
    "update item set place = 8 where id = 4; update item set place = 4, note = 'moved' where id = 5",
    "insert into slot values (1, 9, 1), (2, 1, 1), (3, 1, null), (4, 1, null)",
)


def test_what_a_deferrable_unique_constraint_forbids_does_not_come_back(database: Target, tmp_path: Path) -> None:
    words = {"before": BEFORE, "migration": NEXT}
    # A row that the old release made since has the place, and the slot, that others had got.
    since = ("insert into item values (8, 'new'), (9, 'new')",)
    with (
        rolled_back(database, tmp_path, *WRITES, **words) as (made, _),
        launched_again(made, *since, migration=NEXT) as again,
    ):
        done = attached(made, again)
        assert ask(again, "select place from item group by place having count(*) > 1") == []
        assert ask(again, "select item_id from slot group by item_id, at having count(*) > 1 and at > 0") == []
        found = [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()]
        # The fourth stays in its place, and so the fifth cannot have it.
        assert [(one["table"], one["key"]["id"], one["column"]) for one in found] == [
            ("public.item", "1", "place"),
            ("public.item", "4", "place"),
            ("public.item", "5", "place"),
            ("public.slot", "1", "*"),
        ]
        assert {one["reason"] for one in found} == {
            "another row has the same item_place",
            "another row has the same slot_item_id_at_key",
        }
        assert done.left == 4
        assert ask(again, "select id, place, note from item where id < 6 order by id") == [
            (1, 1, None), (2, 3, "swapped"), (3, 2, "swapped"), (4, 4, None), (5, 5, "moved"),
        ]  # fmt: skip
        assert ask(again, "select id from slot order by id") == [(2,), (3,), (4,), (6,), (8,), (9,)]
