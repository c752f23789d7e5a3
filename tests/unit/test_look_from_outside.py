"""The look at a closed site from outside: as a user would, and not through the proxy of the conductor's environment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from s3_server import free_port

from safepoint.errors import RouterError
from safepoint.launch.step import Evidence
from safepoint.launch.verbs import stop
from safepoint.launch.verbs.stop import StopTraffic


class _Site(BaseHTTPRequestHandler):
    """A site that is closed, but for one page that was forgotten, one that hangs up, and an old address of it; what is
    on its way to be closed answers in between as `closing` has it (None hangs up)."""

    closing: ClassVar[list[int | None]] = []

    def do_GET(self) -> None:
        turn = self.closing.pop(0) if self.path == "/closing" and self.closing else 503
        if self.path == "/silent" or turn is None:
            return
        if self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/")
        elif self.path == "/forgotten" or turn == 200:
            self.send_response(200)
        else:
            self.send_response(503)
            self.send_header("Retry-After", "60")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words: Any) -> None:
        """Tests are silent."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where it answers; the environment names a proxy that does not."""
    dead = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, dead)
        monkeypatch.setenv(name.upper(), dead)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def look(url: str) -> None:
    ground: Any = SimpleNamespace(router=SimpleNamespace(url=url), pause=time.sleep, step=SimpleNamespace(phase="stop"))
    StopTraffic().verify(ground, Evidence("closed"))


@pytest.mark.parametrize("path", ["", "/moved"])
def test_a_closed_site_is_seen_whatever_proxy_the_environment_names(site: str, path: str) -> None:
    look(site + path)


def test_a_router_that_drops_a_connection_or_answers_once_more_as_before_is_asked_again(site: str) -> None:
    _Site.closing[:] = [None, 200, None]
    look(site + "/closing")
    assert _Site.closing == []


@pytest.mark.parametrize(
    ("path", "words", "found"),
    [
        ("/forgotten", "still lets people in", "200, Retry-After None"),
        ("/silent", "nobody answers there", "None, Retry-After None"),
    ],
)
def test_a_site_that_is_not_closed_is_told_by_what_it_answers(
    monkeypatch: pytest.MonkeyPatch, site: str, path: str, words: str, found: str
) -> None:
    monkeypatch.setattr(stop, "_CLOSED_SECONDS", 0.2)
    with pytest.raises(RouterError, match=words) as raised:
        look(site + path)
    assert raised.value.found == found
