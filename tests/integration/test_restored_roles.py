"""Roles that a restore makes, as the source had them: with what is granted to no object of the database."""

from __future__ import annotations

from pathlib import Path

from awkward import run, snap
from postgres_servers import Servers, drop_database

from safepoint.backup.placement import place
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target

MADE = (
    "create role rights_app login",
    "create role rights_other",
    "grant set on parameter session_replication_role to rights_app, rights_other, public",
    "grant alter system, set on parameter log_min_duration_statement to rights_app with grant option",
    "comment on role rights_app is 'it''s; the application'",
    "create table t (i int)",
    "grant select on t to rights_app",
)
GONE = (
    "drop owned by rights_app",
    "revoke all on parameter session_replication_role from rights_app, rights_other, public",
    "revoke all on parameter log_min_duration_statement from rights_app",
    "drop role if exists rights_app",
)
PARAMETERS = """
    select parname, string_agg(format('%s=%s%s', a.grantee::regrole, lower(a.privilege_type),
                                      case when a.is_grantable then '*' end), ' ' order by a.privilege_type)
    from pg_parameter_acl p, aclexplode(p.paracl) a where a.grantee <> 10 group by 1 order by 1
"""


def test_settings_that_a_role_may_change_and_its_comment_come_with_it(
    servers: Servers, database: Target, tmp_path: Path
) -> None:
    copy = database.on(f"{database.dbname}_copy")
    run(database, *MADE)
    try:
        folder = snap(database, servers(17), tmp_path / "snapshots")
        run(database, *GONE)
        placed = place(folder, database, copy.dbname)
        assert placed.roles_made == ("rights_app",)
        (note,) = placed.notes  # no dump has what everybody may set
        assert "grants to public on parameter session_replication_role (set)" in note
        with connect(copy) as connection:
            assert connection.execute(PARAMETERS).fetchall() == [
                ("log_min_duration_statement", "rights_app=alter system* rights_app=set*"),
                ("session_replication_role", "rights_app=set"),
            ]
            about = "select shobj_description('rights_app'::regrole, 'pg_authid')"
            assert connection.execute(about).fetchone() == ("it's; the application",)
    finally:
        drop_database(copy)
        run(database, *GONE, "drop role rights_other")


def test_security_labels_of_roles_and_of_the_database_come_along_or_are_told(
    servers: Servers, database: Target, tmp_path: Path
) -> None:
    # As an anonymiser has them, whose module this server does not load: what it must not lose without a word.
    labels = "insert into pg_shseclabel values ('{}'::regrole, 'pg_authid'::regclass, 'anon', 'MASKED')"
    here = "insert into pg_shseclabel select oid, 'pg_database'::regclass, 'anon', 'x' from pg_database"
    made = ("create role rights_masked login", "create table t (i int)", "grant select on t to rights_masked")
    run(database, *made)
    run(
        database,
        "set allow_system_table_mods = on",
        labels.format("rights_masked"),
        f"{here} where datname = '{database.dbname}'",
    )
    copy = database.on(f"{database.dbname}_copy")
    clear = ("set allow_system_table_mods = on", "delete from pg_shseclabel where provider = 'anon'")
    try:
        folder = snap(database, servers(17), tmp_path / "snapshots")
        run(database, *clear, "drop owned by rights_masked", "drop role rights_masked")
        notes = "; ".join(place(folder, database, copy.dbname).notes)
        assert "SECURITY LABEL FOR anon ON ROLE rights_masked IS 'MASKED'" in notes
        assert f"SECURITY LABEL FOR anon ON DATABASE {copy.dbname}" in notes.replace('"', "")
    finally:
        drop_database(copy)
        run(database, *clear, "drop owned by rights_masked", "drop role if exists rights_masked")
