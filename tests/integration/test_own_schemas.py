"""Schemas of Safepoint's own in the application's database: whatever default privileges there are, they are its own."""

from __future__ import annotations

from pathlib import Path

from postgres_servers import drop_database, fresh_database
from replay_ground import BOTH, RELAX, RELAXED, SHOP, ground

from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.wayback.capture.capture import How

DEFAULTS = """
alter default privileges grant all on schemas to public, pg_monitor;
alter default privileges grant all on tables to public, pg_monitor;
"""
# A role that is a member of nothing, and so has what PUBLIC has, and one that is named.
REACHED = """
select n.nspname, g.role, g.privilege from pg_namespace n, (values ('usage'), ('create')) p(privilege),
    lateral (values ('pg_monitor', p.privilege), ('pg_signal_backend', p.privilege)) g(role, privilege)
where n.nspname like 'safepoint%' and has_schema_privilege(g.role, n.oid, g.privilege)
"""
OURS = "select count(*) > 0 from pg_namespace where nspname like 'safepoint%'"


@BOTH
def test_default_privileges_let_nobody_into_the_capture_or_what_a_replay_keeps(
    server: Server, tmp_path: Path, how: How
) -> None:
    """Both hold rows of all tables, and changes that somebody else writes there would be carried back."""
    database = fresh_database(server)
    try:
        # A keyless table: the event trigger that stands by a publication has a schema of its own.
        before = f"{DEFAULTS} {SHOP} create table keyless (n int);"
        with ground(database, tmp_path, before, RELAX, RELAXED, how=how) as made:
            made.write("insert into coupon (code) values ('stashed')")
            made.carry()
            for target in (made.live, made.twin):
                with connect(target) as connection:
                    assert connection.execute(OURS).fetchone() == (True,)
                    assert connection.execute(REACHED).fetchall() == []
    finally:
        drop_database(database)
