"""A database's and a role's settings may be secrets (PostgREST reads `app.jwt_secret`), and so are a user mapping's
options: they come back, and stand in no message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from awkward import run, snap

from safepoint.backup.fingerprint import compare, take
from safepoint.backup.placement import place
from safepoint.backup.proof import prove
from safepoint.errors import DatabaseError, SafepointError, Unrestorable
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

SECRET = "hunter2-of-the-director"


@pytest.fixture
def api(database: Target) -> Iterator[Target]:
    """A database with secrets in its settings, and a role that has some."""
    run(
        database,
        "create role unshown_api login",
        f"alter role unshown_api set app.jwt_secret = '{SECRET}, and more'",
        "alter role unshown_api set work_mem = '7MB'",
        f"alter database {database.dbname} set app.jwt_secret = '{SECRET}'",
        f"alter role unshown_api in database {database.dbname} set app.signing_key = '{SECRET}'",
        "create table t (a int)",
        "grant select on t to unshown_api",
    )
    yield database
    run(database, "drop owned by unshown_api", "drop role unshown_api")


def test_no_difference_and_no_note_shows_them(api: Target, server: Server, tmp_path: Path) -> None:
    before = take(api)
    folder = snap(api, server, tmp_path / "snapshots")
    assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
    copy = api.on(f"{api.dbname}_copy")
    run(
        api,
        "alter role unshown_api set app.jwt_secret = 'next-of-hers'",
        "alter role unshown_api set work_mem = '8MB'",
        f"alter database {api.dbname} set app.jwt_secret = 'next-of-hers'",
        f"alter role unshown_api in database {api.dbname} reset app.signing_key",
    )
    differences = compare(before, take(api))
    told = [str(one) for one in differences] + [str(one.as_json()) for one in differences]
    assert {one.kind for one in differences} == {"setting", "role"}
    assert not any(secret in line for line in told for secret in (SECRET, "next-of-hers"))
    assert any("7MB" in line and "8MB" in line for line in told)
    try:
        (told_of_role,) = place(folder, server.target, copy.dbname).notes
        assert "app.jwt_secret=***" in told_of_role and "work_mem=7MB" in told_of_role
        assert SECRET not in told_of_role and "next-of-hers" not in told_of_role
        with connect(copy) as connection:
            assert connection.execute("show app.jwt_secret").fetchone() == (SECRET,)
    finally:
        run(api, f"drop database if exists {copy.dbname} with (force)")


def test_no_failure_shows_the_options_of_a_user_mapping(api: Target, server: Server, tmp_path: Path) -> None:
    run(
        api,
        "create foreign data wrapper far",
        "create server there foreign data wrapper far",
        f"create user mapping for unshown_api server there options (password '{SECRET}', odd 'a)b')",
        "alter foreign data wrapper far validator postgresql_fdw_validator",
    )
    folder = snap(api, server, tmp_path / "snapshots")
    failures: list[SafepointError] = []
    with pytest.raises(Unrestorable) as unrestorable:
        prove(folder, scratch_parent=tmp_path / "scratch")
    failures.append(unrestorable.value)
    with pytest.raises(DatabaseError) as refused:
        place(folder, server.target, f"{api.dbname}_copy")
    failures.append(refused.value)
    for failure in failures:
        told = f"{failure} {failure.as_json()}"
        assert "CREATE USER MAPPING" in told and "invalid option" in told
        assert SECRET not in told
