"""Whether the site is closed is asked from outside, for as long as a router takes to do what it was told."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from safepoint.errors import RouterError
from safepoint.launch.step import Evidence
from safepoint.launch.verbs import stop


@contextmanager
def answering(answers: Sequence[int | None]) -> Iterator[Any]:
    """What a verb needs to look at a site that answers so, one after the other and the last for ever; None hangs up."""
    left = list(answers)

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = left.pop(0) if len(left) > 1 else left[0]
            if status is not None:
                self.send_response(status)
                self.send_header("Retry-After", "120")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        yield SimpleNamespace(router=SimpleNamespace(url=url), pause=time.sleep)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_router_that_still_drops_a_connection_or_answers_by_its_old_configuration_is_asked_again() -> None:
    with answering([None, 200, None, 503]) as ground:
        stop.StopTraffic().verify(ground, Evidence(""))


@pytest.mark.parametrize(("status", "words"), [(200, "still lets people in"), (None, "nobody answers")])
def test_one_that_does_not_close_is_told_by_what_it_answers(
    monkeypatch: pytest.MonkeyPatch, status: int | None, words: str
) -> None:
    monkeypatch.setattr(stop, "_CLOSED_SECONDS", 0.2)
    with answering([status]) as ground, pytest.raises(RouterError, match=words):
        stop.StopTraffic().verify(ground, Evidence(""))
