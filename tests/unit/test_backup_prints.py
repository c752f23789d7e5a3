"""Comparing fingerprints: what counts as a difference, and how it is told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.backup.contents import Part, combine, hash_query, parts
from safepoint.backup.prints import (
    Difference,
    Fingerprint,
    TablePrint,
    compare,
    normalised,
)
from safepoint.backup.sequence_prints import SequencePrint
from safepoint.errors import ProofFailed

PRINT = Fingerprint(
    server_version_num=170010,
    encoding="UTF8",
    tables={"public.t": TablePrint(2, "0" * 32)},
    sequences={"public.s": SequencePrint(5, True)},
    large_objects=TablePrint(0, "0" * 32),
    structure={"constraint": {"c on public.t": "CHECK ((x > 1))"}, "function": {"public.f()": "old text"}},
    ownership={"relation public.t": "owner app; reader=select, keeper=maintain"},
    extensions={"plpgsql": "1.0"},
    settings={"work_mem": "4MB"},
    roles={"app": "login"},
)


@pytest.mark.parametrize(
    ("increment", "before", "later", "held", "others"),
    [(1, 98, 3, (98, 99, 100, 1, 3), (97, 50, 4)), (-1, 3, 98, (3, 1, 100, 98), (4, 50, 97))],
    ids=["up", "down"],
)
def test_a_sequence_that_began_again_while_the_dump_ran_is_no_difference(
    increment: int, before: int, later: int, held: tuple[int, ...], others: tuple[int, ...]
) -> None:
    text = f"integer start 1 increment {increment} minimum 1 maximum 100 cache 1 cycle owned by public.t.id"
    moving = replace(PRINT, sequences={"public.s": SequencePrint(before, True)}).with_later(
        {"public.s": SequencePrint(later, True)}
    )
    cycles = replace(moving, structure={"sequence definition": {"public.s": text}})
    for number in (*held, *others):
        found = replace(cycles, sequences={"public.s": SequencePrint(number, True)})
        assert (compare(cycles, found) == ()) == (number in held)
    for number in (50, 97) if increment > 0 else (4, 50):
        assert compare(moving, replace(moving, sequences={"public.s": SequencePrint(number, True)})) == ()


def test_equal_ones_have_no_difference_and_one_digest() -> None:
    again = Fingerprint.from_json(json.loads(json.dumps(PRINT.as_json())))
    assert compare(PRINT, again) == ()
    assert again.digest == PRINT.digest


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tables": {}}, "table public.t is missing"),
        (
            {"tables": {**PRINT.tables, "public.u": TablePrint(1, "1" * 32)}},
            "table public.u is there and should not be",
        ),
        ({"sequences": {"public.s": SequencePrint(6, True)}}, "sequence public.s: expected 5, found 6"),
        ({"sequences": {"public.s": SequencePrint(5, False)}}, "sequence public.s: expected 5, found 5 (not used yet)"),
        ({"extensions": {}}, "extension plpgsql is missing"),
        ({"settings": {"work_mem": "5MB"}}, "setting work_mem: expected 4MB, found 5MB"),
        ({"roles": {"app": "superuser login"}}, "role app: expected login, found superuser login"),
        ({"encoding": "LATIN1"}, "encoding of the database: expected UTF8, found LATIN1"),
        ({"ownership": {}}, "owner and grants of relation public.t is missing"),
    ],
)
def test_a_difference_reads_well(change: dict[str, object], told: str) -> None:
    other = replace(PRINT, **change)  # type: ignore[arg-type]
    assert [str(difference) for difference in compare(PRINT, other)] == [told]
    assert other.digest != PRINT.digest


def test_versions_of_extensions_may_differ() -> None:
    assert compare(PRINT, replace(PRINT, extensions={"plpgsql": "2.0"})) == ()


@pytest.mark.parametrize("type_", ["name", "text[]", "house.kind", "varchar(3)"])
def test_a_constant_that_is_named_after_its_type_by_a_restore_is_the_same(type_: str) -> None:
    own = type_.removesuffix("[]").removesuffix("(3)").removeprefix("house.")
    assert normalised(f"SELECT 'x'::{type_} UNION") == normalised(f"SELECT 'x'::{type_} AS {own} UNION")
    assert normalised(f"SELECT 'x'::{type_} UNION") != normalised(f"SELECT 'x'::{type_} AS {own}s UNION")
    assert normalised("SELECT ''::character varying,") == normalised("SELECT ''::character varying AS \"varchar\",")


def test_between_major_versions_definitions_are_compared_by_name() -> None:
    newer = replace(
        PRINT,
        server_version_num=180006,
        structure={"constraint": {"c on public.t": "CHECK x > 1 NEW WORDS"}, "function": {}},
        ownership={"relation public.t": "owner app; reader=select"},
    )
    assert compare(PRINT, newer) == (Difference("function", "public.f()", "old text", None),)


def test_a_sequence_may_be_anywhere_it_was_while_the_dump_ran() -> None:
    moved = PRINT.with_later({"public.s": SequencePrint(9, True)})
    for last, whole in ((4, False), (5, True), (7, True), (9, True), (10, False)):
        found = compare(moved, replace(PRINT, sequences={"public.s": SequencePrint(last, True)}))
        assert (found == ()) == whole, last
    assert Fingerprint.from_json(moved.as_json()) == moved


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "CHECK (((name)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
            "CHECK (((name)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
        ),
        ("DEFAULT ('now'::text)::timestamp(3) with time zone", "DEFAULT 'now'::timestamp without time zone"),
        ("x::numeric(14,2) + 1", "(x + 1)"),
    ],
)
def test_up_to_format_2_what_a_restore_writes_differently_is_no_difference(before: str, after: str) -> None:
    assert normalised(before) == normalised(after)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CHECK ((x > 1))", "CHECK ((x > 2))"),
        ("= 'a::text'", "= 'a'"),
        ("= 'a  b'", "= 'a b'"),
        ("= '(a)'", "= 'a'"),
        ("= 'it''s'", "= 'its'"),
    ],
)
def test_up_to_format_2_what_is_in_quotes_stays_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_snapshots_of_former_formats_are_compared_and_read_as_they_were_taken() -> None:
    """Their digests were made of definitions without parentheses and casts."""
    check = {"constraint": {"c on public.t": "CHECK ((a + b) * c > 0)"}, "comment": {"table public.t": "(a) b"}}
    other = {"constraint": {"c on public.t": "CHECK (a + (b * c) > 0)"}, "comment": {"table public.t": "a b"}}
    for version in (1, 2, 3):
        one, two = (replace(PRINT, format=version, structure=found) for found in (check, other))
        assert [each.kind for each in compare(one, two)] == ([] if version < 3 else ["comment", "constraint"])
        assert (one.digest == two.digest) is (version < 3)
        assert Fingerprint.from_json(json.loads(json.dumps(one.as_json()))) == one


def test_a_changed_fingerprint_is_not_read() -> None:
    data = PRINT.as_json()
    data["tables"]["public.t"][0] = 3
    with pytest.raises(ProofFailed, match="changed"):
        Fingerprint.from_json(data)


@pytest.mark.parametrize("broken", [{}, {"format": 2}, {"format": 1}, {"format": 1, "tables": []}])
def test_a_damaged_or_newer_fingerprint_is_not_read(broken: dict[str, object]) -> None:
    with pytest.raises(ProofFailed):
        Fingerprint.from_json(broken)


sums = st.lists(st.tuples(st.integers(0, 9), st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70)), max_size=8)


@given(sums, st.randoms())
def test_parts_may_come_in_any_order(found: list[tuple[int, int, int]], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert combine(found) == combine(shuffled)
    assert len(combine(found).content) == 32


@given(st.integers(0, 100_000))
def test_parts_cover_every_page_once(pages: int) -> None:
    pieces = parts(Part("s", "t", "s.t", pages))
    edges = [piece.first or 0 for piece in pieces]
    ends = [piece.end for piece in pieces]
    assert edges[0] == 0 and ends[-1] is None
    assert ends[:-1] == edges[1:]


def test_names_are_quoted_in_the_query() -> None:
    (piece,) = parts(Part('we"ird', "t; drop table x", "n", 1))
    assert 'from only "we""ird"."t; drop table x"' in hash_query(piece).as_string(None)
