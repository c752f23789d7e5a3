"""A process that was stopped while it waited for an answer: its time is over, and who was asked had no chance."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from safepoint.postgres.target import Target

ASKS = """
    import os, sys
    from safepoint.postgres.connections import connect
    from safepoint.postgres.target import Target
    there = Target("127.0.0.1", int(sys.argv[1]), sys.argv[2], sys.argv[3], os.environ.get("ITS_PASSWORD"))
    print("asking", flush=True)
    with connect(there, patience=2) as connection:
        print(connection.execute("select 42").fetchone()[0], flush=True)
"""


def passed_on(client: socket.socket, server: socket.socket) -> None:
    """What one says goes to the other, until it says nothing more."""
    while data := client.recv(65536):
        server.sendall(data)


def silent_at_first(listening: socket.socket, target: Target) -> None:
    """The first connection gets no answer: whoever opened it stands still. The next one does."""
    first, _ = listening.accept()
    client, _ = listening.accept()
    first.close()
    with client, socket.create_connection((target.host, target.port)) as server:
        threading.Thread(target=passed_on, args=(server, client), daemon=True).start()
        passed_on(client, server)


def test_a_launch_is_not_taken_back_because_its_own_machine_stood_still(database: Target) -> None:
    """A minute in which the conductor was stopped was a server that did not answer: the way back was taken at once."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        target = replace(database, port=listening.getsockname()[1])
        threading.Thread(target=silent_at_first, args=(listening, database), daemon=True).start()
        asking = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(ASKS), str(target.port), target.dbname, target.user],
            env={**os.environ, "ITS_PASSWORD": database.password or ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert asking.stdout is not None and asking.stdout.readline() == "asking\n"
        time.sleep(0.5)
        asking.send_signal(signal.SIGSTOP)
        time.sleep(8)
        asking.send_signal(signal.SIGCONT)
        said = asking.communicate(timeout=30)[0]
        assert (said, asking.returncode) == ("42\n", 0)


LOOKS = """
    import sys
    from safepoint.checkpoints.pages import health
    print("asking", flush=True)
    print(health(f"http://127.0.0.1:{sys.argv[1]}", timeout=1).verdict, flush=True)
"""


class Page(BaseHTTPRequestHandler):
    """Is whole after a moment, in which whoever asked for it stands still; the next one is so at once."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        time.sleep(0.7 if len(self.asked) == 1 else 0)
        self.wfile.write(b"ok")

    def log_message(self, *_words: object) -> None:
        """Nothing."""


def test_a_health_page_is_asked_for_again_after_its_own_process_stood_still() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        asking = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(LOOKS), str(server.server_address[1])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while not Page.asked:
            assert asking.poll() is None
            time.sleep(0.01)
        asking.send_signal(signal.SIGSTOP)
        time.sleep(4)
        asking.send_signal(signal.SIGCONT)
        assert asking.communicate(timeout=30)[0] == "asking\npass\n" and len(Page.asked) == 2
    finally:
        server.shutdown()
        server.server_close()
