"""The twin on another server: kept level from afar, swapped in where it stands, and what speaks against a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from books import killed_after
from level_ground import LAUNCH, SCHEMA, Made, seed, writing
from postgres_servers import SETTINGS, drop_database
from psycopg import sql

from safepoint.backup import fingerprint
from safepoint.errors import Refused
from safepoint.postgres.binaries import installation
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import SCRATCH, Server
from safepoint.postgres.target import Target
from safepoint.wayback.names import feed_name, kept_name
from safepoint.wayback.twin import elsewhere, swap
from safepoint.wayback.twin.pair import Pair

ROLE = "shop_owner"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another cluster of the same version."""
    folder = tmp_path_factory.mktemp("other")
    server = Server.create(
        folder / "server", installation(17), password="not-the-same", settings=SETTINGS, purpose=SCRATCH
    )
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def there(other: Server) -> Iterator[Target]:
    """A login to it; what a test made there is gone afterwards."""
    role = sql.Identifier(ROLE)
    with connect(other.target) as connection:
        connection.execute(sql.SQL("create role {} login").format(role))
    yield other.target
    with connect(other.target) as connection:
        made = connection.execute(
            "select datname from pg_database where datname not in ('postgres', 'template0', 'template1')"
        ).fetchall()
    for (name,) in made:
        drop_database(other.target.on(name))
    with connect(other.target) as connection:
        connection.execute(sql.SQL("drop role {}").format(role))


@pytest.fixture
def live(database: Target) -> Iterator[Target]:
    """The shop; its biggest table belongs to a role of its own, which may connect and has a setting here."""
    role, name = sql.Identifier(ROLE), sql.Identifier(database.dbname)
    with connect(database) as connection:
        connection.execute(SCHEMA)  # type: ignore[call-overload]
        connection.execute(sql.SQL("create role {} login").format(role))
        connection.execute(sql.SQL("alter table item owner to {}").format(role))
        connection.execute(sql.SQL("grant connect on database {} to {}").format(name, role))
        connection.execute(
            sql.SQL("alter role {} in database {} set search_path = public, pg_catalog").format(role, name)
        )
    yield database
    drop_database(database)
    drop_database(database.on(kept_name(database.dbname, LAUNCH)))
    with connect(database.on("postgres")) as connection:
        connection.execute(sql.SQL("drop role {}").format(role))


def finished(live: Target, there: Target, folder: Path) -> Made:
    """Kept level there while others write, then finished at the safe point."""
    with writing(live):
        made = seed(live, folder, there=there)
        with made.keeper() as keeper:
            for _ in range(3):
                keeper.level()
                time.sleep(0.1)
    made.finish()
    return made


def names(target: Target) -> set[str]:
    """The databases of a server."""
    with connect(target.on("postgres")) as connection:
        return {row[0] for row in connection.execute("select datname from pg_database").fetchall()}


def comment(target: Target) -> str:
    with connect(target.on("postgres")) as connection:
        row = connection.execute(
            "select shobj_description(oid, 'pg_database') from pg_database where datname = %s", [target.dbname]
        ).fetchone()
    assert row is not None
    return str(row[0])


def different(live: Target, twin: Target) -> list[str]:
    """The feed stands on the live database still; another server's roles are its own."""
    found = fingerprint.compare(fingerprint.take(live), fingerprint.take(twin))
    return [str(one) for one in found if feed_name(LAUNCH) not in one.name and one.kind != "role"]


def test_a_twin_followed_from_afar_is_equal_and_is_swapped_in_where_it_stands_and_back(
    live: Target, there: Target, tmp_path: Path
) -> None:
    made = finished(live, there, tmp_path)
    assert made.facts is not None and made.facts.server == there.address
    before = fingerprint.take(live)
    done = swap.swap(made.pair, made.facts)
    assert not done.already and swap.swap(made.pair, made.facts).already
    kept = live.on(kept_name(live.dbname, LAUNCH))
    assert live.dbname not in names(live) and kept.dbname in names(live)
    assert different(kept, made.pair.swapped_in) == []
    assert "live since the rollback" in comment(made.pair.swapped_in) and "swapped out" in comment(kept)
    back = swap.unswap(made.pair, made.facts)
    assert not back.already and swap.unswap(made.pair, made.facts).already
    assert live.dbname not in names(there) and fingerprint.compare(before, fingerprint.take(live)) == ()
    with pytest.raises(psycopg.OperationalError, match="not currently accepting"):
        psycopg.connect(**made.pair.twin.conninfo())  # type: ignore[arg-type]
    assert swap.swap(made.pair, made.facts).already is False  # and forth once more


def test_a_swap_that_was_killed_between_the_two_servers_goes_on_in_either_direction(
    live: Target, there: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = finished(live, there, tmp_path)
    assert made.facts is not None

    class Killed(BaseException):
        """As a kill between the two transactions."""

    def killed(*_: object) -> None:
        raise Killed

    def half(move: object) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(swap, "_come", killed)
            with pytest.raises(Killed):
                move(made.pair, made.facts)  # type: ignore[operator]
        assert live.dbname not in names(live) | names(there)  # never two of that name; here none for a moment

    half(swap.swap)
    assert not swap.swap(made.pair, made.facts).already
    assert live.dbname in names(there)
    half(swap.unswap)
    assert not swap.unswap(made.pair, made.facts).already
    assert live.dbname in names(live)
    half(swap.swap)
    assert not swap.unswap(made.pair, made.facts).already  # turned round from the middle
    assert live.dbname in names(live) and made.twin in names(there)


def test_a_swap_killed_at_any_instant_is_finished_by_the_next(live: Target, there: Target, tmp_path: Path) -> None:
    made = finished(live, there, tmp_path)
    assert made.facts is not None
    code = (
        "from safepoint.wayback.twin.pair import Pair\nfrom safepoint.wayback.twin.swap import swap\n"
        "from safepoint.wayback.twin.twin import TwinFacts\n"
        f"facts = TwinFacts.from_json({made.facts.as_json()!r})\n"
        f"pair = Pair(target, target.at({there.address!r}).login({there.user!r}, {there.password!r}).on(facts.twin), "
        f"{LAUNCH!r})\n"
        "print('begins', flush=True)\nswap(pair, facts)\n"
    )
    for seconds in (0.0, 0.03, 0.05, 0.08, 0.12):
        killed_after(seconds, code, live)
        swap.swap(made.pair, made.facts)
        assert live.dbname in names(there) and live.dbname not in names(live), seconds
        swap.unswap(made.pair, made.facts)


def test_a_name_that_is_taken_there_is_refused_before_anything_is_renamed(
    live: Target, there: Target, tmp_path: Path
) -> None:
    made = finished(live, there, tmp_path)
    assert made.facts is not None
    with connect(there) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(live.dbname)))
    with pytest.raises(Refused, match="already a database"):
        swap.swap(made.pair, made.facts)
    assert live.dbname in names(live) and made.twin in names(there)


def test_what_speaks_against_a_server_is_said_before_anything_is_made(live: Target, there: Target) -> None:
    def said(target: Target, *roles: str) -> str:
        with connect(live) as connection:
            return "; ".join(elsewhere.problems(connection, Pair(live, target.on("twin"), LAUNCH), roles))

    assert said(there, ROLE) == ""
    assert "live database's own server" in said(live)
    assert "cannot be asked" in said(Target(there.host, 1, "postgres", "postgres"))
    assert "cannot be asked" in said(there.login(there.user, "wrong"))
    with connect(live) as connection:
        connection.execute("create extension if not exists hstore")
        connection.execute("create role shop_reader")
        connection.execute("grant select on line to shop_reader")
    try:
        with connect(there) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(live.dbname)))
            connection.execute(sql.SQL("alter role {} nologin").format(sql.Identifier(ROLE)))
            connection.execute("create role plain login password 'plain'")
        text = said(there.login("plain", "plain"), ROLE)
        for words in ("no superuser", f"a database {live.dbname}", "no role shop_reader", f"{ROLE} may not log in"):
            assert words in text, text
        assert "hstore" not in text  # it is available there, too
    finally:
        with connect(live) as connection:
            connection.execute("drop owned by shop_reader")
            connection.execute("drop role shop_reader")
        with connect(there) as connection:
            connection.execute("drop role plain")
