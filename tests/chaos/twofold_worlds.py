"""What an entangled world is made of: its tables, columns and references, before and after its migration. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from odd_worlds import quoted

PRELUDE = """
create extension if not exists btree_gist;
create type mood as enum ('low', 'mid', 'high');
create domain word as varchar(5);
create table noted (what text);
create function note() returns trigger language plpgsql as $$
begin
    insert into noted values (tg_table_name || ' ' || tg_op);
    return case tg_op when 'DELETE' then old else new end;
end $$;
create function touch() returns trigger language plpgsql as $$
begin new.touched := coalesce(old.touched, 0) + 1; return new; end $$;
"""
# Values of each type; few, so that they meet.
VALUES = {
    "int4": ("0", "1", "2", "3", "4", "5"),
    "text": ("'a'", "'b'", "'c'", "''", "repeat('long ', 700)", "repeat('other ', 900)"),
    "varchar(5)": ("'a'", "'b'", "'c'", "'ünï'"),
    "numeric(8,2)": ("0", "1.50", "2", "-3.25"),
    "date": ("'2026-01-01'", "'2026-02-01'", "'infinity'"),
    "daterange": ("'[2026-01-01,2026-01-05)'", "'[2026-01-04,2026-01-09)'", "'[2026-02-01,2026-02-02)'", "'empty'"),
    "jsonb": ("'{}'", "'{\"a\": [1, null]}'", "jsonb_build_object('k', repeat('v', 4000))"),
    "text[]": ("'{}'", "'{a,NULL,\"b c\"}'", "array_fill('x'::text, array[900])"),
    "mood": ("'low'", "'mid'", "'high'"),
    "word": ("'a'", "'b'", "'c'"),
    "bytea": (r"'\x00ff'", "decode(repeat('00ff5c', 1500), 'hex')"),
    "bool": ("true", "false"),
}
# Of some types what a generated column makes of a value.
COMPUTED = {
    "int4": "coalesce({}, 0) * 3",
    "text": "length(coalesce({}, ''))",
    "varchar(5)": "ascii(coalesce({}, ''))",
    "numeric(8,2)": "coalesce({}, 0)::int",
    "bool": "coalesce({}::int, 2)",
    "jsonb": "coalesce(length({} ->> 'k'), -1)",
    "text[]": "coalesce(cardinality({}), -1)",
}
SPANS = tuple(
    f"'[2026-0{one}-01,2026-0{other}-01)'::daterange" for one in range(1, 7) for other in range(one + 1, one + 4)
)
KEYED = ("int4", "varchar(5)", "date", "mood", "word", "numeric(8,2)")
# What a migration widens, and a value that only the wider type holds.
WIDER = {
    "int4": ("int8", "5000000000"),
    "varchar(5)": ("text", "'far too long'"),
    "numeric(8,2)": ("numeric(12,2)", "12345678.25"),
    "word": ("text", "'far too long'"),
}
NAMES = ("plain", "Upper", "with space", "select", "üml", "new", "old", "key", "op", "tx", "n", "o", "c", "existed")
ACTIONS = (
    *("", " on delete cascade", " on delete cascade on update cascade", " on update cascade", " on delete set null"),
    *(" on delete set null on update set null", " on delete set default", " on delete set default on update cascade"),
    *(" on delete set null on update cascade", " on delete cascade on update set default"),
)
LATE = ("", "", " deferrable initially deferred", " deferrable")
KINDS = ("id", "id", "id", "uuid", "nat", "pair", "line", "ptr", "list", "hash", "deep", "late", "none")


@dataclass
class Column:
    """A column under its old name, and the one that it has after the migration: None where it was removed, and without
    an old one where it was added.

    `bound`: a rule is about it. `beyond`: a value that only the new type holds. `back`: how the plan makes a removed
    one's value again of the row `new`, and `seen` as what it must be then; `derived`: such a value is made of this one.
    """

    name: str
    type: str
    now: str | None = ""
    now_type: str = ""
    filled: bool = False
    bound: bool = False
    identity: bool = False
    beyond: str = ""
    default: str = ""
    back: str = ""
    seen: str = ""
    derived: bool = False

    @property
    def is_since(self) -> bool:
        """Whether somebody added it after the launch."""
        return str(self.now).startswith("since ")


@dataclass
class Reference:
    """A foreign key."""

    columns: list[Column]
    parent: Table
    targets: list[Column]


@dataclass
class Table:
    """A table; `primary`: its key is the primary one after the migration, too. `rules` are constraints that a migration
    may drop. `moved`: the migration made it of another one's values; `virtual`: it has a column that is not stored;
    `own`: one that is computed of types of the application's; `detached`: what was a partition of it until after the
    launch."""

    number: int
    name: str
    kind: str
    key: list[Column]
    columns: list[Column]
    now: str = ""
    primary: bool = True
    leaves: tuple[str, ...] = ()
    references: list[Reference] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    moved: bool = False
    virtual: bool = False
    own: bool = False
    detached: tuple[str, ...] = ()
    schema: str = "public"

    @property
    def old(self) -> str:
        """What it is called in reports, before the migration."""
        return f"{self.schema}.{self.name}"

    @property
    def new(self) -> str:
        """And after it."""
        return f"{self.schema}.{self.now}"

    @property
    def keyed(self) -> bool:
        """Whether its key names a row at any time: a deferrable one does not."""
        return bool(self.key) and self.kind != "late"

    @property
    def parted(self) -> bool:
        return self.kind in ("list", "hash", "deep")

    @property
    def current(self) -> list[Column]:
        """What can be written after the migration."""
        return [one for one in self.columns if one.now is not None]


def insertion(table: str, *rows: dict[str, str], clash: str = "") -> str:
    """An INSERT of rows with the same columns; more of them than the first has are left out."""
    names: Sequence[str] = tuple(rows[0])
    if not names:
        return f"insert into {quoted(table)} default values{clash}"
    columns = ", ".join(map(quoted, names))
    values = ", ".join(f"({', '.join(row.get(name, 'default') for name in names)})" for row in rows)
    return f"insert into {quoted(table)} ({columns}) overriding system value values {values}{clash}"
