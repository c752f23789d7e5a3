"""What people are told to do about what `pg_restore` said."""

from __future__ import annotations

import pytest

from safepoint.backup.restoring import remedy_for

# As these extensions say it.
PRELOADED = (
    "ERROR: pg_cron can only be loaded via shared_preload_libraries HINT: Add pg_cron to the shared_preload_libraries "
    "configuration variable in postgresql.conf.",
    'FATAL: extension "timescaledb" must be preloaded HINT: Please preload the timescaledb library via '
    "shared_preload_libraries. server closed the connection unexpectedly",
    "ERROR: Citus can only be loaded via shared_preload_libraries",
)


@pytest.mark.parametrize("said", PRELOADED)
def test_an_extension_that_a_server_has_to_load_at_its_start_asks_for_such_a_server(said: str) -> None:
    assert "[scratch]" in (remedy_for(said) or "")


def test_a_snapshot_is_not_doubted_for_an_extension_that_is_not_installed() -> None:
    assert "Install the extension" in (remedy_for('ERROR: extension "postgis" is not available') or "")


BY_THE_PATH = (
    'COPY failed for table "t": ERROR: relation "codes" does not exist LINE 1: select exists (select from codes where '
    'c = x) QUERY: select exists (select from codes where c = x) CONTEXT: SQL function "known" during inlining',
    "could not execute query: ERROR: function low2(text) does not exist CONTEXT: PL/pgSQL function app.low(text)",
)


@pytest.mark.parametrize("said", BY_THE_PATH)
def test_a_function_that_needs_a_search_path_is_what_has_to_be_changed(said: str) -> None:
    """A new snapshot alone would be no better."""
    assert "SET search_path" in (remedy_for(said) or "")


BROKEN_RULES = (
    'ERROR: insert or update on table "c" violates foreign key constraint "c_a_fkey"',
    'ERROR: could not create unique index "users_email" DETAIL: Key (email)=(a@b.c) is duplicated.',
    'COPY failed for table "a": ERROR: new row for relation "a" violates check constraint "a_a_check"',
    'ERROR: null value in column "a" of relation "t" violates not-null constraint',
    'ERROR: could not create exclusion constraint "room_during" DETAIL: Key (during)=(empty) conflicts with key',
)


@pytest.mark.parametrize("said", BROKEN_RULES)
def test_rows_that_break_a_rule_of_their_own_are_what_has_to_be_mended(said: str) -> None:
    """Each new snapshot has them as well."""
    assert "Mend these rows" in (remedy_for(said) or "")
