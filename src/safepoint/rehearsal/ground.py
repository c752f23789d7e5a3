"""The scratch database made ready: settings as on the live server, statistics, and a copy of how it was before."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from safepoint.postgres import statistics
from safepoint.postgres.connections import Connection, connect
from safepoint.postgres.scratch_databases import base, beside, copy_name, mark, shared
from safepoint.postgres.target import Target

# What decides how long a migration takes and can be set without a restart. A scratch server is set up for loading
# fast (no fsync, no autovacuum): with that, its times would say nothing about the live one.
LIKE_LIVE = (
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "wal_compression",
    "max_wal_size",
    "min_wal_size",
    "checkpoint_timeout",
    "checkpoint_completion_target",
    "wal_skip_threshold",
    "autovacuum",
    "work_mem",
    "maintenance_work_mem",
    "temp_buffers",
    "hash_mem_multiplier",
    "effective_cache_size",
    "effective_io_concurrency",
    "maintenance_io_concurrency",
    "random_page_cost",
    "seq_page_cost",
    "default_statistics_target",
    "max_parallel_workers_per_gather",
    "max_parallel_maintenance_workers",
    "jit",
    "lock_timeout",
)
# These can only be set before the start; where they still differ, it is told.
AT_START = ("wal_level", "shared_buffers")
_UNITS = {"kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}

_READ = """
    select name, current_setting(name) from pg_settings where name = any (%s::text[])
"""
_LOADED = "select pg_conf_load_time()"
_RELOAD_SECONDS = 5.0


def read_settings(connection: Connection) -> dict[str, str]:
    """The server's settings that matter for a migration's time; a setting that this version lacks is not in it."""
    return dict(connection.execute(_READ, [[*LIKE_LIVE, *AT_START]]).fetchall())


def settings_at_start(live: Mapping[str, str], memory: int) -> dict[str, str]:
    """What the scratch server has to be started with to be like the live one, within this machine's memory. Pure.

    With `wal_level = minimal`, which loads fastest, rewriting a table would not be logged, and cost less than it will.

    Args:
        memory: bytes that this machine has; a quarter of it is taken at most.
    """
    settings = {"wal_level": live["wal_level"]} if "wal_level" in live else {}
    size = re.fullmatch(r"(\d+)(kB|MB|GB|TB)", live.get("shared_buffers", ""))
    if size is not None:
        wanted = int(size[1]) * _UNITS[size[2]]
        settings["shared_buffers"] = f"{min(wanted, memory // 4) // 1024}kB"
    return settings


def set_like(scratch: Target, live: Mapping[str, str]) -> tuple[str, ...]:
    """Give the scratch server the live one's settings; gives in words what still differs. One that others use as well
    keeps its own."""
    with connect(scratch) as connection:
        own = read_settings(connection)
        if shared(scratch):
            return _differing(own, live, (*LIKE_LIVE, *AT_START))
        wanted = [name for name in LIKE_LIVE if name in own and name in live and own[name] != live[name]]
        lacking = [name for name in wanted if not _set(connection, name, live[name])]
        _reload(connection, scratch)
        return _differing(own, live, (*lacking, *AT_START))


def _set(connection: Connection, name: str, value: str) -> bool:
    """Set it; False where this installation has no such value: zstd for the log's compression, say."""
    try:
        connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    except psycopg.errors.InvalidParameterValue:
        return False
    return True


def _differing(own: Mapping[str, str], live: Mapping[str, str], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        f"{name} is {own[name]} on the scratch server and {live[name]} on the live one"
        for name in names
        if name in own and name in live and own[name] != live[name]
    )


def set_fast(scratch: Target) -> None:
    """Back to a server for comparing: nothing of it has to survive."""
    if shared(scratch):
        return
    with connect(scratch) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit", "autovacuum"):
            connection.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(name)))
        _reload(connection, scratch)


def _reload(connection: Connection, scratch: Target) -> None:
    """Let the settings count: a session that begins afterwards has them, from the server's first process."""
    before = connection.execute(_LOADED).fetchone()
    connection.execute("select pg_reload_conf()")
    deadline = time.monotonic() + _RELOAD_SECONDS
    while time.monotonic() < deadline:
        with connect(scratch) as fresh:
            if fresh.execute(_LOADED).fetchone() != before:
                return
        time.sleep(0.002)


def copy_of(scratch: Target, name: str) -> Target:
    """A copy of the scratch database, made by PostgreSQL itself; nobody may be connected to the original.

    The files are copied: going through the write-ahead log would only take longer. On a server that others use as well
    it has another name, by which it is removed with all else of this run.
    """
    name = copy_name(scratch, name)
    with connect(beside(scratch), application_name=base(scratch.dbname) or "safepoint") as connection:
        words: dict[str, Any] = {"name": sql.Identifier(name), "source": sql.Identifier(scratch.dbname)}
        query = "create database {name} template {source}"
        if connection.info.server_version >= 150000:
            query += " strategy file_copy"
        connection.execute(sql.SQL(query).format(**words))
        if shared(scratch):
            mark(connection, name)
    return scratch.on(name)


def drop_copy(copy: Target) -> None:
    """Remove a copy of the scratch database."""
    with connect(beside(copy)) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(copy.dbname)))


def make_statistics(scratch: Target) -> tuple[str, ...]:
    """A restored database has none, and without them a data migration may take another plan than on the live one.

    A checkpoint at the end, so that what the restore left to write is not written during the migration.

    Returns:
        A sentence for each table that has none.
    """
    with connect(scratch) as connection:
        notes = statistics.make_statistics(connection)
        connection.execute("checkpoint")
    return notes
