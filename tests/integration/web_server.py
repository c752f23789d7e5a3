"""A small real web server for tests: a release that says its name, slowly where it is asked to; and a plain client."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class _Release(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(1.0)
        body = f"release {self.server.server_port}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        pass


@contextmanager
def release() -> Iterator[str]:
    """A running release; its upstream as `host:port`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Release)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True)
class Seen:
    status: int
    body: str
    headers: dict[str, str]

    @property
    def cookie(self) -> str | None:
        """What a browser would send back."""
        return self.headers["set-cookie"].split(";")[0] if "set-cookie" in self.headers else None


class Client:
    """Requests over one connection, which is made anew where the server closed it in between, as browsers do."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)

    def get(self, path: str = "/", *, cookie: str | None = None, accept: str = "*/*") -> Seen:
        headers = {"Accept": accept} | ({"Cookie": cookie} if cookie else {})
        try:
            return self._get(path, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self.close()
            return self._get(path, headers)

    def close(self) -> None:
        self._connection.close()

    def _get(self, path: str, headers: dict[str, str]) -> Seen:
        self._connection.request("GET", path, headers=headers)
        response = self._connection.getresponse()
        body = response.read().decode()
        return Seen(response.status, body, {name.lower(): value for name, value in response.getheaders()})
