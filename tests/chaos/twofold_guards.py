"""A world whose application and conductor are ordinary roles; policies let the application see some rows only."""

from __future__ import annotations

import random
from dataclasses import dataclass

from odd_worlds import quoted
from twofold_schemas import World

from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

_OWNED = """
do $$ declare one regclass; begin
    for one in select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('public', 'other', 'side') and relkind in ('r', 'p') loop
        execute format('alter table %s owner to {conductor}', one);
    end loop;
end $$;
alter schema public owner to {conductor};
alter schema other owner to {conductor};
alter schema side owner to {conductor};
grant all on schema public, other, side to {conductor}, {application};
grant all on all tables in schema public, other, side to {application};
grant all on all sequences in schema public, other, side to {application};
alter default privileges for role {conductor}, current_user grant all on tables to {application};
alter default privileges for role {conductor}, current_user grant all on sequences to {application};
"""


@dataclass(frozen=True)
class Guards:
    """Their names, and whose server it is."""

    admin: Target
    conductor: str
    application: str

    @classmethod
    def of(cls, database: Target) -> Guards:
        """Make the roles. The conductor may do what the documentation asks for, and no more."""
        made = cls(database.on("postgres"), f"{database.dbname}_conductor", f"{database.dbname}_application")
        with connect(made.admin) as connection:
            for statement in (
                f"create role {made.conductor} login replication bypassrls password 'x'",
                f"create role {made.application} login password 'x' in role pg_execute_server_program",
                f"grant set on parameter session_replication_role to {made.conductor}, {made.application}",
                f"grant pg_signal_backend, pg_read_all_data, {made.application} to {made.conductor}",
            ):
                connection.execute(statement.encode())
        return made

    def give(self, database: Target, world: World, dice: random.Random) -> None:
        """Of some tables the application sees and writes some rows."""
        with connect(database) as connection:
            connection.execute("set search_path = public, other")
            for table in (one for one in world.tables if one.name):
                numbers = [one for one in table.columns if one.name and one.type == "int4" and one.bound]
                if not numbers or dice.random() < 0.4:
                    continue
                seen = f"{quoted(dice.choice(numbers).name)} is distinct from {dice.randint(0, 4)}"
                checked = dice.choice(("", " with check (true)"))
                force = dice.choice(("enable", "enable", "force"))
                connection.execute(f"alter table {quoted(table.name)} enable row level security".encode())
                connection.execute(f"alter table {quoted(table.name)} {force} row level security".encode())
                connection.execute(
                    f"create policy sees on {quoted(table.name)} to {self.application} using ({seen}){checked}".encode()
                )

    def own(self, database: Target) -> Target:
        """A database and all tables to the conductor; gives its login."""
        words = _OWNED.replace("{conductor}", self.conductor).replace("{application}", self.application)
        with connect(database) as connection:
            connection.execute(words.encode())
            connection.execute(f'alter database "{database.dbname}" owner to {self.conductor}'.encode())
        return database.login(self.conductor, "x")

    def drop(self) -> None:
        """Once the databases are gone."""
        with connect(self.admin) as connection:
            for role in (self.application, self.conductor):
                connection.execute(f"drop owned by {role}".encode())
                connection.execute(f"drop role {role}".encode())
