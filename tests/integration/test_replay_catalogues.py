"""The catalogues of a database with ten thousand tables take seconds to read: that is done where something needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import LAUNCH, ground
from test_many_sequences import counted

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.door import entering
from safepoint.wayback.mapping.catalogue import COLUMNS, read_catalogue
from safepoint.wayback.replay.manner import Manner
from safepoint.wayback.replay.replay import carry

BEFORE = "create table entry (id int primary key, memo text)"


def test_a_round_without_news_and_one_that_is_given_the_catalogues_read_none(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ground(database, tmp_path, BEFORE, "") as made,
        entering(made.twin, "postgres") as twin,
        connect(made.live) as source,
    ):
        mapping, both = made.mapping(), (read_catalogue(twin), read_catalogue(source))
        made.write("insert into entry values (1, 'first')")
        made.drain()
        asked = counted(monkeypatch)

        def carried(manner: Manner, given: bool = False) -> tuple[int, int, int]:
            """How many were carried now and in all, and how often columns were read for it."""
            asked.clear()
            found = carry(
                twin, source, made.spool, mapping, manner, launch_id=LAUNCH, catalogues=both if given else None
            )
            return found.now, found.transactions, asked.count(COLUMNS)

        follows = Manner("row", only_whole=True)
        assert carried(follows) == (1, 1, 2)
        assert carried(follows) == (0, 1, 0)
        made.write("insert into entry values (2, 'second')")
        made.drain()
        assert carried(Manner("row"), given=True) == (1, 2, 0)
        made.write("update entry set memo = 'third' where id = 2")
        made.drain()
        assert carried(follows) == (1, 3, 2)
        assert made.old("select * from entry order by 1") == [(1, "first"), (2, "third")]
