"""What would be started on each host, looked at without starting it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.config import ComposeHost, HereHost, SshHost
from safepoint.errors import CommandFailed
from safepoint.hosts import command, open_host
from safepoint.hosts.command import Result
from safepoint.hosts.compose import Compose
from safepoint.hosts.process import ended, failure
from safepoint.hosts.ssh import Ssh

FOLDER = Path("/srv/launch")
DUMP = command(
    ["pg_dump", "--format=custom", "accounting"],
    env={"PGUSER": "conductor"},
    secrets={"PGPASSWORD": "hush"},
)


def ssh(**settings: object) -> Ssh:
    return Ssh("db", SshHost.model_validate({"kind": "ssh", "address": "db.example", **settings}), FOLDER)


def compose(**settings: object) -> Compose:
    settings = {"kind": "compose", "service": "app", "project": "site", **settings}
    return Compose("app", ComposeHost.model_validate(settings), FOLDER)


def test_here_the_argv_is_the_command() -> None:
    assert open_host("here", HereHost(), FOLDER).argv(DUMP) == DUMP.argv


def test_relative_directories_start_at_the_hosts_own() -> None:
    host = open_host("here", HereHost(directory=Path("site")), FOLDER)
    assert host.local(command(["ls"], directory="src"), feeds=False).directory == FOLDER / "site" / "src"  # type: ignore[attr-defined]


def test_ssh_asks_nobody_and_notices_a_dead_link() -> None:
    argv = ssh().argv(DUMP)
    assert argv[0] == "ssh"
    assert {"-T", "BatchMode=yes", "ServerAliveInterval=10"} <= set(argv)
    assert argv[-3:-1] == ("--", "db.example")


def test_ssh_settings_become_options_and_the_operators_own_come_first() -> None:
    argv = ssh(port=2222, user="ops", identity="keys/id", options=("-o", "BatchMode=no")).argv(DUMP)
    assert argv[1:3] == ("-o", "BatchMode=no")
    words = " ".join(argv)
    assert "-p 2222" in words and "-l ops" in words and f"-i {FOLDER}/keys/id" in words


def test_an_address_that_looks_like_an_option_is_none() -> None:
    argv = ssh(address="-oProxyCommand=evil").argv(DUMP)
    assert argv[argv.index("-oProxyCommand=evil") - 1] == "--"


@given(words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_any_words_survive_the_remote_shell(words: list[str]) -> None:
    remote = shlex.split(ssh().argv(command(words))[-1])
    assert remote[:3] == ["exec", "sh", "-c"]
    assert remote[4:] == ["safepoint", *words]


def test_public_variables_go_by_env_and_secret_ones_by_the_input() -> None:
    host = ssh(directory="/srv/db")
    argv = host.argv(DUMP)
    assert "env PGUSER=conductor pg_dump" in argv[-1]
    assert "IFS= read -r PGPASSWORD && export PGPASSWORD" in argv[-1]
    assert "cd -- /srv/db" in argv[-1]
    assert "hush" not in " ".join(argv)
    local = host.local(DUMP, feeds=False)
    assert local.preamble == b"hush\n"
    assert "hush" not in repr(local) + repr(DUMP) + DUMP.shown()


def test_a_command_with_input_keeps_its_input_and_one_without_is_watched() -> None:
    assert ssh().local(DUMP, feeds=True).hold_stdin is False
    assert ssh().local(DUMP, feeds=False).hold_stdin is True
    assert 'exec "$@"' in ssh().argv(DUMP, feeds=True)[-1]


def test_compose_runs_in_the_service_with_what_was_set() -> None:
    argv = compose(user="postgres", directory="/code").argv(DUMP)
    assert argv[:4] == ("docker", "compose", "--project-directory", "/srv/launch/site")
    assert argv[4:12] == ("exec", "-T", "--user", "postgres", "--workdir", "/code", "--env", "PGUSER=conductor")
    assert argv[12:15] == ("app", "sh", "-c")
    assert argv[-3:] == DUMP.argv
    assert "hush" not in " ".join(argv)


def test_compose_takes_a_file_and_the_older_client_too() -> None:
    argv = compose(project="deploy/prod.yml", command=("docker-compose",)).argv(DUMP)
    assert argv[:6] == (
        "docker-compose", "--project-directory", "/srv/launch/deploy", "--file", "/srv/launch/deploy/prod.yml", "exec",
    )  # fmt: skip
    assert compose(project="deploy/prod.yml").local(DUMP, feeds=False).directory == FOLDER / "deploy"


@pytest.mark.parametrize("directory", [None, "src"])
def test_a_relative_folder_in_a_container_starts_at_its_own_working_directory(directory: str | None) -> None:
    argv = compose().argv(command(["ls"], directory=directory))
    assert "--workdir" not in argv
    assert ("cd -- src" in argv[-3]) == (directory is not None)


@pytest.mark.parametrize("name", ["A B", "1A", "A=B", "$(id)", ""])
def test_a_name_that_is_no_variable_is_refused(name: str) -> None:
    with pytest.raises(CommandFailed, match="no name"):
        ssh().local(command(["true"], secrets={name: "x"}), feeds=False)


def test_a_secret_of_two_lines_is_refused_without_being_shown() -> None:
    with pytest.raises(CommandFailed, match="one line") as caught:
        compose().local(command(["true"], secrets={"KEY": "hush\nhush"}), feeds=False)
    assert "hush" not in str(caught.value)


def test_a_secret_within_another_leaves_no_trace_of_either() -> None:
    work = command(["x"], secrets={"A": "pass", "B": "postgresql://u:pass@h/d", "C": "a/b c"})
    assert work.scrub("postgresql://u:pass@h/d, pass, a%2Fb%20c") == "***, ***, ***"


def test_what_a_failed_command_said_is_told_without_secrets() -> None:
    result = Result(DUMP, 1, "the password is hush\n", "", 0.1)
    assert "hush" not in str(failure(result, "db"))
    assert "the password is ***" in str(failure(result, "db"))


@pytest.mark.parametrize(("code", "words"), [(3, "exit code 3"), (-9, "ended by SIGKILL"), (-99, "ended by signal 99")])
def test_an_end_is_told_in_words(code: int, words: str) -> None:
    assert ended(code) == words


def test_only_sshs_own_exit_code_is_a_lost_connection() -> None:
    assert ssh().lost(Result(DUMP, 254, "", "", 0.1)) is None
    lost = ssh(user="ops").lost(Result(DUMP, 255, "", "Connection reset by peer\n", 0.1))
    assert lost is not None and lost.found == "Connection reset by peer" and "ops@db.example" in lost.message
