"""Which servers a plan file may name for scratch copies, what is said of the others, and what the doctor sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from plan_file import plan_file
from postgres_servers import has_postgres
from shared_scratch import ENV, SECTION, everything

from safepoint.backup.proof import prove
from safepoint.backup.scratch import NamedServer
from safepoint.errors import DatabaseError, PlanFileError, Refused
from safepoint.launch.doctor.database import scratch
from safepoint.launch.snapshots.snapshots import scratch_of
from safepoint.postgres.catalog import survey
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target


def refused_place(place: NamedServer, folder: Path, parent: Path, kind: type[Exception]) -> tuple[str, str]:
    """What is said, and the remedy; nothing stays in the folder."""
    with pytest.raises(kind) as caught:
        prove(folder, scratch_parent=parent, scratch=place)
    assert not parent.exists() or list(parent.iterdir()) == []
    error = caught.value
    assert isinstance(error, DatabaseError | Refused) and error.remedy
    return f"{error.message} {error.subject} {error.found}", error.remedy


def test_the_server_of_the_live_database_is_refused_by_whatever_name(
    small: Path, server: Server, tmp_path: Path
) -> None:
    before = everything(server)
    place = NamedServer(replace(server.target, host="localhost"), server.target)
    said, remedy = refused_place(place, small, tmp_path / "scratch", Refused)
    assert "server of the live database" in said and "[scratch]" in remedy
    assert everything(server) == before


def test_a_live_server_that_does_not_answer_cannot_be_told_from_it(
    small: Path, shared: Server, server: Server, tmp_path: Path
) -> None:
    place = NamedServer(shared.target, replace(server.target, port=1))
    said, _ = refused_place(place, small, tmp_path / "scratch", DatabaseError)
    assert "Cannot connect" in said


def test_an_older_server_is_refused(
    servers: Callable[[int], Server], small: Path, server: Server, tmp_path: Path
) -> None:
    if not has_postgres(15):
        pytest.skip("there is no PostgreSQL 15 on this machine")
    said, remedy = refused_place(NamedServer(servers(15).target, server.target), small, tmp_path / "scratch", Refused)
    assert "older" in said and "PostgreSQL 15" in said and "newer" in remedy


def test_a_wrong_password_names_its_key_and_is_not_shown(
    small: Path, shared: Server, server: Server, tmp_path: Path
) -> None:
    place = NamedServer(shared.target.login("postgres", "a-wrong-secret"), server.target)
    said, remedy = refused_place(place, small, tmp_path / "scratch", DatabaseError)
    assert "scratch" in said and "scratch.password_env" in remedy and "a-wrong-secret" not in said + remedy


def test_a_login_that_is_no_superuser_is_refused(small: Path, shared: Server, server: Server, tmp_path: Path) -> None:
    place = NamedServer(shared.target.login("somebody", "x"), server.target)
    said, remedy = refused_place(place, small, tmp_path / "scratch", Refused)
    assert "somebody" in said and "superuser" in said and "[scratch]" in remedy


def test_the_plan_file_names_it_and_the_doctor_looks_at_it(
    database: Target, shared: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFEPOINT_TESTS_PASSWORD", database.password or "")
    made = plan_file(tmp_path, database, snapshot=SECTION.format(port=shared.port, env=ENV))
    with pytest.raises(PlanFileError, match=ENV):
        scratch_of(made)
    monkeypatch.setenv(ENV, shared.target.password or "")
    assert scratch_of(made) == NamedServer(
        replace(shared.target, sslmode="prefer"), replace(database, sslmode="prefer")
    )
    with connect(database) as connection:
        facts = survey(connection)
    (finding,) = scratch(made, facts)
    assert finding.verdict == "ok" and str(shared.port) in finding.message and "disk" in finding.message
    with pytest.raises(PlanFileError, match="server of the database itself"):
        plan_file(tmp_path, database, snapshot=SECTION.format(port=database.port, env=ENV))
