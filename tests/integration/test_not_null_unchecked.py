"""NOT NULL that PostgreSQL 18 has not checked yet (NOT VALID) promises nothing of the rows that are there: they may
have none, and such a column names no row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from awkward import run
from level_ground import LAUNCH, seed
from postgres_servers import Servers, drop_database
from replay_ground import BOTH, ask, ground

from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.twin import feed

MADE = """
create table item (code int unique, what text);
insert into item values (null, 'a'), (null, 'b'), (null, 'c'), (1, 'd');
alter table item add constraint told not null code not valid;
"""
WRITTEN = ("delete from item where what = 'a'", "update item set code = 7 where what = 'b'")
LEFT = [(1, "d"), (7, "b"), (None, "c")]
ROWS = "select code, what from item order by 1, 2"


@BOTH
def test_rows_without_it_are_carried_back_as_what_they_are(
    servers: Servers, new_database: Callable[[Server], Target], tmp_path: Path, how: How
) -> None:
    with ground(new_database(servers(18)), tmp_path, MADE, "select 1", how=how) as made:
        made.write(*WRITTEN)
        outcome = made.carry()
        assert made.old(ROWS) == LEFT and outcome.aside == (), outcome


def test_a_level_twin_gets_them_too(servers: Servers, new_database: Callable[[Server], Target], tmp_path: Path) -> None:
    live = new_database(servers(18))
    run(live, MADE)
    made = seed(live, tmp_path, 18)
    try:
        run(live, *WRITTEN)
        made.finish()
        run(live.on("postgres"), f"alter database {made.twin} allow_connections true")
        assert ask(live.on(made.twin), ROWS) == LEFT
    finally:
        feed.end(live, LAUNCH)
        drop_database(live.on(made.twin))
