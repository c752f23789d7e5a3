"""A link that breaks, or only trickles: a TCP proxy that resets connections after so many bytes, as often as told."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

RESET = struct.pack("ii", 1, 0)


class BrokenLink:
    """Passes bytes on to a port. `breaks` connections are reset, each after `after` bytes from the client.

    `rate` is in bytes a second, of each direction of each connection; 0 passes nothing more. All may be set meanwhile.
    `passed` are the bytes that came from clients so far. With `answers` it is the server's bytes that count.
    """

    def __init__(
        self, target_port: int, *, after: int, breaks: int, rate: float | None = None, answers: bool = False
    ) -> None:
        self.after, self.breaks, self.rate, self.answers = after, breaks, rate, answers
        self.broken = self.passed = 0
        self._target = target_port
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        if rate is not None:  # or what a slow link holds back would lie in the sockets' buffers
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        self._open: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection that is open now."""
        for end in list(self._open):
            self._reset(end)

    def stall(self, seconds: float) -> None:
        """The connections that are open now carry nothing more, as those that a firewall forgot; then they are reset.

        New ones do. Returns at the end.
        """
        ends = list(self._open)
        self._silent.update(ends)
        time.sleep(seconds)
        for end in ends:
            self._reset(end)
        self._silent.difference_update(ends)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread that accepts
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
                if self.rate is not None:
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            except OSError:  # nobody is there now; the link itself stands
                self._reset(client)
                continue
            self._open += [client, server]
            threading.Thread(target=self._pass, args=(client, server, not self.answers), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, self.answers), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        seen = 0
        try:
            while data := source.recv(65536 if self.rate is None else 4096):
                seen += len(data)
                self.passed += len(data) if counted else 0
                self._hold_back(len(data))
                while source in self._silent:
                    time.sleep(0.05)
                if counted and seen > self.after and self._take_a_break():
                    self._reset(source)
                    self._reset(sink)
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # one end was reset: the other one must learn of it
            self._reset(source)
            self._reset(sink)

    def _hold_back(self, size: int) -> None:
        while self.rate == 0:
            time.sleep(0.05)
        if self.rate is not None:
            time.sleep(size / self.rate)

    def _take_a_break(self) -> bool:
        with self._lock:
            if self.broken >= self.breaks:
                return False
            self.broken += 1
            return True

    @staticmethod
    def _reset(end: socket.socket) -> None:
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def broken_link(
    target_port: int, *, after: int = 1 << 62, breaks: int = 0, rate: float | None = None, answers: bool = False
) -> Iterator[BrokenLink]:
    link = BrokenLink(target_port, after=after, breaks=breaks, rate=rate, answers=answers)
    try:
        yield link
    finally:
        link.rate = None
        link.close()
