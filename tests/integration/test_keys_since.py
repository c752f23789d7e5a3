"""Somebody changes what names a table's rows after the launch: they are told by what named them, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, RELAX, RELAXED, SHOP, ground
from test_schema_since import ahead, rest, told

from safepoint.errors import Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.mapping.mapping import changed_rules, untouched_as_now

RATES = "create table rate (day int, rate int); insert into rate values (1, 1), (2, 2), (2, 3), (4, 4), (5, 5);"
ALL = "select day, rate from rate order by 1, 2"


@BOTH
def test_a_table_that_got_a_key_after_the_launch_is_carried_by_what_its_rows_say(
    database: Target, tmp_path: Path, how: How
) -> None:
    """Whoever makes the key takes away the rows that are twice first; the twin has them. A follower knows the way back
    from before."""
    with ground(database, tmp_path, SHOP + RATES, RELAX, RELAXED, how=how) as made:
        proven = made.mapping()
        made.write("update rate set rate = 10 where day = 1", "insert into rate values (7, 7)")
        made.write("delete from rate where rate = 3", "alter table rate add primary key (day)")
        assert ahead(made, proven).put_aside == 0
        made.write("update rate set rate = 40 where day = 4", "delete from rate where day = 5")
        made.write("insert into rate values (8, 8)", "update rate set day = 44 where day = 4")
        made.write("update rate set rate = 11 where day = 1")
        with connect(made.twin) as twin:
            now = made.mapping()
            mapping = untouched_as_now(proven, now, read_catalogue(twin))
        assert changed_rules(mapping, now) == ()
        assert ahead(made, proven).put_aside == 0
        assert made.old(ALL) == made.new(ALL) == [(1, 11), (2, 2), (7, 7), (8, 8), (44, 40)]
        made.write("update rate set rate = 12 where day = 1")
        assert rest(made, mapping).put_aside == 0 and made.old(ALL) == made.new(ALL)
        assert {line["fate"] for line in told(made, mapping)} == {"carried"}


def test_where_a_key_is_another_one_now_rows_are_found_by_the_former_as_long_as_it_names_them(
    database: Target, tmp_path: Path
) -> None:
    before = "create table tag (id int primary key, code int not null unique); insert into tag values (1, 1), (2, 2);"
    with ground(database, tmp_path, before, "select 1", how="triggers") as made:
        proven = made.mapping()
        made.write("alter table tag drop constraint tag_pkey, add primary key (code), add unique (id)")
        made.write("update tag set code = 10 where id = 1", "update tag set id = 20 where id = 2")
        assert ahead(made, proven).put_aside == 0
        assert made.old("select * from tag order by 1") == [(1, 10), (20, 2)]
        made.write("alter table tag drop constraint tag_id_key", "insert into tag values (20, 20)")
        with pytest.raises(Refused, match="not named any more"):
            ahead(made, proven)
