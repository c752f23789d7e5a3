"""What a restore does in several steps, and the event triggers that would hear of each."""

from __future__ import annotations

from pathlib import Path

from awkward import run, snap
from postgres_servers import Servers

from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

HEARD = """
    create table log (tag text);
    create function hears() returns event_trigger language plpgsql as
        $$ begin insert into public.log values (tg_tag); end $$;
    create table t (a int);
    create materialized view kept as select 1 as a;
    alter table t add constraint later check (a > 0) not valid;
    create event trigger hears on ddl_command_end execute function hears();
    alter event trigger hears enable always;
    comment on event trigger hears is 'x';
    truncate log;
"""


def test_an_event_trigger_hears_nothing_of_a_restore(home: Target, servers: Servers, tmp_path: Path) -> None:
    with connect(home) as connection:
        server = servers(connection.info.server_version // 10000)
    run(home, HEARD)
    folder = snap(home, server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    copy = home.on(f"{home.dbname}_copy")
    try:
        assert place(folder, server.target, copy.dbname).notes == ()
    finally:
        run(home, f"drop database if exists {copy.dbname} with (force)")
