"""The pgoutput decoder against an encoder written from the protocol's description."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from safepoint.errors import DatabaseError
from safepoint.postgres.pgoutput import (
    UNCHANGED,
    AnyMessage,
    Begin,
    Column,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    Relation,
    Truncate,
    Tuple,
    Type,
    Update,
    decode,
    format_lsn,
    parse_lsn,
)

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def encode(message: AnyMessage) -> bytes:  # noqa: C901 - one branch per kind of message
    """The inverse of `decode`."""
    match message:
        case Begin(final_lsn, at, xid):
            return b"B" + struct.pack("!QqI", final_lsn, _micro(at), xid)
        case Commit(commit_lsn, end_lsn, at, flags):
            return b"C" + struct.pack("!BQQq", flags, commit_lsn, end_lsn, _micro(at))
        case Origin(lsn, name):
            return b"O" + struct.pack("!Q", lsn) + _string(name)
        case Relation(oid, schema, name, identity, columns):
            head = b"R" + struct.pack("!I", oid) + _string(schema) + _string(name) + identity.encode()
            body = [
                struct.pack("!B", c.key) + _string(c.name) + struct.pack("!Ii", c.type_oid, c.type_modifier)
                for c in columns
            ]
            return head + struct.pack("!H", len(columns)) + b"".join(body)
        case Type(oid, schema, name):
            return b"Y" + struct.pack("!I", oid) + _string(schema) + _string(name)
        case Insert(oid, new):
            return b"I" + struct.pack("!I", oid) + b"N" + _tuple(new)
        case Update(oid, new, old, old_is_key):
            before = b"" if old is None else (b"K" if old_is_key else b"O") + _tuple(old)
            return b"U" + struct.pack("!I", oid) + before + b"N" + _tuple(new)
        case Delete(oid, old, old_is_key):
            return b"D" + struct.pack("!I", oid) + (b"K" if old_is_key else b"O") + _tuple(old)
        case Truncate(oids, cascade, restart):
            return b"T" + struct.pack("!IB", len(oids), cascade | restart << 1) + struct.pack(f"!{len(oids)}I", *oids)
        case Message(transactional, lsn, prefix, content):
            head = b"M" + struct.pack("!BQ", transactional, lsn) + _string(prefix)
            return head + struct.pack("!I", len(content)) + content


def _micro(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _string(text: str) -> bytes:
    return text.encode("utf-8") + b"\0"


def _tuple(values: Tuple) -> bytes:
    pieces = [struct.pack("!H", len(values))]
    for value in values:
        if value is None:
            pieces.append(b"n")
        elif value is UNCHANGED:
            pieces.append(b"u")
        elif isinstance(value, bytes):
            pieces.append(b"b" + struct.pack("!I", len(value)) + value)
        else:
            raw = value.encode("utf-8", "surrogateescape")
            pieces.append(b"t" + struct.pack("!I", len(raw)) + raw)
    return b"".join(pieces)


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
oids = st.integers(0, 2**32 - 1)
lsns = st.integers(0, 2**64 - 1)
instants = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
values = st.none() | st.just(UNCHANGED) | st.text(st.characters(codec="utf-8")) | st.binary()
tuples = st.lists(values, max_size=12).map(tuple)
columns = st.builds(Column, names, oids, st.integers(-1, 2**31 - 1), st.booleans())
updates = st.builds(Update, oids, tuples) | st.builds(Update, oids, tuples, tuples, st.booleans())
messages = st.one_of(
    st.builds(Begin, lsns, instants, oids),
    st.builds(Commit, lsns, lsns, instants, st.integers(0, 255)),
    st.builds(Origin, lsns, names),
    st.builds(Relation, oids, names, names, st.sampled_from("dnfi"), st.lists(columns, max_size=8).map(tuple)),
    st.builds(Type, oids, names, names),
    st.builds(Insert, oids, tuples),
    updates,
    st.builds(Delete, oids, tuples, st.booleans()),
    st.builds(Truncate, st.lists(oids, max_size=5).map(tuple), st.booleans(), st.booleans()),
    st.builds(Message, st.booleans(), lsns, names, st.binary()),
)


@given(messages)
def test_every_message_survives_the_round_trip(message: AnyMessage) -> None:
    assert decode(encode(message)) == message


@given(messages, st.data())
def test_a_message_that_is_cut_short_is_an_error_and_never_another_message(
    message: AnyMessage, data: st.DataObject
) -> None:
    raw = encode(message)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(DatabaseError):
        decode(raw[:cut])


@given(messages, st.binary(min_size=1, max_size=4))
def test_bytes_after_the_end_of_a_message_are_an_error(message: AnyMessage, more: bytes) -> None:
    with pytest.raises(DatabaseError, match="follow its end"):
        decode(encode(message) + more)


@example(b"B" + struct.pack("!QqI", 0, 2**58, 0))  # a time that no calendar has
@given(st.binary(max_size=60))
def test_any_bytes_are_either_decoded_or_refused_with_a_typed_error(raw: bytes) -> None:
    try:
        message = decode(raw)
    except DatabaseError:
        return
    assert encode(message)[:1] == raw[:1]


def test_a_value_that_is_not_utf8_comes_back_as_it_was() -> None:
    raw = b"I" + struct.pack("!I", 1) + b"N" + struct.pack("!H", 1) + b"t" + struct.pack("!I", 2) + b"\xff\xe4"
    message = decode(raw)
    assert isinstance(message, Insert) and isinstance(message.new[0], str)
    assert message.new[0].encode("utf-8", "surrogateescape") == b"\xff\xe4"


def test_an_empty_schema_means_pg_catalog() -> None:
    raw = b"Y" + struct.pack("!I", 16) + b"\0" + b"bool\0"
    assert decode(raw) == Type(16, "pg_catalog", "bool")


@given(lsns)
def test_an_lsn_survives_the_round_trip(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


def test_text_that_is_no_lsn_is_refused() -> None:
    with pytest.raises(ValueError, match="is not an LSN"):
        parse_lsn("12345")
