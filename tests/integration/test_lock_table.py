"""The server's room for locks: a replay locks each partition, and a rehearsal's own server has more room than most."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from safepoint.errors import ResourcesExhausted
from safepoint.launch.doctor import database as doctor_database
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.sessions import asking

PLAN: Any = SimpleNamespace(wayback=SimpleNamespace(server=None))
PARTED = """
create table day (id int, day int, primary key (id, day)) partition by list (day);
create index on day (id);
create table day_1 partition of day for values in (1); create table day_2 partition of day for values in (2);
"""


def test_more_partitions_than_the_server_has_locks_for_are_a_warning_before_the_launch(
    database: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(database) as connection:
        connection.execute(PARTED)
        (found,) = doctor_database.locks(connection, PLAN)
        assert found.verdict == "ok" and "partitioned tables need 9" in found.message
        many = doctor_database.PARTITIONS.replace("count(*)", "count(*) * 1000", 1)  # a thousand such tables
        monkeypatch.setattr(doctor_database, "PARTITIONS", many)
        (found,) = doctor_database.locks(connection, PLAN)
        login = database.conninfo()
        where = {"host": login["host"], "port": login["port"], "user": login["user"], "sslmode": "prefer"}
        away = SimpleNamespace(**{**where, "port": 1}, password_env=None, maintenance="postgres")
        (known,) = doctor_database.locks(connection, SimpleNamespace(wayback=SimpleNamespace(server=away)))  # type: ignore[arg-type]
        assert known.verdict == "warning"  # then it is a copy on this one
    assert found.verdict == "warning" and "9000 partitions and indexes" in found.message
    assert found.remedy is not None and "max_locks_per_transaction" in found.remedy


def test_a_server_without_room_for_more_locks_is_told_as_that(database: Target) -> None:
    with connect(database) as connection, pytest.raises(ResourcesExhausted) as told, asking("Carrying", "shop"):
        connection.execute("select pg_advisory_xact_lock(n) from generate_series(1, 500000) n")
    assert told.value.remedy is not None and told.value.remedy.startswith("Raise max_locks_per_transaction")
