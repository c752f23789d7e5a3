"""How a connection that was not had is told."""

from __future__ import annotations

import psycopg
import pytest

from safepoint.postgres.connections import connection_error
from safepoint.postgres.target import Target


@pytest.mark.parametrize("said", ["connection timeout expired", 'FATAL:  role "ada" does not exist.'])
def test_what_the_server_said_is_a_sentence_that_another_one_may_follow(said: str) -> None:
    message = connection_error(Target("db", 5432, "shop", "ada"), psycopg.OperationalError(said)).message
    assert message.endswith((" expired.", " exist."))
