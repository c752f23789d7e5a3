"""The normal form of definitions: what a restore writes otherwise is the same, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.backup.definitions import normal_form

# As PostgreSQL writes them before a dump and after a restore.
SAME = {
    "an array that is cast": (
        "CHECK (((name)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
        "CHECK (((name)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
    ),
    "an array of arrays": (
        "(x <> (ARRAY[ARRAY[a, 'b'::character varying], ARRAY[(c || d), NULL::character varying]])::text[])",
        "(x <> ARRAY[ARRAY[(a)::text, ('b'::character varying)::text], ARRAY[((c || d))::text, "
        "(NULL::character varying)::text]])",
    ),
    "a cast of what has the type": (
        "(x = (ARRAY['a'::public.mood, y])::public.mood[])",
        "(x = ARRAY['a'::public.mood, (y)::public.mood])",
    ),
    "chains of AND": ("(((x >= 1) AND (x <= 2)) AND y)", "((x >= 1) AND (x <= 2) AND y)"),
    "chains of OR": ("(a OR ((b OR c) OR (d AND e)))", "(a OR b OR c OR (d AND e))"),
    "numbers": ("((n > (- 1)) AND (x < (- 1.5)))", "((n > '-1'::integer) AND (x < '-1.5'::numeric))"),
    "a constant in an arm": ("SELECT 'x'::text\nUNION", "SELECT 'x'::text AS text\nUNION"),
    "a number in an arm": ("SELECT '-1'::integer,", "SELECT '-1'::integer AS int4,"),
    "a subselect in an arm": (
        "EXISTS ( SELECT ( SELECT 'x'::text FROM t), ('z'::text COLLATE \"C\"))",
        "EXISTS ( SELECT ( SELECT 'x'::text AS text FROM t) AS text, ('z'::text COLLATE \"C\") AS text)",
    ),
}
DIFFERENT = {
    "grouping": ("CHECK ((((a + b) * c) > 0) AND d)", "CHECK (((a + (b * c)) > 0) AND d)"),
    "no grouping": ("CHECK (((a + b) * c) > 0)", "CHECK ((a + (b * c)) > 0)"),
    "a negation": ("((NOT (a OR b)) AND c)", "(((NOT a) OR b) AND c)"),
    "what is negated": ("(NOT (a OR b))", "((NOT a) OR b)"),
    "AND and OR": ("((a AND b) OR c)", "(a AND (b OR c))"),
    "BETWEEN": ("(x BETWEEN 1 AND (a AND b))", "(x BETWEEN 1 AND a AND b)"),
    "a cast": ("SELECT (a)::bigint AS b", "SELECT (a)::integer AS b"),
    "the length of a cast": ("SELECT (a)::numeric(14,2) AS b", "SELECT (a)::numeric AS b"),
    "the cast of an array": ("((ARRAY['a'::text])::character varying[])", "(ARRAY['a'::text])"),
    "an empty array": ("(ARRAY[]::text[])", "(ARRAY[]::integer[])"),
    "another name": ("SELECT 'x'::text AS texts UNION", "SELECT 'x'::text UNION"),
    "the name of a column": ("SELECT a AS text UNION", "SELECT a UNION"),
    "text": ("(a = 'x  AND y')", "(a = 'x AND y')"),
    "a number in quotes": ("(a = '-1'::text)", "(a = '-1'::integer)"),
    "a body": (
        "CREATE FUNCTION f() AS $function$ select (a AND b) AND  c $function$",
        "CREATE FUNCTION f() AS $function$ select a AND b AND c $function$",
    ),
    "a name in quotes": ('("a AND  b" AND c)', '("a AND b" AND c)'),
}


@pytest.mark.parametrize("case", SAME, ids=lambda case: case.replace(" ", "-"))
def test_what_a_restore_writes_otherwise_is_the_same(case: str) -> None:
    before, after = SAME[case]
    assert before != after and normal_form(before) == normal_form(after)


@pytest.mark.parametrize("case", DIFFERENT, ids=lambda case: case.replace(" ", "-"))
def test_what_means_something_else_stays_different(case: str) -> None:
    one, other = DIFFERENT[case]
    assert normal_form(one) != normal_form(other)


def test_what_is_no_definition_is_left_as_it_is() -> None:
    for text in ("options (a AND  b", "{host='a AND  b)}", "a AND  ]b["):
        assert normal_form(text) == text


def test_what_is_nested_deeply_or_long_takes_no_recursion() -> None:
    deep = "(" * 2000 + "a AND b" + ")" * 2000
    assert normal_form(deep).count("(") == 2000
    assert normal_form("((" * 500 + "a AND b) AND c)" + " AND d) AND e)" * 499).count("(") == 1


words = st.sampled_from(
    ["a", "AND", "OR", "(", ")", "[", "]", "ARRAY", "::text[]", "'AND'", ",", "-", "1", "AS", "text", "SELECT"]
)


@given(st.lists(words, max_size=30))
def test_a_normal_form_of_a_normal_form_is_itself(found: list[str]) -> None:
    once = normal_form(" ".join(found))
    assert normal_form(once) == once or once == " ".join(found)
