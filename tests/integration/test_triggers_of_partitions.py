"""What was said of a partition's own trigger (DISABLE, ENABLE ALWAYS) comes after its table's, which makes it: with
several jobs `pg_restore` does not see to that."""

from __future__ import annotations

from pathlib import Path

from awkward import run, snap

from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

PARTS = 40
MADE = (
    "create function seen() returns trigger language plpgsql as 'begin return new; end'",
    'create table "the log" (a int, b int) partition by range (a)',
    'create table half partition of "the log" for values from (0) to (1000) partition by list (b)',
    f"""do $$ begin for i in 1..{PARTS} loop
        execute format('create table %I partition of half for values in (%s)', 'a' || i, i);
    end loop; end $$""",
    'create table "Its ""own" (a int, b int); alter table half attach partition "Its ""own" default',
    'create trigger "to be seen" after insert on "the log" for each row execute function seen()',
    f"""do $$ begin for i in 1..{PARTS} loop
        execute format('alter table %I %s trigger "to be seen"', 'a' || i,
                       (array['disable', 'enable always'])[i % 2 + 1]);
    end loop; end $$""",
    'alter table "Its ""own" enable replica trigger "to be seen"',
    'insert into "the log" values (1, 1), (2, 77)',
)
ENABLED = "select tgenabled::text, count(*)::int from pg_trigger where not tgisinternal group by 1 order by 1"


def test_they_come_back_whole_and_in_part(database: Target, server: Server, tmp_path: Path) -> None:
    run(database, *MADE)
    folder = snap(database, server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch", jobs=4).notes == ()
    copy = database.on(f"{database.dbname}_copy")
    for only in ((), ("the log",)):
        try:
            place(folder, server.target, copy.dbname, only=only, jobs=4)
            with connect(copy) as connection:
                found = connection.execute(ENABLED).fetchall()
            assert found == [("A", PARTS // 2), ("D", PARTS // 2), ("O", 2), ("R", 1)]
        finally:
            run(database, f"drop database if exists {copy.dbname} with (force)")
