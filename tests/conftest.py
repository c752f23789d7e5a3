"""PostgreSQL servers for the tests: made when first asked for, gone at the end, whatever happens."""

from __future__ import annotations

import functools
import gc
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import ready_clusters
import typer.main
from hypothesis import settings
from postgres_servers import FOLDER, Servers, drop_database, fresh_database

from safepoint.postgres.scratch import sweep
from safepoint.postgres.servers import Server
from safepoint.postgres.target import Target

MEMORY = Path("/dev/shm")
_ROOM = 6 * 1024**3
_LONG = ("acceptance", "chaos")
_MAJORS = (15, 17, 18)


def pytest_configure(config: pytest.Config) -> None:
    """Servers and stages stand in memory where there is room: hundreds are made, and the disk proves nothing of them.

    The workers inherit it. A TMPDIR that somebody set stays.
    """
    config.pluginmanager.register(OneVersionEach())
    usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= _ROOM
    if usable and "TMPDIR" not in os.environ:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
    # All our commands are put together anew for each that is run: what that comes to is the same each time.
    typer.main.get_command = functools.cache(typer.main.get_command)
    if (folder := ready_clusters.begin()) is not None:
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


class OneVersionEach:
    """What is tested on several versions of PostgreSQL runs on one of them, in turn from case to case; on the others
    with what is slow."""

    @pytest.hookimpl(tryfirst=True)  # before `-m` leaves out what is slow
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark them. Which one it is says the name of the case, so each worker, and each run, says the same."""
        cases: dict[str, list[tuple[int, pytest.Item]]] = {}
        for item in items:
            if (params := getattr(item, "callspec", None)) is None:
                continue
            majors = [value for value in params.params.values() if type(value) is int and value in _MAJORS]
            if len(majors) == 1:
                case = re.sub(rf"\b(pg)?{majors[0]}\b", "", item.nodeid, count=1)
                cases.setdefault(case, []).append((majors[0], item))
        for case, versions in cases.items():
            kept = zlib.crc32(case.encode()) % len(versions)
            for place, (_, item) in enumerate(sorted(versions, key=lambda one: one[0])):
                if place != kept:
                    item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)  # what `-m` leaves out is gone by then
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each of several workers begins with its share of the whole launches: at the end nobody is alone with a long one.

    pytest-xdist gives the workers pieces of equal length, one after the other, and lets who is idle take from others.
    """
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    if workers == 1:
        return
    modules = list(dict.fromkeys(item.path for item in items if item.path.parent.name in _LONG))
    first: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for number, module in enumerate(modules):
        first[number % workers] += [item for item in items if item.path == module]
    others = [item for item in items if item.path.parent.name not in _LONG]
    left, found = len(items), list[pytest.Item]()
    for number, long in enumerate(first):
        size = left // (workers - number)
        taken = max(0, size - len(long))
        found += [*long, *others[:taken]]
        others, left = others[taken:], left - size
    items[:] = [*found, *others]


def pytest_collection_finish() -> None:
    """What was collected stays until the end: a fifth of the unit tests' time went into looking for garbage there."""
    gc.collect()
    gc.freeze()


# A loaded machine is no fault of what is tested: how long one example takes decides nothing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


_JUST_MADE = 60.0  # seconds: another worker's, which has nothing in it yet


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """`servers(17)` is a running PostgreSQL 17 with wal_level=logical, shared by all tests.

    Not in pytest's own temporary folder: each pytest that starts on this machine closes that one to other users
    again, and the server's user is another one when we are root.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        sweep(left)
        with suppress(OSError):  # not empty, or another run of the tests was quicker
            if time.time() - left.stat().st_mtime > _JUST_MADE:
                left.rmdir()
    parent = Path(tempfile.mkdtemp(prefix=FOLDER))
    parent.chmod(0o711)
    running = Servers(parent)
    try:
        yield running
    finally:
        running.remove()
        shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture(scope="session")
def server(servers: Servers) -> Server:
    """PostgreSQL 17."""
    return servers(17)


@pytest.fixture(params=[17, 18], ids=["pg17", "pg18"])
def any_server(request: pytest.FixtureRequest, servers: Servers) -> Server:
    """PostgreSQL 17, then 18."""
    return servers(request.param)


@pytest.fixture
def database(server: Server) -> Iterator[Target]:
    """A fresh, empty database on PostgreSQL 17, dropped afterwards."""
    target = fresh_database(server)
    try:
        yield target
    finally:
        drop_database(target)


@pytest.fixture
def any_database(any_server: Server) -> Iterator[Target]:
    """A fresh, empty database on PostgreSQL 17, then on 18."""
    target = fresh_database(any_server)
    try:
        yield target
    finally:
        drop_database(target)


@pytest.fixture
def new_database() -> Iterator[Callable[[Server], Target]]:
    """`new_database(server)` makes further databases, dropped afterwards."""
    made: list[Target] = []

    def make(server: Server, name: str | None = None) -> Target:
        made.append(fresh_database(server, name))
        return made[-1]

    try:
        yield make
    finally:
        for target in made:
            drop_database(target)
