"""What tests of several rooms share: databases, shops and books to look at, stores, and how a replay looks rows up."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import django_site
import pytest
from awkward import run, snap
from books import Books, books
from commanded import backed_up_folder
from loaded_django import python
from plan_file import PASSWORD_ENV, plan_file
from postgres_servers import Servers, has_postgres
from ready_shop import Shop, ready_shop
from s3_server import ACCESS_KEY, SECRET_KEY, Address, s3_server
from shared_scratch import everything, odd_snapshot, shared_scratch
from snapped_shop import plan_of, snapped_shop
from ssh_server import SSHD, SshServer, ssh_server

from safepoint.backup.manifest import read_manifest
from safepoint.backup.proof import prove
from safepoint.backup.scratch import NamedServer
from safepoint.config import PlanFile, load
from safepoint.postgres.connections import connect
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target
from safepoint.wayback.replay import compaction, holding

MAJORS = [major for major in (15, 17, 18) if has_postgres(major)]


@pytest.fixture
def site(any_database: Target) -> Iterator[Books]:
    """The books on PostgreSQL 17, then 18."""
    with books(any_database) as made:
        yield made


@pytest.fixture
def one_site(database: Target) -> Iterator[Books]:
    """The books on PostgreSQL 17."""
    with books(database) as made:
        yield made


@pytest.fixture(params=MAJORS, ids=lambda major: f"pg{major}")
def each_server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """PostgreSQL 15, 17 and 18, as far as they are on this machine."""
    return servers(request.param)


@pytest.fixture
def home(each_server: Server, new_database: Callable[[Server], Target]) -> Target:
    """An empty database on each version."""
    return new_database(each_server)


@pytest.fixture
def proven(servers: Servers, tmp_path: Path) -> Callable[[Target], None]:
    """Takes a snapshot of a database and proves it."""
    numbers = itertools.count(1)

    def prove_it(target: Target) -> None:
        with connect(target) as connection:
            server = servers(connection.info.server_version // 10000)
        folder = snap(target, server, tmp_path / "snapshots", f"s{next(numbers)}")
        assert prove(folder, scratch_parent=tmp_path / "scratch").notes == ()
        assert read_manifest(folder).fingerprint.format == 5

    return prove_it


@pytest.fixture(scope="module")
def shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Target]]:
    """The project of the tests with its first migration applied and some rows; its database's owner is `shop`."""
    folder = django_site.write_site(tmp_path_factory.mktemp("shop"))
    with django_site.site_database(server) as target:
        run(
            target,
            "create role shop",
            f"alter database {target.dbname} owner to shop",
            "grant create on schema public to shop",
        )
        try:
            django_site.manage_of(folder, target).run("migrate", "shop", "0001", "--verbosity", "0")
            django_site.manage_of(folder, target).run("migrate", "auth", "--verbosity", "0")
            run(
                target,
                "insert into shop_item (name, kind, urgent) select 'item', 'a', false from generate_series(1, 50)",
            )
            run(target, "reassign owned by postgres to shop" if target.user != "postgres" else OWN.format(role="shop"))
            yield folder, target
        finally:
            run(target, "reassign owned by shop to postgres", "drop owned by shop")
            run(target.on("postgres"), f"alter database {target.dbname} owner to postgres", "drop role shop")


OWN = """
    do $$ declare one record; begin
        for one in select oid::regclass::text as name from pg_class
                   where relnamespace = 'public'::regnamespace and relkind = 'r' loop
            execute 'alter table ' || one.name || ' owner to {role}';
        end loop;
    end $$
"""


@pytest.fixture
def shop_plan(shop: tuple[Path, Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PlanFile]:
    """Makes plan files for the shop; what it is given goes to the new release's variables."""
    folder, target = shop
    monkeypatch.setenv(PASSWORD_ENV, target.password or "")

    def make(more: str = "", *, url_env: str | None = "DATABASE_URL", **env: str) -> PlanFile:
        made = plan_file(tmp_path, target)
        text = made.path.read_text().replace('["python", "manage.py"]', f'["{python()}", "src/manage.py"]')
        text = text.replace('directory = "."', f'directory = "{folder}"')
        if url_env:
            text = text.replace("[releases.old]", f'[application]\nurl_env = "{url_env}"\n\n[releases.old]')
        if env:
            words = ", ".join(f'{name} = "{value}"' for name, value in env.items())
            text = text.replace('version = "2.0"', f'version = "2.0"\nenv = {{ {words} }}')
        made.path.write_text(text + more)
        return load(made.path)

    return make


@pytest.fixture(scope="module")
def snapped(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Target, Path]]:
    """Another shop's database, with all that belongs to one, and a snapshot of it."""
    with snapped_shop(server, tmp_path_factory.mktemp("snapped")) as made:
        yield made


@pytest.fixture
def snapped_plan(snapped: tuple[Target, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlanFile]:
    """Its plan file; what a test restores is gone after it."""
    monkeypatch.setenv(PASSWORD_ENV, "only-for-tests")
    with plan_of(snapped[0], tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def ready(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A running shop that is ready for its launch."""
    with ready_shop(server, tmp_path_factory.mktemp("ready")) as made:
        yield made


@pytest.fixture(scope="module")
def backed_up(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Target]]:
    """A plan's folder in which `safepoint backup` was run once, and its database."""
    with backed_up_folder(server, tmp_path_factory.mktemp("commanded")) as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A scratch server that others use as well."""
    with shared_scratch() as server:
        yield server


@pytest.fixture
def named(shared: Server, server: Server) -> Iterator[NamedServer]:
    """The place there, and after the test the server is as it was before it."""
    before = everything(shared)
    yield NamedServer(shared.target, server.target)
    assert everything(shared) == before


@pytest.fixture
def odd(database: Target, server: Server, tmp_path: Path) -> Iterator[Path]:
    """A snapshot with everything odd in it, of roles and grants, too."""
    with odd_snapshot(database, server, tmp_path / "snapshots") as folder:
        yield folder


@pytest.fixture
def small(database: Target, server: Server, tmp_path: Path) -> Path:
    """A snapshot of one table."""
    run(database, "create table t as select n, md5(n::text) x from generate_series(1, 500) n")
    return snap(database, server, tmp_path / "snapshots")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if SSHD is None:
        pytest.skip("there is no sshd on this machine (Debian: apt-get install openssh-server)")
    with ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once; how long the waits are is a unit test."""
    monkeypatch.setattr("safepoint.stores.retry.FIRST_WAIT", 0.01)


@pytest.fixture(params=[False, True], ids=["whole", "by-index"])
def looking_up(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What constraints ask of the twin's tables: as for small tables, and as for big ones."""
    for room in (compaction, holding):
        monkeypatch.setattr(room, "few", lambda *_: request.param)


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the S3 server, and nothing of this machine's own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
