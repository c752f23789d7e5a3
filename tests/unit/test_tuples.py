"""The short way from a tuple of the log to a row of COPY BINARY says the same as the long one, or steps aside."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.wayback.replay.tuples import SHORT, row_of_values, values_of

VALUE = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
TRICKY = st.sampled_from(["t", "tt", "n", "u", "", "t" * 116, "nt", "\x01t", "t\x01"])


def message(values: Sequence[str | None], unchanged: frozenset[int] = frozenset()) -> bytes:
    parts = [b"I", (16999).to_bytes(4, "big"), b"N", len(values).to_bytes(2, "big")]
    for place, value in enumerate(values):
        if place in unchanged:
            parts.append(b"u")
        elif value is None:
            parts.append(b"n")
        else:
            parts.append(b"t" + len(value.encode()).to_bytes(4, "big") + value.encode())
    return b"".join(parts)


def long_way(said: bytes) -> bytes:
    values, end = values_of(said, 6)
    assert end == len(said)
    return b"".join(value for value in values if value is not None)


@given(st.lists(st.one_of(VALUE, TRICKY), max_size=12))
def test_a_tuple_of_values_is_the_same_both_ways(values: list[str]) -> None:
    said = message(values)
    assert row_of_values(said, 8, said[7]) == long_way(said)


@given(st.lists(st.one_of(VALUE, TRICKY, st.none()), min_size=1, max_size=12).filter(lambda values: None in values))
def test_a_tuple_with_a_null_goes_the_long_way(values: list[str | None]) -> None:
    assert row_of_values(message(values), 8, len(values)) is None


def test_a_value_that_was_left_alone_goes_the_long_way() -> None:
    assert row_of_values(message(["a", "t", "b"], frozenset({1})), 8, 3) is None


@pytest.mark.parametrize("length", [0x7400, 0x7401, 0x740000, 0x747400])
def test_a_length_that_looks_like_a_column_goes_the_long_way(length: int) -> None:
    """With its neighbour NULL, the false mark and the missing one would make the number right."""
    said = message(["v" * length, None])
    assert said.count(b"t\0", 8) >= 1
    assert row_of_values(said, 8, said[7]) is None


def test_no_shorter_length_looks_like_a_column() -> None:
    for length in range(SHORT):
        assert b"t\0" not in struct.pack("!I", length)
    assert b"t\0" in struct.pack("!I", SHORT)
