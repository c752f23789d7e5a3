"""Writers: clients that post journal entries over HTTP all the time, and remember which were acknowledged.

Each writer is one user with a cookie jar of its own, as a browser has: it logs in through the login form, reads the
entry form (whose fields differ between the releases) and posts balanced entries. An entry counts as acknowledged
when the site redirects to it. What is not acknowledged is posted again with the same reference until it is; the
site posts a reference once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from posted import Record, Tally
from site_client import Client, EntryForm, FormReader, Unserved

BACKOFF = 0.3  # seconds; a site that asks for more patience is asked again sooner, to see to the second when it opens
FORM = "/entries/new/"
LOGIN = "/accounts/login/"


class Writer(threading.Thread):
    """One user who posts entries until told to stop."""

    def __init__(
        self, base_url: str, user: str, password: str, record: Record, rate: float, stop: threading.Event, until: float
    ) -> None:
        super().__init__(name=f"writer {user}", daemon=True)
        self._client = Client(base_url)
        self._user, self._password = user, password
        self._record, self._rate = record, rate
        self._stopping, self._until = stop, until
        self._random = random.Random(user)
        self._form: EntryForm | None = None

    def run(self) -> None:
        due = time.monotonic() + self._random.random() / self._rate
        try:
            while not self._over(due - time.monotonic()):
                self._post(str(uuid.uuid4()))
                # A writer that was held up does not make up for it: the rate is a limit.
                due = max(due + 1 / self._rate, time.monotonic())
        finally:
            self._client.close()

    def _over(self, pause: float) -> bool:
        return self._stopping.wait(max(pause, 0)) or time.monotonic() > self._until

    def _post(self, token: str) -> None:
        """Post one entry, as often as it takes."""
        sent = False
        while True:
            try:
                form = self._form or self._open_form()
                self._record.sent(token)
                sent = True
                if self._submit(form, token):
                    return
            except Unserved as error:
                self._record.failed(self._user, error, token if sent else None)
                if self._over(BACKOFF):
                    return
            if self._over(0):
                return

    def _submit(self, form: EntryForm, token: str) -> bool:
        """Whether the entry was acknowledged; if not, the form is read again before the next try."""
        fields, cents = form.filled(self._random, token, self._user)
        answer = self._client.post(FORM, fields)
        if answer.status == 302 and urlsplit(answer.location).path == f"/entries/{token}/":
            self._record.acknowledged(token, self._user, answer.release, cents)
            if answer.release != form.release:
                self._form = None
            return True
        self._form = None
        logged_out = answer.status == 302 and urlsplit(answer.location).path == LOGIN
        # A form of the other release, or a session that the other database does not know: no failure.
        if not logged_out and answer.release == form.release:
            raise Unserved(f"refused with {answer.status}", maybe=False, release=answer.release)
        return False

    def _open_form(self) -> EntryForm:
        answer = self._client.get(FORM)
        if answer.status == 302 and urlsplit(answer.location).path == LOGIN:
            self._log_in()
            answer = self._client.get(FORM)
        if answer.status != 200:
            raise Unserved(f"form: {answer.status}", maybe=False, release=answer.release)
        self._form = EntryForm.read(answer)
        return self._form

    def _log_in(self) -> None:
        reader = FormReader()
        reader.feed(self._client.get(LOGIN).body)
        fields = reader.values | {"username": self._user, "password": self._password}
        answer = self._client.post(LOGIN, list(fields.items()))
        if answer.status != 302:
            raise Unserved(f"login: {answer.status}", maybe=False, release=answer.release)


class Writers:
    """Some writers at once: `Writers(url, 4, Path("entries.jsonl"), 5.0).start()`, later `.stop()`.

    Args:
        rate: entries per second of each writer, at most.
        password: of all of them; by default what ACCOUNTING_DEMO_PASSWORD says.
        users: who they are; user0001, user0002, ... as the seed makes them.
        max_seconds: they stop by themselves after that.
    """

    def __init__(
        self,
        base_url: str,
        count: int,
        journal: Path,
        rate: float = 5.0,
        *,
        password: str | None = None,
        users: Sequence[str] | None = None,
        max_seconds: float = 600,
    ) -> None:
        self._base_url, self._rate = base_url, rate
        self._password = password or os.environ["ACCOUNTING_DEMO_PASSWORD"]
        self._users = users or [f"user{number:04d}" for number in range(1, count + 1)]
        self._max_seconds = max_seconds
        self._stop = threading.Event()
        self._record = Record(journal)
        self._threads: list[Writer] = []

    def start(self) -> Writers:
        until = time.monotonic() + self._max_seconds
        self._threads = [
            Writer(self._base_url, user, self._password, self._record, self._rate, self._stop, until)
            for user in self._users
        ]
        for thread in self._threads:
            thread.start()
        return self

    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def tally(self) -> Tally:
        """The counts so far; can be asked at any time."""
        return self._record.tally()

    def stop(self, timeout: float = 20) -> Tally:
        """Let each finish the request that it is in, and give the final counts."""
        self._stop.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if not self.running():
            self._record.close()
        return self.tally()


def main() -> int:
    parser = argparse.ArgumentParser(description="Post journal entries until stopped; prints the counts as JSON.")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--count", type=int, default=4)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=5.0, help="entries per second of each writer (5)")
    parser.add_argument("--seconds", type=float, default=60, help="stop after that (60)")
    parser.add_argument("--stop-file", type=Path, help="stop when this file exists")
    arguments = parser.parse_args()
    if not os.environ.get("ACCOUNTING_DEMO_PASSWORD"):
        print("Set ACCOUNTING_DEMO_PASSWORD to the password of the seeded users.", file=sys.stderr)
        return 2
    writers = Writers(
        arguments.base_url, arguments.count, arguments.journal, arguments.rate, max_seconds=arguments.seconds
    )
    ordered = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ordered.set())
    writers.start()
    while writers.running() and not ordered.wait(0.2):
        if arguments.stop_file is not None and arguments.stop_file.exists():
            break
    print(json.dumps(writers.stop().as_json(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
