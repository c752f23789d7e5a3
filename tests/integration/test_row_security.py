"""The new release brings policies (row-level security) that hold for the conductor, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_servers import drop_database, fresh_database
from replay_ground import BOTH, LAUNCH, SHOP, ground, operations

from safepoint.errors import DatabaseError, Refused
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How, arm
from safepoint.wayback.replay.replay import replay

MAPPERS = {"purchase": {"body": "new.head || new.words"}}
ROLE = f"conductor_{os.getpid()}"
MIGRATION = f"""
alter table purchase rename body to words;
alter table purchase add head text not null default 'h';
alter table purchase alter words set storage external;
grant select on all tables in schema public to {ROLE};
alter table purchase enable row level security;
create policy own on purchase using (current_setting('app.user', true) = 'somebody');
"""


@pytest.fixture
def shop(server: Server) -> Iterator[Target]:
    """A database, and a conductor that is no superuser."""
    database = fresh_database(server)
    with connect(database) as admin:
        admin.execute(f"create role {ROLE} login replication password 'x' in role pg_read_all_data".encode())
    try:
        yield database
    finally:
        drop_database(database)
        with connect(server.target) as admin:
            admin.execute(f"drop role {ROLE}".encode())


def test_rows_that_policies_hide_from_the_conductor_are_not_taken_for_gone(shop: Target, tmp_path: Path) -> None:
    """Large values that did not change are in no log: they are looked up in the table."""
    with ground(shop, tmp_path, SHOP, MIGRATION, operations(), MAPPERS) as made:
        made.write("update purchase set head = 'changed ' where id = 2")
        made.drain()
        conductor = made.live.login(ROLE, "x")
        with pytest.raises(DatabaseError, match="row-level security"):
            replay(made.twin, conductor, made.spool, made.mapping(), launch_id=LAUNCH)
        assert made.old("select left(body, 8) from purchase where id = 2") == [("b2b2b2b2",)]
        with connect(shop) as admin:
            admin.execute(f"alter role {ROLE} bypassrls".encode())
        assert replay(made.twin, conductor, made.spool, made.mapping(), launch_id=LAUNCH).put_aside == 0
        assert made.old("select left(body, 8) from purchase where id = 2") == [("changed ",)]


@BOTH
def test_the_capture_is_not_armed_where_policies_would_hide_rows_from_the_way_back(
    shop: Target, tmp_path: Path, how: How
) -> None:
    """Before anybody is let in: then nothing is lost by going back."""
    with connect(shop) as admin:
        admin.execute(SHOP.encode())
        admin.execute(MIGRATION.encode())
    with pytest.raises(Refused, match=r"public\.purchase") as told:
        arm(shop.login(ROLE, "x"), LAUNCH, how)
    assert f"ALTER ROLE {ROLE} BYPASSRLS" in str(told.value.remedy)


def test_a_detached_partition_that_the_conductor_may_not_read_keeps_only_its_own_rows_back(
    shop: Target, tmp_path: Path
) -> None:
    """Through its table it could be read by whoever may read that one."""
    parted = """
        create table visit (id int, day int, what text, body text, primary key (id, day)) partition by range (day);
        create table visit_1 partition of visit for values from (0) to (10);
        create table visit_2 partition of visit for values from (10) to (20);
        insert into visit select n, n, 'w', (select string_agg(md5(n || ' ' || g), '') from generate_series(1, 300) g)
            from generate_series(1, 19) n;
    """
    grant = f"""
        alter table visit alter body type varchar(90000); grant select on all tables in schema public to {ROLE};
        grant select on all sequences in schema public to {ROLE};
    """
    with ground(shop, tmp_path, SHOP + parted, grant, how="logical") as made:
        proven = made.mapping()
        with connect(shop) as admin:
            admin.execute(f"revoke pg_read_all_data from {ROLE}; revoke select on visit_1 from {ROLE}".encode())
        made.write("update visit set what = 'new' where id in (1, 11)", "alter table visit detach partition visit_1")
        made.drain()
        outcome = replay(made.twin, made.live.login(ROLE, "x"), made.spool, proven, launch_id=LAUNCH)
        assert [dict(one.key)["id"] for one in outcome.aside] == ["1"]
        assert made.old("select what from visit where id = 11") == [("new",)]
