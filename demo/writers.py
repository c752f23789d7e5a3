"""Writers: clients that post journal entries over HTTP all the time, and remember which were acknowledged.

Each writer is one user with a cookie jar of its own, as a browser has: it logs in through the login form, reads the
entry form (whose fields differ between the releases) and posts balanced entries. An entry counts as acknowledged
when the site redirects to it. What is not acknowledged is posted again with the same reference until it is; the
site posts a reference once.

The journal of a run is a file of JSON lines, written out before the next entry is begun:

    {"state": "acknowledged", "token": ..., "user": ..., "when": ..., "release": "1.0", "cents": 1234}
    {"state": "unknown", "token": ..., "user": ..., "when": ..., "why": "reset"}     an answer never came: maybe posted
    {"state": "failed", "user": ..., "when": ..., "why": "503", "release": null}     a request that was not served
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

BACKOFF = 0.3  # seconds; a site that asks for more patience is asked again sooner, to see to the second when it opens
FORM = "/entries/new/"
LOGIN = "/accounts/login/"
SUBJECTS = ("Train tickets", "Paper and toner", "Server rent", "Consulting", "Coffee beans", "Spare parts", "Courier")


class Unserved(Exception):
    """A request was not served. `maybe` says that it may have been carried out all the same."""

    def __init__(self, why: str, *, maybe: bool, release: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.maybe = maybe
        self.release = release


@dataclass(frozen=True)
class Answer:
    """One answer of the site."""

    status: int
    location: str
    release: str | None
    body: str


class Client:
    """A small browser: one connection kept open, one cookie jar."""

    def __init__(self, base_url: str, timeout: float = 15) -> None:
        parts = urlsplit(base_url)
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._address, self._timeout = parts.netloc, timeout
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._connection: http.client.HTTPConnection | None = None
        self.cookies: dict[str, str] = {}

    def get(self, path: str) -> Answer:
        return self._request("GET", path, None)

    def post(self, path: str, fields: Sequence[tuple[str, str]]) -> Answer:
        return self._request("POST", path, urlencode(fields))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _request(self, method: str, path: str, body: str | None) -> Answer:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Referer": self._origin + path}
        try:
            connection = self._connected()
        except OSError as error:
            self.close()
            raise Unserved(type(error).__name__, maybe=False) from error
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unserved(type(error).__name__, maybe=method == "POST") from error
        self._keep_cookies(response.headers.get_all("Set-Cookie") or [])
        release = response.headers.get("X-Release")
        if response.status >= 500:
            # A 503 is a refusal. Behind a 500, 502 or 504 the request may have done its work.
            maybe = method == "POST" and response.status != 503
            raise Unserved(str(response.status), maybe=maybe, release=release)
        return Answer(response.status, response.headers.get("Location", ""), release, text)

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = self._kind(self._address, timeout=self._timeout)
            self._connection.connect()
        return self._connection

    def _keep_cookies(self, headers: Sequence[str]) -> None:
        for header in headers:
            for name, morsel in SimpleCookie(header).items():
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)


class FormReader(HTMLParser):
    """The fields of the forms on a page: their values as they stand, and what may be chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self.choices: dict[str, list[str]] = {}
        self._select: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        words = {name: value or "" for name, value in attrs}
        if tag == "input" and words.get("type") in {"checkbox", "radio"}:
            self.choices.setdefault(words["name"], []).append(words.get("value", "on"))
        elif tag == "input" and "name" in words:
            self.values[words["name"]] = words.get("value", "")
        elif tag == "select":
            self._select = words["name"]
            self.choices[self._select] = []
        elif tag == "option" and self._select is not None:
            self.choices[self._select].append(words.get("value", ""))
            if "selected" in words:
                self.values[self._select] = words.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = None


@dataclass(frozen=True)
class EntryForm:
    """The entry form of one release, ready to be filled in again and again."""

    release: str | None
    values: dict[str, str]
    accounts: list[str]
    tags: list[str]

    @classmethod
    def read(cls, answer: Answer) -> EntryForm:
        """Read the form from its page.

        Raises:
            Unserved: the page has no such form, or nothing to choose in it.
        """
        reader = FormReader()
        reader.feed(answer.body)
        accounts = [code for code in reader.choices.get("lines-0-account", []) if code]
        if len(accounts) < 2 or "reference" not in reader.values:
            raise Unserved("no form", maybe=False, release=answer.release)
        return cls(answer.release, reader.values, accounts, reader.choices.get("tags", []))

    def filled(self, draw: random.Random, token: str, user: str) -> tuple[list[tuple[str, str]], int]:
        """The fields of one balanced entry, and its amount in cents."""
        debit, credit = draw.sample(self.accounts, 2)
        cents = draw.randint(100, 500_000)
        amount = f"{cents // 100}.{cents % 100:02d}"
        fields = self.values | {
            "reference": token,
            "memo": f"{draw.choice(SUBJECTS)}, {user}",
            "lines-0-account": debit,
            "lines-0-debit": amount,
            "lines-1-account": credit,
            "lines-1-credit": amount,
        }
        chosen = draw.sample(self.tags, draw.randint(0, min(2, len(self.tags))))
        return [*fields.items(), *(("tags", tag) for tag in chosen)], cents


@dataclass(frozen=True)
class Tally:
    """What the writers have done so far.

    `tokens` are the references of the acknowledged entries, `unsettled` those that were sent and not acknowledged.
    `longest_gap_seconds` is the longest time between two acknowledgements, to whichever writer.
    """

    acknowledged: int
    by_release: dict[str, int]
    failed_requests: int
    failures: dict[str, int]
    first_failure: str | None
    last_failure: str | None
    longest_gap_seconds: float
    tokens: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All but the tokens, which are in the journal file."""
        return {name: value for name, value in asdict(self).items() if name != "tokens"}


class Record:
    """The journal file and the counts, shared by all writers."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._releases: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._failed_at: list[str] = []
        self._tokens: list[str] = []
        self._last_answer = time.monotonic()
        self._gap = 0.0
        self._open: set[str] = set()

    def sent(self, token: str) -> None:
        with self._lock:
            self._open.add(token)

    def acknowledged(self, token: str, user: str, release: str | None, cents: int) -> None:
        with self._lock:
            now = time.monotonic()
            self._gap, self._last_answer = max(self._gap, now - self._last_answer), now
            self._releases[release or "?"] += 1
            self._open.discard(token)
            self._tokens.append(token)
            self._write(state="acknowledged", token=token, user=user, release=release, cents=cents)

    def failed(self, user: str, error: Unserved, token: str | None) -> None:
        with self._lock:
            self._failures[error.why] += 1
            when = self._write(state="failed", user=user, why=error.why, release=error.release)
            self._failed_at = [*self._failed_at[:1], when]
            if error.maybe and token is not None:
                self._write(state="unknown", token=token, user=user, why=error.why)

    def tally(self) -> Tally:
        with self._lock:
            return Tally(
                acknowledged=self._releases.total(),
                by_release=dict(self._releases),
                failed_requests=self._failures.total(),
                failures=dict(self._failures),
                first_failure=self._failed_at[0] if self._failed_at else None,
                last_failure=self._failed_at[-1] if self._failed_at else None,
                longest_gap_seconds=round(self._gap, 3),
                tokens=list(self._tokens),
                unsettled=sorted(self._open),
            )

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _write(self, **fields: Any) -> str:
        when = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._file.write(json.dumps({**fields, "when": when}) + "\n")
        self._file.flush()
        return when


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


def acknowledged(journal: Path) -> dict[str, dict[str, Any]]:
    """The acknowledged entries of a journal file by their token (the entry's `reference`)."""
    return _records(journal, "acknowledged")


def unknown(journal: Path) -> dict[str, dict[str, Any]]:
    """The entries that may or may not have been posted: an answer never came, and no later try was acknowledged."""
    settled = acknowledged(journal)
    return {token: line for token, line in _records(journal, "unknown").items() if token not in settled}


def _records(journal: Path, state: str) -> dict[str, dict[str, Any]]:
    with journal.open(encoding="utf-8") as lines:
        # A line without its end was cut off when the writers were killed.
        found = (json.loads(line) for line in lines if line.endswith("\n"))
        return {line["token"]: line for line in found if line["state"] == state}


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
