"""A release that is started answers badly for a while: what it logs then is told, and not held against it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from safepoint.config.load import parse
from safepoint.launch import error_logs
from safepoint.launch.background import Background
from safepoint.launch.ground import Ground
from safepoint.launch.ledger import Ledger
from safepoint.launch.plan import make_plan
from safepoint.launch.verbs.application import StartRelease

PLAN = """
[launch]
application = "shop"
date = 2026-03-01
[database]
name = "shop"
user = "postgres"
application_roles = ["shop"]
[application]
error_log = "{log}"
[releases.old]
version = "1.0"
start = ["true"]
stop = ["true"]
upstream = "127.0.0.1:1"
[releases.new]
version = "2.0"
start = ["true"]
stop = ["true"]
upstream = "127.0.0.1:{port}"
[router]
kind = "caddy"
url = "http://127.0.0.1:1"
[[stores]]
name = "local"
url = "file:backups"
"""


@contextmanager
def release(log: Path, refusals: int) -> Iterator[int]:
    """Answers 500 so often, each with a line in its log, as while a pooler refuses its login; then 200."""
    left = [refusals]

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            left[0] -= 1
            if left[0] >= 0:
                with log.open("a") as file:
                    file.write("ERROR django.request Internal Server Error: /\n")
            self.send_response(500 if left[0] >= 0 else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def ground(folder: Path, log: Path, port: int) -> Ground:
    plan = parse(PLAN.format(log=log, port=port), folder / "launch.toml")
    made = Ground(
        plan,
        plan.launch_id,
        Ledger(folder / "ledger.jsonl"),
        make_plan(plan).step("start-new"),
        background=Background(),
        interrupted=threading.Event(),
        tell=lambda _step, _progress: None,
        hurry=False,
    )
    error_logs.note(made, "closed")
    error_logs.note(made, "open")
    return made


def test_errors_while_it_was_waited_for_are_told_and_not_counted_and_later_ones_are(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text("")
    with release(log, 3) as port:
        made = ground(tmp_path, log, port)
        said = StartRelease().apply(made).summary
    assert "3 errors" in said and "Internal Server Error" in said
    reading = error_logs.Reading(made)
    assert [point.verdict for point in reading.now()] == ["pass"]
    with log.open("a") as file:
        file.write("ERROR something is wrong with 2.0\n")
    (point,) = reading.now()
    assert point.verdict == "fail" and point.value == 1


def test_errors_of_one_that_answers_well_at_once_count(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text("")
    with release(log, 0) as port:
        made = ground(tmp_path, log, port)
        log.write_text("ERROR its worker cannot start\n")
        StartRelease().apply(made)
    assert [point.verdict for point in error_logs.Reading(made).now()] == ["fail"]
