"""A column of JSON that became text: any spelling of a document is that document to the old release."""

from __future__ import annotations

from pathlib import Path

from replay_ground import BOTH, ground, lines, reasons

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import How

OLD = """
create table note (id int primary key, data jsonb not null);
insert into note values (1, '{"a": 1, "b": 2.50}'), (2, '[]');
"""
TEXT = "alter table note alter data type text using data::text"


@BOTH
def test_a_document_that_the_new_release_spells_otherwise_is_carried(
    database: Target, tmp_path: Path, how: How
) -> None:
    with ground(database, tmp_path, OLD, TEXT, how=how) as made:
        made.write("""insert into note values (3, '{"b":1,"a":"\\u00e4"}'), (4, 'no document')""")
        made.write(
            """update note set data = '{"b":2.50,"a":1}' where id = 1""", "update note set data = '' where id = 2"
        )
        outcome = made.carry()
        assert reasons(outcome) == [("note", "value", "4"), ("note", "value", "2")], lines(outcome, "put_aside")
        assert made.old("select id, data::text from note order by id") == [
            (1, '{"a": 1, "b": 2.50}'),
            (2, "[]"),
            (3, '{"a": "ä", "b": 1}'),
        ]
