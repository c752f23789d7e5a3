"""A small browser for the accounting site: one connection, one cookie jar, and the entry form whatever its release."""

from __future__ import annotations

import http.client
import random
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

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
