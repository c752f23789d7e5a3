"""What a part of a snapshot lacks although its rows refer to it is told."""

from __future__ import annotations

from pathlib import Path

from awkward import run, snap
from postgres_servers import Servers, drop_database

from safepoint.backup.placement import place
from safepoint.postgres.target import Target


def test_keys_that_lead_out_of_it_and_large_objects_are_told(
    database: Target, servers: Servers, tmp_path: Path
) -> None:
    run(
        database,
        "create table customer (id int primary key)",
        "create table entry (id int primary key, customer int references customer, twice int references entry)",
        "create table line (entry int references entry)",
        "insert into customer values (1)",
        "insert into entry values (1, 1, 1)",
    )
    folder = snap(database, servers(17), tmp_path / "snapshots", "s1")
    run(database, "select lo_create(0)")
    with_object = snap(database, servers(17), tmp_path / "snapshots", "s2")
    copy = database.on(f"{database.dbname}_copy")
    told = {}
    for name, words in {"entry": ("entry",), "all": ("customer", "entry", "line"), "customer": ("customer",)}.items():
        told[name] = place(folder if name != "customer" else with_object, database, copy.dbname, only=words).notes
        drop_database(copy)
    assert told["entry"] == ("foreign keys to what was left out are not there: entry_customer_fkey on public.entry",)
    assert told["all"] == ()
    assert told["customer"] == ("large objects (1) were left out, whatever rows refer to them by their oids",)
