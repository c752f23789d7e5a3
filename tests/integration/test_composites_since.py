"""Composite types that somebody alters after the launch: the text of a value has no attribute's name."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import BOTH, ground

from safepoint.errors import Refused
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How
from safepoint.wayback.mapping.schemas import Schemas

BEFORE = """
create type place as (street text, town text);
create type tour as (name text, stops place[]);
create domain tours as tour[];
create table person (id int primary key, home {type}, note text);
insert into person (id) values (1);
"""
MOVED = "alter type place drop attribute street, add attribute street text"
VALUES = {
    "place": "row('Rome', 'Via A')::place",
    "place[]": "array[row('Rome', 'Via A')::place]",
    "tour": "row('all', array[row('Rome', 'Via A')::place])::tour",
    "tours": "array[row('all', array[row('Rome', 'Via A')::place])::tour]",
}


@BOTH
@pytest.mark.parametrize("kind", VALUES)
def test_attributes_that_exchanged_their_places_are_told_and_not_exchanged(
    database: Target, tmp_path: Path, how: How, kind: str
) -> None:
    with ground(database, tmp_path, BEFORE.format(type=kind), "alter table person add mail text", how=how) as made:
        made.write(MOVED)
        made.write(f"insert into person (id, home) values (2, {VALUES[kind]})")
        made.drain()
        with pytest.raises(Refused, match=r"street.* of .* stand at other places"):
            made.replay()
        assert made.old("select id from person") == [(1,)]


def test_an_attribute_behind_the_others_is_no_such_thing_and_kept_catalogues_know_it(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, BEFORE.format(type="tours"), "alter table person add mail text") as made:
        made.write("alter type place add attribute zip text")
        made.write("insert into person (id, note) values (2, 'n')")
        assert made.carry().carried == 1 and made.mapping().problems == ()
        kept = Schemas.of(made.twin, made.live, made.operations)
        assert Schemas.from_json(kept.as_json()).old.composites == kept.old.composites != {}
