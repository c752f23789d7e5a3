"""Stands before an S3 server and answers some requests itself, as a store on a bad day does."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN = (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
ERROR_WITHIN_200 = (
    200,
    b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>",
)

# As nginx, a load balancer, and stores that count requests say it.
BAD_GATEWAY = (502, b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>")
GATEWAY_TIMEOUT = (504, b"")
TOO_MANY = (429, b"<Error><Code>TooManyRequests</Code><Message>Reduce your request rate.</Message></Error>")

EXPIRED = (400, b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>")
SKEWED = (
    403,
    b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the current time "
    b"is too large.</Message></Error>",
)
FORBIDDEN = (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")

Fault = Callable[[str, str], tuple[int, bytes] | None]
"""From a request's method and path: the answer to give instead of the server's, or None."""


@dataclass
class Door:
    """Where to connect, and how many requests were answered with a fault."""

    port: int
    faults: int = field(default=0)


@contextmanager
def faulty_s3(port: int, fault: Fault) -> Iterator[Door]:
    """A door to the server on that port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            instead = fault(self.command, self.path)
            if instead is not None:
                door.faults += 1
                self.answer(instead[0], {"Content-Type": "application/xml"}, instead[1])
                return
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            link.request(self.command, self.path, body, headers)
            found = link.getresponse()
            data = found.read()
            self.answer(found.status, dict(found.getheaders()), data)
            link.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815  # the base class's names

        def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "date", "server", "content-length"):
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    door = Door(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield door
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
