"""Hosts with real processes: here, over a real sshd, and by a stand-in for the Compose client."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from broken_link import broken_link
from ssh_server import SshServer

from safepoint.config import ComposeHost, HereHost
from safepoint.errors import CommandFailed, Interrupted
from safepoint.hosts import Host, command, open_host, ssh

SECRET = "a b'c\"d\\e$HOME`f"  # what a shell could stumble over
BIG = 50 * 1024 * 1024

# Stands where `docker compose` would: writes down its arguments, and carries out what follows the service's name
# as the container would, with none of the environment of whoever called.
STAND_IN = f"""\
#!{sys.executable}
import json, os, sys
words = sys.argv[1:]
with open(os.environ["RECORD"], "a") as record:
    record.write(json.dumps({{"argv": words, "cwd": os.getcwd(), "env": dict(os.environ)}}) + "\\n")
options, inner = words[: words.index("app")], words[words.index("app") + 1 :]
env = {{"PATH": os.environ["PATH"]}}
env.update(options[i + 1].split("=", 1) for i, word in enumerate(options) if word == "--env")
if "--workdir" in options:
    os.chdir(options[options.index("--workdir") + 1])
os.execvpe(inner[0], inner, env)
"""


@pytest.fixture
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    stand_in = tmp_path / "compose"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    settings = ComposeHost(kind="compose", service="app", project=Path(), command=(str(stand_in),))
    return open_host("app", settings, tmp_path)


@pytest.fixture(params=["here", "ssh", "compose"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    if request.param == "here":
        return open_host("here", HereHost(), tmp_path)
    if request.param == "ssh":
        return open_host("db", request.getfixturevalue("sshd").settings(), tmp_path)
    return request.getfixturevalue("compose")


def processes_with(*signs: str) -> list[str]:
    """The command lines of all running processes that hold one of the signs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        if any(sign in line for sign in signs):
            found.append(line)
    return found


def until(true: Callable[[], object], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("code", [0, 1, 3, 77, 254])
def test_the_exit_code_is_the_commands_own(host: Host, code: int) -> None:
    result = host.run(command(["sh", "-c", f"echo out; echo err >&2; exit {code}"]), check=False)
    assert (result.code, result.stdout, result.stderr) == (code, "out\n", "err\n")


def test_a_failed_command_is_told_with_what_it_said(host: Host) -> None:
    with pytest.raises(CommandFailed, match="no such table") as caught:
        host.run(command(["sh", "-c", "echo 'ERROR: no such table' >&2; exit 3"]))
    assert "exit code 3" in str(caught.value.found)
    assert caught.value.message.endswith(" failed: ERROR: no such table.")  # what a question to a person shows


def test_a_program_that_is_not_there_is_told(host: Host) -> None:
    with pytest.raises(CommandFailed) as caught:
        host.run(command(["pg_dump_of_nowhere", "--version"]))
    assert "pg_dump_of_nowhere" in str(caught.value)


def test_words_and_variables_arrive_as_they_are(host: Host) -> None:
    words = ["", "a b", "'", '"', "$HOME", "`id`", "\\", "ünï", "-n", "*", ";exit 1", "a\nb", "!x", "#", "~"]
    script = "import os, sys; print(ascii([sys.argv[1:], os.environ['ONE'], os.environ['TWO']]))"
    result = host.run(command([sys.executable, "-c", script, *words], env={"ONE": "x '\" $y"}, secrets={"TWO": SECRET}))
    assert result.stdout.strip() == ascii([words, "x '\" $y", SECRET])


def test_a_command_without_input_sees_the_end_of_it(host: Host) -> None:
    assert host.run(command(["cat"]), timeout=10).stdout == ""


def test_input_and_secrets_do_not_mix(host: Host) -> None:
    script = 'printf "%s|" "$PGPASSWORD"; cat'
    result = host.run(command(["sh", "-c", script], secrets={"PGPASSWORD": SECRET}), stdin=b"first\nsecond")
    assert result.stdout == f"{SECRET}|first\nsecond"


def test_secrets_are_in_no_argv_on_either_side(host: Host) -> None:
    secret, sign = "hush-7261-hush", "sleep 1.7261"
    seen: list[str] = []
    work = command(["sh", "-c", f"{sign}; echo done"], secrets={"PGPASSWORD": secret})
    thread = threading.Thread(target=lambda: seen.append(host.run(work).stdout))
    lines: list[str] = []
    thread.start()
    while thread.is_alive():  # from its begin to its end, however late a busy machine looks
        lines += processes_with(secret, "1.7261")
        thread.join(0.02)
    assert seen == ["done\n"]
    assert lines and not [line for line in lines if secret in line]


def test_a_secret_that_is_printed_is_not_told(host: Host) -> None:
    with pytest.raises(CommandFailed) as caught:
        host.run(
            command(["sh", "-c", 'echo "password $PGPASSWORD is wrong" >&2; exit 2'], secrets={"PGPASSWORD": "s3cr3t"})
        )
    assert "s3cr3t" not in str(caught.value) + str(caught.value.as_json())
    assert "password *** is wrong" in str(caught.value)


def test_big_streams_pass_both_ways_bit_by_bit(host: Host, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(os.urandom(BIG))
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        host.stream(command(["cat"], secrets={"PGPASSWORD": SECRET}), stdin=source, stdout=sink)
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("in", "out")]
    assert digests[0] == digests[1]


def test_a_raw_file_is_a_sink_too(host: Host, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as sink:
        host.stream(command(["sh", "-c", "yes | head -c 3000000"]), stdout=sink)
    assert (tmp_path / "out").stat().st_size == 3_000_000


def test_a_failing_stream_is_an_error_even_when_all_data_came(host: Host) -> None:
    sink = io.BytesIO()
    with pytest.raises(CommandFailed):
        host.stream(command(["sh", "-c", "echo data; exit 1"]), stdout=sink)
    assert sink.getvalue() == b"data\n"


class FullDisk(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, _data: object) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_ends_the_command_and_is_told(host: Host) -> None:
    with pytest.raises(CommandFailed, match="No space left"):
        host.stream(command(["sh", "-c", "exec yes y2619"]), stdout=FullDisk(), timeout=30)  # type: ignore[arg-type]
    assert until(lambda: not processes_with("yes y2619"))


def test_time_that_runs_out_ends_the_command_and_its_children_on_the_other_side(host: Host) -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match="ran out of time"):
        host.run(command(["sh", "-c", "sleep 600.3141 & sleep 600.3141; echo no"]), timeout=0.7)
    assert time.monotonic() - began < 6
    assert until(lambda: not processes_with("600.3141"))


def test_an_order_to_stop_ends_the_command(host: Host) -> None:
    began = time.monotonic()
    with pytest.raises(Interrupted):
        host.run(command(["sleep", "600.2718"]), cancelled=lambda: time.monotonic() - began > 0.5)
    assert until(lambda: not processes_with("600.2718"))


def test_a_command_that_ignores_the_order_to_end_is_killed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safepoint.hosts.process.GRACE_SECONDS", 0.3)
    with pytest.raises(CommandFailed, match="ran out of time"):
        host.run(command(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; true 1618; done"]), timeout=0.7)
    assert until(lambda: not processes_with("true 1618"), 12)


def test_a_long_output_keeps_its_end(host: Host) -> None:
    result = host.run(command(["sh", "-c", "yes 'a line of it' | head -c 40000000; echo; echo the end"]))
    assert result.truncated
    assert result.stdout.endswith("\nthe end\n")
    assert len(result.stdout) < 20_000_000


def test_a_start_command_that_leaves_a_child_behind_does_not_hang_and_the_child_lives(host: Host) -> None:
    began = time.monotonic()
    script = "setsid sleep 600.1123 >/dev/null 2>&1 & echo started"
    try:
        assert host.run(command(["sh", "-c", script])).stdout == "started\n"
        assert time.monotonic() - began < 4
        assert until(lambda: processes_with("600.1123"), 2)
    finally:
        end_all("600.1123")


def end_all(sign: str) -> None:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if sign.encode() in path.read_bytes():
                os.kill(int(path.parent.name), 9)
        except OSError:
            continue


def test_a_directory_is_where_the_command_runs(host: Host, tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    result = host.run(command(["pwd"], directory=str(tmp_path / "a folder")))
    assert result.stdout.strip() == str(tmp_path / "a folder")


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="folder"):
        open_host("here", HereHost(), tmp_path).run(command(["true"], directory="nowhere"))


# What only SSH has: a connection.


def test_nobody_listening_is_told_as_a_connection(sshd: SshServer, tmp_path: Path) -> None:
    with broken_link(sshd.port) as link:
        port = link.port
    with pytest.raises(CommandFailed, match="connection") as caught:
        open_host("db", sshd.settings(port=port), tmp_path).run(command(["true"]), check=False)
    assert caught.value.remedy and "by hand" in caught.value.remedy


def test_a_key_that_is_not_accepted_is_told(sshd: SshServer, tmp_path: Path) -> None:
    key = tmp_path / "other"
    key.write_bytes((sshd.folder / "host_key").read_bytes())
    key.chmod(stat.S_IRUSR)
    settings = sshd.settings().model_copy(update={"identity": key})
    with pytest.raises(CommandFailed, match="Permission denied"):
        open_host("db", settings, tmp_path).run(command(["true"]))


def test_a_connection_cut_in_the_middle_is_an_error_and_ends_the_remote_command(
    sshd: SshServer, tmp_path: Path
) -> None:
    with broken_link(sshd.port) as link:
        host = open_host("db", sshd.settings(port=link.port), tmp_path)
        sink, failed = io.BytesIO(), []

        def dump() -> None:
            try:
                host.stream(command(["sh", "-c", "echo first half; sleep 600.5772"]), stdout=sink)
            except CommandFailed as error:
                failed.append(error)

        thread = threading.Thread(target=dump)
        thread.start()
        assert until(lambda: b"half" in sink.getvalue() and processes_with("sleep 600.5772"))
        link.cut()
        thread.join(15)
    assert len(failed) == 1 and "broke" in failed[0].message
    assert until(lambda: not processes_with("sleep 600.5772"))


def test_a_secret_of_two_lines_is_refused_before_anything_runs(sshd: SshServer, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="one line") as caught:
        open_host("db", sshd.settings(), tmp_path).run(command(["true"], secrets={"KEY": "two\nlines"}))
    assert "two" not in str(caught.value)


def test_a_remote_directory_that_is_not_there_is_an_error(sshd: SshServer, tmp_path: Path) -> None:
    host = open_host("db", sshd.settings(directory="/nowhere/at/all"), tmp_path)
    assert host.run(command(["true"]), check=False).code == 125


# What only Compose has: its own client's arguments.


def test_the_compose_client_gets_no_secret_in_argv_or_environment(compose: Host, tmp_path: Path) -> None:
    compose.run(command(["true"], env={"PGUSER": "postgres"}, secrets={"PGPASSWORD": "hush-hush"}, directory="/tmp"))
    record = (tmp_path / "record").read_text()
    assert "hush-hush" not in record
    assert f'["--project-directory", "{tmp_path}", "exec", "-T", "--workdir", "/tmp", "--env", "PGUSER=' in record
    assert f'"cwd": "{tmp_path}"' in record


def test_a_service_that_does_not_run_is_told_with_how_to_start_it(tmp_path: Path) -> None:
    client = tmp_path / "compose"
    client.write_text("#!/bin/sh\necho 'service \"app\" is not running' >&2\nexit 1\n")
    client.chmod(0o755)
    settings = ComposeHost(kind="compose", service="app", project=Path(), command=(str(client),))
    with pytest.raises(CommandFailed, match="cannot be reached") as caught:
        open_host("app", settings, tmp_path).run(command(["true"]), check=False)
    assert caught.value.remedy and "up -d app" in caught.value.remedy


def test_a_machine_that_takes_the_connection_and_says_nothing_is_given_up(
    sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as hung:
        host = open_host("app", sshd.settings(port=hung.getsockname()[1]), tmp_path)
        with pytest.raises(CommandFailed, match=r"SSH connection to app .* could not be made"):
            host.run(command(["true"]), timeout=20)
