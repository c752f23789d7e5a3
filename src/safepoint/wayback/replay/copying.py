"""Rows of COPY BINARY written into temporary tables, while the next ones are being made."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from psycopg import sql

from safepoint.postgres.connections import Connection

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"


class Writer:
    """Copies one bundle while the next one is being made; never more than that."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="safepoint-staging")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def write(self, table: str, rows: list[bytes]) -> None:
        """Into this temporary table."""
        self.wait()
        self._pending = self._pool.submit(self._copy, table, rows)

    def wait(self) -> None:
        """Until the connection is free again."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _copy(self, table: str, rows: list[bytes]) -> None:
        statement = sql.SQL("COPY pg_temp.{} FROM STDIN (FORMAT binary)").format(sql.Identifier(table))
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(b"".join((_HEADER, *rows, _TRAILER)))
