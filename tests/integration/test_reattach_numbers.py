"""A number that a sequence gave to a stashed row, and to another one that the next launch's migration made.

Where nobody knows which rows are people's own, as of a stash of an earlier version, such a row is told.
"""

from __future__ import annotations

import json
from pathlib import Path

from launched_twice import FIRST, SECOND, attached, launched_again, rolled_back
from replay_ground import ask

from safepoint.postgres.target import Target
from safepoint.wayback.stash.stash import MANIFEST, Stash

WRITES = (
    "insert into tag (name, body) values ('mine', 'long')",  # number 3
    "insert into tag (name) values ('other')",
    "insert into entry_tags (entry_id, tag_id) values (1, 3), (2, 4), (3, 1)",
    "update tag set body = 'b' where id = 1",
)


def _of_an_earlier_version(stash: Stash) -> None:
    manifest = stash.folder / MANIFEST
    data = json.loads(manifest.read_text())
    del data["made_sha256"]
    manifest.write_text(json.dumps(data))


def test_a_row_that_the_migration_made_is_not_overwritten_by_another_of_its_number(
    database: Target, tmp_path: Path
) -> None:
    """Nor does what referred to that one refer to it now."""
    migration = SECOND + "insert into tag (name) values ('made');"
    with rolled_back(database, tmp_path, *WRITES) as (made, stash), launched_again(made, migration=migration) as again:
        _of_an_earlier_version(stash)
        done = attached(made, again)
        assert ask(again, "select id, name, body from tag order by id") == [
            (1, "audit", "b"),
            (2, "project", None),
            (3, "made", None),
            (4, "other", None),
        ]
        assert ask(again, "select entry_id, tag_id from entry_tags order by 1") == [(2, 4), (3, 1)]
        assert [(one.table, one.reason) for one in done.preview] == [
            ("entry_tags", "the row of tag that it refers to does not come back"),
            ("tag", "the migration has given its number to another row"),
        ]


def test_a_row_that_only_one_can_be_has_its_stashed_values_again(database: Target, tmp_path: Path) -> None:
    migration = SECOND + "insert into tag (name) values ('mine');"
    with rolled_back(database, tmp_path, *WRITES) as (made, _), launched_again(made, migration=migration) as again:
        done = attached(made, again)
        assert ask(again, "select name, body from tag where id = 3") == [("mine", "long")]
        assert ask(again, "select entry_id, tag_id from entry_tags order by 1") == [(1, 3), (2, 4), (3, 1)]
        assert done.left == 0, done.preview


def test_a_value_of_a_column_that_named_such_a_row_is_told(database: Target, tmp_path: Path) -> None:
    link = "alter table entry add first int references tag;"
    writes = (*WRITES, "update entry set first = 3 where id = 5; update entry set first = 4 where id = 6")
    with (
        rolled_back(database, tmp_path, *writes, migration=FIRST + link) as (made, stash),
        launched_again(made, migration=SECOND + link + "insert into tag (name) values ('made');") as again,
    ):
        _of_an_earlier_version(stash)
        done = attached(made, again)
        assert ask(again, "select id, first from entry where id in (5, 6) order by id") == [(5, None), (6, 4)]
        assert ("entry", "first", "the row of tag that it refers to does not come back") in {
            (one.table, one.column, one.reason) for one in done.preview
        }


def test_nor_does_what_referred_to_one_of_a_transaction_that_does_not_come_back(
    database: Target, tmp_path: Path
) -> None:
    relaxed = "alter table entry alter memo drop not null;"
    aside = ("update entry set memo = null where id = 8", "insert into tag (name) values ('mine')")
    writes = (aside, "insert into entry_tags (entry_id, tag_id) values (1, 3)")
    migration = SECOND + relaxed + "insert into tag (name) values ('made');"
    with (
        rolled_back(database, tmp_path, *writes, policy="transaction", migration=FIRST + relaxed) as (made, stash),
        launched_again(made, migration=migration) as again,
    ):
        _of_an_earlier_version(stash)
        done = attached(made, again)
        assert ask(again, "select name from tag where id = 3") == [("made",)]
        assert ask(again, "select memo from entry where id = 8") == [("m8",)]
        assert ask(again, "select entry_id, tag_id from entry_tags") == []
        assert {one.table for one in done.preview} == {"entry", "entry_tags", "tag"}
