"""The commands of dump and restore, looked at without running them."""

from __future__ import annotations

from pathlib import Path

import pytest

from safepoint.postgres import tools
from safepoint.postgres.binaries import Installation, for_server, installation, parse_version
from safepoint.postgres.scratch import scratch_settings
from safepoint.postgres.servers import configuration, initdb_argv
from safepoint.postgres.target import Target

TARGET = Target("db.example.org", 5433, "accounting", "keeper", "s3cret")


def commands() -> list[tools.Command]:
    return [
        tools.dump_directory(TARGET, "/to", snapshot="1-2", jobs=3, compress="zstd:1", encoding="UTF8"),
        tools.dump_stream(TARGET, snapshot="1-2", compress="gzip:1", encoding="UTF8"),
        tools.dump_globals(TARGET, encoding="UTF8"),
        tools.restore(TARGET, Path("/a"), jobs=2),
    ]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.argv[0])
def test_a_password_is_in_no_argument_and_not_shown(command: tools.Command) -> None:
    assert not any("s3cret" in word for word in (*command.argv, *command.env.values()))
    assert "s3cret" not in command.shown() + repr(command)
    assert command.secrets == {"PGPASSWORD": "s3cret"}
    assert command.env["PGDATABASE"] == "accounting"
    assert "--no-password" in command.argv


def test_a_parallel_dump_names_its_snapshot() -> None:
    argv = tools.dump_directory(TARGET, "/to", snapshot="1-2", jobs=3, compress="zstd:1", encoding="UTF8").argv
    assert {"--format=directory", "--jobs=3", "--snapshot=1-2", "--compress=zstd:1", "--file=/to"} <= {*argv}


def test_globals_come_without_password_hashes() -> None:
    assert "--no-role-passwords" in tools.dump_globals(TARGET, encoding="UTF8").argv


def test_a_restore_stops_at_the_first_error_and_calls_nobody() -> None:
    assert {"--exit-on-error", "--no-subscriptions"} <= {*tools.restore(TARGET, Path("/a"), jobs=2).argv}


@pytest.mark.parametrize(
    ("supported", "chosen"),
    [
        ({"zstd:1", "lz4", "gzip:1", "1", "0"}, "zstd:1"),
        ({"lz4", "gzip:1", "1"}, "lz4"),
        ({"gzip:1", "1"}, "gzip:1"),
        ({"1", "0"}, "1"),
        (set(), "0"),
    ],
)
def test_compression_falls_back_to_what_the_build_has(supported: set[str], chosen: str) -> None:
    assert tools.choose_compression("zstd:1", supported.__contains__) == chosen


def test_the_wanted_compression_is_tried_first_and_no_method_twice() -> None:
    assert tools.compression_candidates("gzip:6") == ("gzip:6", "zstd:1", "lz4", "1", "0")


def test_a_probe_that_tried_to_connect_was_accepted() -> None:
    assert tools.accepts('pg_dump: error: connection to server on socket "/nonexistent/.s.PGSQL.5432" failed')
    assert not tools.accepts("pg_dump: error: invalid compression specification: this build does not support ZSTD")
    assert not tools.accepts('pg_dump: error: invalid value "zstd:1" for option -Z/--compress')


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("postgres (PostgreSQL) 17.10", (17, "17.10")),
        ("pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", (15, "15.20")),
        ("postgres (PostgreSQL) 19devel", (19, "19devel")),
        ("postgres (PostgreSQL) 18beta2", (18, "18beta2")),
        ("something else", None),
    ],
)
def test_versions_are_read(text: str, read: tuple[int, str] | None) -> None:
    assert parse_version(text) == read


def test_a_server_gets_tools_of_its_own_version_or_the_next_newer() -> None:
    assert for_server(170004).major == 17
    assert for_server(180001).major == 18
    assert for_server(160009).major == 17


def test_a_server_that_is_newer_than_all_tools_is_refused_with_a_remedy() -> None:
    from safepoint.errors import DatabaseError

    with pytest.raises(DatabaseError, match="new enough") as caught:
        for_server(990000)
    assert caught.value.remedy and caught.value.found
    with pytest.raises(DatabaseError, match="no PostgreSQL 9"):
        installation(9)


def test_a_server_is_made_with_a_password_where_it_has_one() -> None:
    programs = Installation(17, "17.10", Path("/pg/bin"), "wheel")
    assert "--auth=scram-sha-256" in initdb_argv(programs, Path("/d"), "postgres", scram=True)
    assert "--auth=trust" in initdb_argv(programs, Path("/d"), "postgres", scram=False)
    # initdb has no --set before PostgreSQL 16.
    older = Installation(15, "15.3", Path("/pg/bin"), "system")
    assert not [word for word in initdb_argv(older, Path("/d"), "postgres", scram=True) if "--set" in word]


def test_a_server_listens_on_loopback_only_and_values_are_quoted() -> None:
    text = configuration({"search_path": "it's"})
    assert "listen_addresses = '127.0.0.1'" in text
    assert "unix_socket_directories = ''" in text
    assert "search_path = 'it''s'" in text


def test_a_scratch_server_takes_memory_by_what_is_loaded() -> None:
    assert scratch_settings(16384, 8, 50)["shared_buffers"] == "64MB"
    assert scratch_settings(16384, 8, 100_000)["shared_buffers"] == "1024MB"
    assert scratch_settings(1024, 1, 100_000)["shared_buffers"] == "64MB"
    assert scratch_settings(1024, 1, shared_memory_free=64)["dynamic_shared_memory_type"] == "mmap"
