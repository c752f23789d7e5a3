"""As much of a connection pooler as its clients can tell: another process's id than the server's, and no `options`.

See https://www.pgbouncer.org/config.html (ignore_startup_parameters) and
https://www.postgresql.org/docs/current/protocol-message-formats.html (StartupMessage, BackendKeyData).
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from safepoint.postgres.target import Target

_KEY = b"K\x00\x00\x00\x0c"
_REFUSED = b"SFATAL\x00VFATAL\x00C08P01\x00Munsupported startup parameter: options\x00\x00"
_SSL = 80877103


@contextmanager
def pooler(target: Target, *, ignores: bool = False) -> Iterator[Target]:
    """Stands before the server of a target; gives the same login by its address.

    Args:
        ignores: drop `options` without a word (`ignore_startup_parameters = options`), and do not refuse them.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_listen, args=(listening, target, ignores), daemon=True).start()
        try:
            yield target.at(f"127.0.0.1:{listening.getsockname()[1]}")
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)


def _listen(listening: socket.socket, target: Target, ignores: bool) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_serve, args=(client, target, ignores), daemon=True).start()


def _serve(client: socket.socket, target: Target, ignores: bool) -> None:
    with suppress(OSError), client:
        words = _startup(client)
        if "options" in words and not ignores:
            client.sendall(b"E" + struct.pack("!I", len(_REFUSED) + 4) + _REFUSED)
            return
        words.pop("options", None)
        with socket.create_connection((target.host, target.port)) as server:
            said = b"".join(f"{name}\0{value}\0".encode() for name, value in words.items()) + b"\0"
            server.sendall(struct.pack("!II", len(said) + 8, 196608) + said)
            threading.Thread(target=_pass_on, args=(client, server), daemon=True).start()
            _pass_on(server, client)


def _startup(client: socket.socket) -> dict[str, str]:
    while True:
        length, code = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
        if code == _SSL:
            client.sendall(b"N")
            continue
        words = client.recv(length - 8, socket.MSG_WAITALL).decode().split("\0")
        return {name: value for name, value in zip(words[0::2], words[1::2], strict=False) if name}


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            at = data.find(_KEY)
            if at >= 0:
                data = data[: at + 5] + struct.pack("!I", 4711) + data[at + 9 :]
            other.sendall(data)
        other.shutdown(socket.SHUT_RDWR)
