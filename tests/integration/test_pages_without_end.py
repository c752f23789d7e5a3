"""A page that never comes to its end, or is huge, keeps no check from ending."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from safepoint.checkpoints.login import login
from safepoint.checkpoints.pages import health
from safepoint.config import Login


@contextmanager
def endless(piece: bytes, every: float) -> Iterator[str]:
    """A site whose every page goes on and on."""

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
            while True:
                connection.sendall(piece)
                time.sleep(every)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("piece", "every"), [(b"x", 0.02), (b"x" * 1_000_000, 0.0)], ids=["trickles", "huge"])
def test_a_health_page_without_an_end_fails_in_time(piece: bytes, every: float) -> None:
    with endless(piece, every) as url:
        found = health(url, timeout=1)
    assert found.verdict == "fail" and "does not come to its end" in found.detail
    assert found.seconds < 5


def test_a_login_page_without_an_end_fails_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_TEST_PASSWORD", "pass")
    with endless(b"x", 0.02) as url:
        found = login(url, Login(username="tess", password_env="SHOP_TEST_PASSWORD", browser="http"), timeout=1)
    assert found.verdict == "fail" and "does not come to its end" in found.detail
