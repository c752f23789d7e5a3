"""One exchange with a router, over connections that are reset."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from safepoint.errors import RouterError
from safepoint.routers.http import exchange

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def serve(listener: socket.socket, resets: int) -> None:
    """Reset that many connections, then answer one."""
    for number in range(resets + 1):
        client, _ = listener.accept()
        client.recv(1024)
        if number < resets:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        else:
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        client.close()


@pytest.mark.parametrize("resets", [0, 1, 3])
def test_a_connection_that_is_reset_is_tried_again(resets: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener, resets), daemon=True)
        thread.start()
        answer = exchange("PATCH", f"http://127.0.0.1:{listener.getsockname()[1]}/id/safepoint", body=b"{}")
        thread.join(5)
    assert (answer.status, answer.body) == (200, b"ok")


def test_a_router_that_is_not_there_is_told_after_a_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RouterError, match="does not answer properly"):
        exchange("GET", f"http://127.0.0.1:{port}/")
