"""What a program gets that reads a command's answer: one document whatever happens, and the exit code of what did."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from least_plan import SOMEDAY

from safepoint import cli

PROGRAM = str(Path(sys.executable).parent / "safepoint")


@pytest.mark.parametrize(
    ("words", "told", "command"),
    [
        (("nope", "--json"), "No such command 'nope'.", "safepoint"),
        (("status", "--json", "--nope"), "No such option: --nope.", "safepoint status"),
        (("go", "--json", "a", "b"), "Got unexpected extra argument(s) (b).", "safepoint go"),
        (("restore", "--json"), "Missing argument 'snapshot_id'.", "safepoint restore"),
    ],
)
def test_a_command_that_is_typed_wrongly_is_told_as_json_to_whoever_reads_json(
    tmp_path: Path, words: tuple[str, ...], told: str, command: str
) -> None:
    ended = subprocess.run([PROGRAM, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    answer = json.loads(ended.stdout)
    assert (ended.returncode, ended.stderr) == (2, "")
    assert (answer["error"], answer["message"], answer["subject"]) == ("UsageError", told, command)
    assert f"`{command} --help`" in answer["remedy"]


def test_a_person_who_types_a_command_wrongly_is_told_as_ever(tmp_path: Path) -> None:
    ended = subprocess.run([PROGRAM, "status", "--nope"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Usage: safepoint status" in ended.stderr and "--nope" in ended.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("settings",), ("settings", "--json")])
def test_an_output_on_a_full_disk_is_not_taken_for_the_state_folder(
    tmp_path: Path, words: tuple[str, ...], unbuffered: str
) -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [PROGRAM, *words], cwd=tmp_path, env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "safepoint: What this command answers cannot be written to standard output: No space"
    )
    assert "Traceback" not in ended.stderr and "state folder" not in ended.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("closed", [True, False])
def test_an_error_keeps_its_exit_code_where_nobody_takes_the_answer(
    tmp_path: Path, unbuffered: str, closed: bool
) -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    if closed:
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open("/dev/full", os.O_WRONLY)
    try:
        ended = subprocess.run(
            [PROGRAM, "status", "--json"],
            cwd=tmp_path,
            env=env,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)
    assert ended.returncode == 2
    assert ended.stderr.startswith("safepoint: There is no plan file launch.toml.") and "Traceback" not in ended.stderr


def test_a_key_that_no_plan_file_has_is_refused_also_where_the_schema_is_wanted(tmp_path: Path) -> None:
    command = [PROGRAM, "settings", "snapshot.max_aeg", "--json"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and json.loads(ended.stdout)["error"] == "PlanFileError"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_was_interrupted_says_so_in_json(tmp_path: Path, number: signal.Signals) -> None:
    with socket.socket() as deaf:  # a database that takes the connection and never answers
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        (tmp_path / "launch.toml").write_text(SOMEDAY.format(port=deaf.getsockname()[1]))
        env = {**os.environ, "SHOP_PASSWORD": "only-for-tests"}
        command = [PROGRAM, "backup", "--json"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deaf.settimeout(60)
        connection, _ = deaf.accept()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        connection.close()
    assert (process.returncode, err) == (130, "")
    assert json.loads(out)["error"] == "Interrupted"


def test_where_the_stores_are_away_nobody_is_told_that_there_is_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("safepoint.stores.retry.FIRST_WAIT", 0.01)
    monkeypatch.setattr(sys, "argv", ["safepoint", "backups", "--plan", str(tmp_path / "launch.toml")])
    (tmp_path / "launch.toml").write_text(
        SOMEDAY.format(port=1).replace("file:offsite", "sftp://backup@127.0.0.1:9/kept")
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 1 and out == ""
    assert "No snapshot is known here" in err and "offsite could not be listed" in err
