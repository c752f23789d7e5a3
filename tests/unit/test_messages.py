"""What a capture by triggers writes is what the log would have said: messages and rows as text, there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.errors import DatabaseError
from safepoint.postgres import messages, pgoutput
from safepoint.postgres.composite import fields
from safepoint.wayback.capture.trigger_drain import _in_order

VALUES = st.lists(st.none() | st.binary(max_size=20), max_size=5)


def text(values: list[bytes | None]) -> tuple[str | None, ...]:
    return tuple(None if one is None else one.decode("utf-8", "surrogateescape") for one in values)


def row(values: list[bytes | None]) -> bytes:
    """As PostgreSQL's record_out writes it: quoted where it must be, quotes and backslashes twice."""
    parts = []
    for value in values:
        if value is None:
            parts.append(b"")
        elif not value or any(one in b'"\\(), \t\n\r\v\f' for one in value):
            parts.append(b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'""') + b'"')
        else:
            parts.append(value)
    return b"(" + b",".join(parts) + b")"


@given(st.integers(0, 2**32 - 1), VALUES, VALUES)
def test_each_message_is_decoded_to_what_was_written(
    oid: int, old: list[bytes | None], new: list[bytes | None]
) -> None:
    assert pgoutput.decode(messages.insert(oid, new)) == pgoutput.Insert(oid, text(new))
    assert pgoutput.decode(messages.update(oid, old, new)) == pgoutput.Update(oid, text(new), text(old), False)
    assert pgoutput.decode(messages.delete(oid, old)) == pgoutput.Delete(oid, text(old), False)
    assert pgoutput.decode(messages.truncate(oid)) == pgoutput.Truncate((oid,))
    told = pgoutput.decode(messages.relation(oid, "public", 'na"me', ["a", "b c"]))
    assert isinstance(told, pgoutput.Relation) and told.qualified == 'public.na"me'
    assert [(column.name, column.key) for column in told.columns] == [("a", True), ("b c", True)]
    begun = pgoutput.decode(messages.begin(7, 1_000_000, oid))
    assert isinstance(begun, pgoutput.Begin) and (begun.final_lsn, begun.xid, begun.committed_at.second) == (7, oid, 1)
    ended = pgoutput.decode(messages.commit(7, 0))
    assert isinstance(ended, pgoutput.Commit) and ended.end_lsn == 7
    assert pgoutput.decode(messages.message(7, "p", b"c")) == pgoutput.Message(True, 7, "p", b"c")


@given(st.lists(st.none() | st.text(alphabet='ab"\\(),  \n\té', max_size=8).map(str.encode), min_size=2, max_size=6))
def test_a_row_written_as_text_is_taken_apart_to_its_values(values: list[bytes | None]) -> None:
    assert fields(row(values)) == values


@pytest.mark.parametrize("torn", [b"", b"(", b"(1,2", b"1,2)", b'("a)', b"(a)b"])
def test_what_is_no_row_is_refused(torn: bytes) -> None:
    with pytest.raises(DatabaseError):
        fields(torn)


@given(st.permutations(range(6)))
def test_versions_noted_in_any_order_stand_in_the_order_in_which_each_came_from_the_one_before(
    noted: list[int],
) -> None:
    """Version n was made by the change that was noted `noted[n]`-th; each one follows from version n - 1."""
    following = {noted[n]: noted[n + 1] for n in range(5)}
    place = {seq: (before, depth) for seq, before, depth in _in_order(following)}
    ordered = sorted(range(6), key=lambda n: place.get(noted[n], (noted[n], 0)))
    assert ordered == sorted(range(6))
