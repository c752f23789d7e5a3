"""The SQL beside an archive, taken apart: nothing is run for roles that are there, or on another database."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from safepoint.backup.statements import (
    for_database,
    for_roles,
    names,
    own_comment,
    quoted,
    statements,
    unquoted,
)

GLOBALS = '''--
-- PostgreSQL database cluster dump
--
SET default_transaction_read_only = off;

CREATE ROLE shop;
ALTER ROLE shop WITH NOSUPERUSER LOGIN VALID UNTIL '2099-01-01 00:00:00+00';
CREATE ROLE "Odd; ""role""";
ALTER ROLE "Odd; ""role""" WITH LOGIN;
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER;
ALTER ROLE shop SET application_name TO 'a; -- CREATE ROLE intruder
b';
GRANT "Odd; ""role""" TO shop WITH INHERIT TRUE GRANTED BY postgres;
GRANT pg_monitor TO postgres;
'''
BY_PSQL = """\\restrict x8
\\! touch /tmp/elsewhere
SET default_transaction_read_only = off;
COMMENT ON ROLE shop IS 'in a text
\\! it is one';
-- User Config "odd
\\connect elsewhere
ALTER ROLE shop SET work_mem TO '9MB';
\\unrestrict x8
"""
DATABASE = """-- Run this as a superuser after the archive was restored.
COMMENT ON DATABASE shop IS 'it''s the shop; DATABASE shop';
ALTER DATABASE shop CONNECTION LIMIT 50;
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT ON DATABASE shop TO "on DATABASE shop" WITH GRANT OPTION;
ALTER DATABASE shop SET search_path TO "$user", public;
ALTER ROLE "IN DATABASE shop" IN DATABASE shop SET work_mem TO '9MB';
"""


def test_only_roles_that_are_missing_are_made() -> None:
    found = for_roles(GLOBALS, ["shop"])
    assert [line.split()[0] for line in found] == ["CREATE", "ALTER", "ALTER", "GRANT"]
    assert not any("postgres WITH" in line or "CREATE ROLE postgres" in line for line in found)
    assert for_roles(GLOBALS, ['Odd; "role"']) == [
        'CREATE ROLE "Odd; ""role"""',
        'ALTER ROLE "Odd; ""role""" WITH LOGIN',
    ]
    assert found[-1] == 'GRANT "Odd; ""role""" TO shop WITH INHERIT TRUE'
    assert for_roles(GLOBALS, []) == []
    assert for_roles(GLOBALS, ["intruder"]) == []


def test_each_statement_is_aimed_at_the_new_database() -> None:
    assert for_database(DATABASE, "shop copy") == [
        'ALTER DATABASE "shop copy" CONNECTION LIMIT 50',
        'REVOKE ALL ON DATABASE "shop copy" FROM PUBLIC',
        'GRANT CONNECT ON DATABASE "shop copy" TO "on DATABASE shop" WITH GRANT OPTION',
        'ALTER DATABASE "shop copy" SET search_path TO "$user", public',
        'ALTER ROLE "IN DATABASE shop" IN DATABASE "shop copy" SET work_mem TO \'9MB\'',
    ]
    assert own_comment(DATABASE) == "it's the shop; DATABASE shop"
    assert own_comment("ALTER DATABASE shop CONNECTION LIMIT 5;") is None
    assert own_comment(r"COMMENT ON DATABASE shop IS E'C:\\data\\new; it''s here';") == r"C:\data\new; it's here"


words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(words)
def test_a_quoted_name_is_the_name_again(name: str) -> None:
    assert unquoted(quoted(name)) == name
    assert names(f"{quoted(name)}.{quoted(name)}") == (name, name)
    assert names(f"{quoted(name)}.plain") == (name, "plain")


@given(st.lists(words, max_size=5))
def test_no_text_in_quotes_ends_a_statement(texts: list[str]) -> None:
    written = ["ALTER ROLE a SET b TO '" + text.replace("'", "''") + "'" for text in texts]
    assert statements("".join(f"{line};\n" for line in written)) == written


def test_what_only_psql_obeys_is_no_statement() -> None:
    assert statements(BY_PSQL) == [
        "SET default_transaction_read_only = off",
        "COMMENT ON ROLE shop IS 'in a text\n\\! it is one'",
        "ALTER ROLE shop SET work_mem TO '9MB'",
    ]
