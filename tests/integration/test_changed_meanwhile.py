"""A table whose name, columns or pages are another's once the instant of a snapshot is fixed.

A dump reads its catalogue at that instant, and then tables and columns by name, as they are called by then. Where the
names are taken by others, it reads those, and so would a fingerprint that went by names alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from at_the_instant import is_not_taken
from awkward import run

from safepoint.backup import contents
from safepoint.backup.contents import Part, reading
from safepoint.backup.fingerprint import export, take
from safepoint.errors import DatabaseError
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

BEFORE = (
    "create table t (id int, mail text); insert into t select n, 'mail ' || n from generate_series(1, 50) n",
    "create schema one; create table one.t as select 1 as id",
    "create schema two; create table two.t as select 2 as id",
)


def test_a_column_that_another_one_took_the_name_of_is_not_lost_from_a_snapshot(
    database: Target, server: Server, tmp_path: Path
) -> None:
    run(database, *BEFORE)
    is_not_taken(
        database,
        server,
        tmp_path,
        "alter table t rename mail to old_mail; alter table t add mail text",
        r"public\.t .*renamed",
    )


@pytest.mark.parametrize(
    "change",
    [
        "alter table t drop mail; alter table t add mail text",
        "alter schema one rename to three; alter schema two rename to one; alter schema three rename to two",
    ],
    ids=["column-made-anew", "schemas-exchanged"],
)
def test_what_has_the_name_of_another_is_not_read_in_its_place(database: Target, change: str) -> None:
    run(database, *BEFORE)
    with reading(database) as connection:
        snapshot = export(connection)
        run(database, change)
        with pytest.raises(DatabaseError, match="renamed"):
            take(database, snapshot=snapshot)


def test_a_column_that_came_since_is_none_of_the_snapshots(database: Target) -> None:
    run(database, *BEFORE)
    with reading(database) as connection:
        before = take(database, snapshot=export(connection))
        run(database, "alter table t add new int default 7")
        assert take(database, snapshot=export(connection)).tables == before.tables


@pytest.mark.parametrize("change", ["vacuum full t", "truncate t"])
def test_a_table_that_is_packed_or_emptied_between_two_parts_is_read_anew_or_told(
    database: Target, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    run(database, "create table t as select n, repeat('x', 900) as x from generate_series(1, 300) n")
    run(database, "delete from t where n % 3 = 0")
    monkeypatch.setattr(contents, "_PART_PAGES", 4)
    one, hashed = contents._Work._one, list[Part]()

    def then_changed(self: contents._Work, connection: object, part: Part) -> None:
        one(self, connection, part)  # type: ignore[arg-type]
        hashed.append(part)
        if len(hashed) == 3:
            run(database, change)

    with reading(database) as connection:
        before = take(database, snapshot=export(connection), jobs=1)
        monkeypatch.setattr(contents._Work, "_one", then_changed)
        if change == "truncate t":
            with pytest.raises(DatabaseError, match=r"public\.t .*emptied or rewrote"):
                take(database, snapshot=export(connection), jobs=1)
        else:
            assert take(database, snapshot=export(connection), jobs=1).tables == before.tables
    assert len(hashed) > 3
