"""What an odd world is made of: its tables and columns, before and after its migration. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

Effect = tuple[str, str, str, str | None, str | None]
"""What Django would tell of a migration's step: (what, table before, table after, column before, column after)."""

PRELUDE = """
create type mood as enum ('low', 'high', 'It''s "odd"');
create type pair as (a int, b text);
create domain posint as int check (value > 0);
create domain word as text check (value <> 'forbidden');
do $$ begin
    create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
exception when feature_not_supported then create collation loose from "C"; end $$;
create table audit (what text, op text, said text);
create function note_it() returns trigger language plpgsql as $$
begin
    insert into audit values (tg_table_name, tg_op, case tg_op when 'DELETE' then old::text else new::text end);
    return null;
end $$;
create function skip_some() returns trigger language plpgsql as $$
begin
    if hashtext(new::text) % 3 = 0 then return null; end if;
    return new;
end $$;
"""


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass
class Column:
    """A column; `ruled`: a rule is about its values, so that a default need not fit. `beyond`: what only the new schema
    can hold; `parts`: the types of those that it was merged of; `back`: the plan's own word for how it is made again.

    `now` and `now_type` are those after the migration, `now` None where it was removed. One that the migration adds has
    no name before.
    """

    name: str
    type: str
    filled: bool = False
    generated: bool = False
    identity: bool = False
    parent: Table | None = None
    ruled: bool = False
    now: str | None = ""
    now_type: str = ""
    beyond: str = ""
    parts: tuple[str, ...] = ()
    back: str | None = None


@dataclass
class Table:
    """A table; `late`: its key is deferrable, so that nothing may refer to it."""

    name: str
    columns: list[Column]
    key: tuple[Column, ...] = ()
    late: bool = False
    number: int = 0
    now: str = ""
    leaves: tuple[str, ...] = ()
    heir: bool = False


@dataclass
class World:
    """`before`: the statements of the old schema; those that begin with ? may fail. `relaxes`: the new schema holds
    what the old one does not. `steps`: the migration, each with its effect and the column that it changes. `reuses`: a
    new column has the name of a removed one."""

    relaxes: bool
    reuses: bool = False
    before: list[str] = field(default_factory=lambda: [PRELUDE])
    tables: list[Table] = field(default_factory=list)
    steps: list[tuple[str, Effect | None, Column | None]] = field(default_factory=list)
