"""A database with everything odd in it, with owners and grants, and a snapshot of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safepoint.backup.snapshot import take_snapshot
from safepoint.hosts.here import Here
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

AWKWARD = (Path(__file__).parent / "awkward.sql").read_text(encoding="utf-8")
OWNERS = '''
    create role awkward_owner;
    create role awkward_group;
    create role awkward_app login in role awkward_group valid until '2099-01-01';
    alter role awkward_app set search_path to "$user", public;
    alter table plain owner to awkward_owner;
    grant select, insert on plain to awkward_app with grant option;
    grant update (name) on plain to awkward_group;
    grant usage on schema "Odd ""schema""" to awkward_app;
    revoke execute on function double_it(int) from public;
    alter default privileges for role awkward_owner grant select on tables to awkward_app;
    create policy for_app on plain for update to awkward_app using (true);
'''
DATABASE = (
    'alter database {db} set search_path to "$user", public, \'Odd "schema"\'',
    "alter database {db} set work_mem to '9MB'",
    "alter role awkward_app in database {db} set statement_timeout to '7s'",
    "alter database {db} set default_transaction_read_only to on",
    "revoke connect on database {db} from public",
    "grant connect on database {db} to awkward_app",
    "alter database {db} connection limit 50",
    "comment on database {db} is 'it''s the one'",
    "alter database {db} owner to awkward_owner",
)


def run(target: Target, *statements: str) -> None:
    with connect(target) as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


@contextmanager
def role(target: Target, name: str, attributes: str = "") -> Iterator[None]:
    """A role while the test goes on."""
    run(target, f"create role {name} {attributes}")
    try:
        yield
    finally:
        run(target, f"drop owned by {name} cascade", f"drop role {name}")


def snap(target: Target, server: Server, folder: Path, snapshot_id: str = "s") -> Path:
    take_snapshot(
        target,
        Here("here", folder.parent),
        installation=server.installation,
        folder=folder,
        snapshot_id=snapshot_id,
        launch_id="launch-1",
        jobs=2,
    )
    return folder / snapshot_id
