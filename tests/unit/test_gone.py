"""Whether a release that was told to stop is gone: nothing takes a question any more, or takes it and lets go."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from safepoint.launch.asking import answers, is_gone

URL = "http://shop.example"


def test_nothing_and_a_relay_with_nothing_behind_it_are_gone() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    assert is_gone(address, "/", URL, timeout=2) and answers(address, "/", URL) is None

    def reset(taken: socket.socket) -> None:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with listening(reset) as address:
        assert is_gone(address, "/", URL, timeout=2)


def test_one_that_hangs_is_there_and_one_that_answers_anything_too() -> None:
    over = threading.Event()
    with listening(lambda _: over.wait(10)) as address:
        assert not is_gone(address, "/", URL, timeout=0.3)
        over.set()
    with listening(lambda taken: taken.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")) as address:
        assert not is_gone(address, "/", URL, timeout=2)


@contextmanager
def listening(then: Callable[[socket.socket], object]) -> Iterator[str]:
    """Something that takes connections, one after the other, and does `then` with each."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                while True:
                    with server.accept()[0] as taken:
                        then(taken)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)
