"""What the log says is brought into the spool: peeked, written durably, and only then let go of by the server."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import closing
from typing import Final

import psycopg

from safepoint.errors import CaptureLost, DatabaseError
from safepoint.postgres.connections import Connection, streamed
from safepoint.postgres.pgoutput import format_lsn, parse_lsn
from safepoint.progress import Cancelled
from safepoint.wayback.capture.publication import PUBLICATION
from safepoint.wayback.capture.slot import free_slot, lost, read_elsewhere
from safepoint.wayback.capture.spool import Spool

# Changes per read. Each read makes the server decode from its restart point again, which it moves seldom: few large
# reads are three times as fast as many small ones. But it keeps what it decoded in a file: so not too large ones.
_BATCH: Final = 20_000
_MOST: Final = 1_000_000
_READ: Final = 128 << 20
# Messages, or bytes, that are looked at together.
_PIECE: Final = 1_000
_SIZE: Final = 1 << 20
_CHANGES: Final = (73, 85, 68, 84)  # I, U, D, T
# PostgreSQL 18 says of a subtransaction that it is rolled back, as if it had been streamed, where it saw so before it
# would have written the transaction to disk (ReorderBufferCheckAndTruncateAbortedTXN). Nothing of it ever came.
_ROLLED_BACK: Final = b"A"
# elog() of mcxt.c, which is in no translation; a buffer that cannot grow has a code of its own (54000).
_TOO_LARGE: Final = "invalid memory alloc request size"

# The server keeps what it decoded in a spill file of its own, we take it from there piece by piece: memory stays
# small on both sides even for one giant transaction (which always comes whole, whatever upto_nchanges says). Messages
# outside of transactions would come before their sender's commit, and enough of them would be all that a read gives.
PEEK = """
SELECT data
FROM pg_logical_slot_peek_binary_changes(%s, %s::pg_lsn, %s,
     'proto_version', '1', 'publication_names', %s, 'messages', 'false')
"""
ADVANCE = """
SELECT pg_replication_slot_advance(slot_name, %s::pg_lsn)
FROM pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn < %s::pg_lsn
"""


# Where decoding may begin again is written to the log by the server every 15 seconds (LOG_SNAPSHOT_INTERVAL_MS in
# bgwriter.c), and from there all is decoded once more by each read. From PostgreSQL 16 on it can be asked to write one.
MARKS: Final = 160000
FAR: Final = """
SELECT has_function_privilege('pg_log_standby_snapshot()', 'EXECUTE') AND EXISTS (
    SELECT FROM pg_replication_slots
    WHERE slot_name = %s AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > 1 << 20)
"""


class LogDrain:
    """One drain's way through the stream.

    Args:
        only_spool: nothing else has what the server let go of. What goes into a level twin is applied there at once,
            and compared: its spool may be lost.
        timeline: of the log that is read.
    """

    def __init__(
        self,
        connection: Connection,
        slot: str,
        publication: str,
        spool: Spool,
        cancelled: Cancelled,
        *,
        only_spool: bool = True,
        timeline: str = "",
    ) -> None:
        self.connection = connection
        self.slot, self.publication = slot, publication
        self.spool, self.only_spool = spool, only_spool
        self.cancelled, self.timeline = cancelled, timeline
        self.transactions = self.changes = self.bytes = 0
        self.changed_tables: set[str] = set()
        self._relations = dict(spool.position.relations)
        # Transactions come in the order of their commits: those that the spool has already, all before the others.
        self._skipping = True
        # Tables are described once per read: what a skipped transaction described, a later one may rely on.
        self._described: dict[bytes, bytes] = {}

    def run(self, end: str, batch: int | None) -> bool:
        """Read batch by batch up to an LSN; gives whether it got there (False: cancelled).

        What the last batch gave is durable then, and the server has not been told yet.
        """
        read = wider = narrower = 0
        while not self.cancelled():
            self._check()
            before = self.spool.position.commit_lsn
            most = narrower or max(batch or batch_after(read, self.bytes), wider)
            try:
                seen, commit = self._read(end, most)
            except (psycopg.errors.ProgramLimitExceeded, psycopg.InternalError) as error:
                if not is_too_large(error):
                    raise
                if most == 1:
                    raise too_large(self.slot, error) from error
                narrower = max(1, most // 64)  # what came before that row is taken; a read that fails gives nothing
                continue
            read += max(seen, 0)
            if seen < 0:
                return False
            if commit is None and seen < most:
                return True
            if commit is None:  # one transaction that was rolled back has filled it
                wider, narrower = most * 8, 0
                continue
            wider = 0
            commit_lsn, end_lsn, transactions = commit
            last = seen < most  # it was not its limit that ended it; to see so by another read takes as long again
            let_go = parse_lsn(end) if last else end_lsn
            if commit_lsn > before:
                self.spool.sync(commit_lsn, transactions, self._relations, let_go=let_go, timeline=self.timeline)
                self.transactions += transactions
            if last:
                return True
            let_go_of(self.connection, self.slot, self.spool, let_go)
        return False

    def _check(self) -> None:
        """The slot is whole and free, and the publication is there (PostgreSQL 18 would only warn and drop changes).

        And nobody else has read from it: what the server let go of for another spool is in that one only.
        """
        found = free_slot(self.connection, self.slot, self.connection.info.dbname)
        known = self.spool.position.let_go
        if self.only_spool and known is not None and parse_lsn(found.confirmed_lsn) > known:
            raise read_elsewhere(self.spool.path, format_lsn(known), found.confirmed_lsn)
        if self.connection.execute(PUBLICATION, (self.publication,)).fetchone() is None:
            raise lost(self.slot, f"the publication {self.publication} was dropped")

    def _read(self, end: str, batch: int) -> tuple[int, tuple[int, int, int] | None]:
        """One peek: the number of messages (-1: cancelled), and the last commit: its LSN, its end, how many."""
        seen, new = 0, 0
        last, commit = b"C", b""
        self._skipping = True
        self._described.clear()
        with closing(self._pieces(end, batch)) as pieces:
            for piece in pieces:
                if self.cancelled():
                    return -1, None
                seen += len(piece)
                kinds = bytes([message[0] for message in piece])
                if _ROLLED_BACK in kinds:
                    piece = [message for message in piece if message[:1] != _ROLLED_BACK]
                    kinds = kinds.replace(_ROLLED_BACK, b"")
                last = piece[-1] if piece else last
                if (place := kinds.rfind(b"C")) >= 0:
                    commit = piece[place]
                if b"R" in kinds:
                    self._note_shapes(piece)
                if self._skipping:
                    piece = self._unknown(piece)
                    kinds = bytes([message[0] for message in piece])
                new += kinds.count(b"C")
                self.changes += sum(map(kinds.count, _CHANGES))
                self.bytes += self.spool.extend(piece)
        if last[:1] != b"C":
            # A read that gave nothing went to its end. One that gave something may have ended at its limit: what lies
            # behind its last commit is not known, and must not be let go of.
            raise DatabaseError(
                "The log was given without the end of a transaction; nothing was let go of.",
                subject=self.slot,
                expected="transactions that are whole",
                found=f"{seen} messages, the last of kind {last[:1].decode('ascii', 'replace')!r}",
                remedy="The server keeps it all: try again. If it stays so, report it as a fault of Safepoint.",
            )
        if not commit:
            return seen, None
        return seen, (int.from_bytes(commit[2:10], "big"), int.from_bytes(commit[10:18], "big"), new)

    def _pieces(self, end: str, batch: int) -> Generator[list[bytes]]:
        """The messages of one peek, many at a time: to touch each is what a drain's time goes to."""
        piece: list[bytes] = []
        size = 0
        values = (self.slot, end, batch, self.publication)
        with self.connection.cursor(binary=True) as cursor, streamed(cursor, PEEK, values) as rows:
            for (message,) in rows:
                piece.append(message)
                size += len(message)
                if len(piece) >= _PIECE or size >= _SIZE:
                    yield piece
                    piece, size = [], 0
        if piece:
            yield piece

    def _unknown(self, piece: list[bytes]) -> list[bytes]:
        """What of it the spool does not have."""
        for place, message in enumerate(piece):
            if message[:1] == b"R":
                self._described[message[1:5]] = message
            elif message[:1] == b"B" and int.from_bytes(message[1:9], "big") > self.spool.position.commit_lsn:
                self._skipping = False
                return [message, *self._described.values(), *piece[place + 1 :]]
        return []

    def _note_shapes(self, piece: list[bytes]) -> None:
        for message in piece:
            if message[:1] == b"R":
                self._note_shape(message)

    def _note_shape(self, data: bytes) -> None:
        oid = str(int.from_bytes(data[1:5], "big"))
        shape = hashlib.blake2b(data, digest_size=8).hexdigest()
        if self._relations.setdefault(oid, shape) != shape:
            schema, name = data[5:].split(b"\0", 2)[:2]
            self.changed_tables.add(f"{schema.decode()}.{name.decode()}")
            self._relations[oid] = shape


def is_too_large(error: psycopg.Error) -> bool:
    """Whether a row is larger, as the log writes it, than PostgreSQL can have in one piece of memory (1 GB)."""
    said = error.diag.message_primary or ""
    return error.sqlstate == "54000" or (error.sqlstate == "XX000" and _TOO_LARGE in said)


def too_large(slot: str, error: psycopg.Error) -> CaptureLost:
    """The error of a capture that a row ends which nobody can read from the log: nor what was committed after it."""
    return CaptureLost(
        "The capture is not complete any more: somebody wrote a row that is larger than PostgreSQL can decode (1 GB as "
        "text; of a bytea two characters for each byte).",
        subject=slot,
        expected="every change since the launch",
        found=f"{error.diag.message_primary}; what was committed before it is in the spool",
        remedy="A rollback can still swap to the twin and carries what is in the spool; what was committed since is "
        "listed, and not carried. Until then the server keeps its log for the slot: see checkpoints.capture_wal_gb.",
    )


def batch_after(changes: int, size: int) -> int:
    """How many changes to read next, after so many of that size together."""
    return _BATCH if not size else min(_MOST, max(_BATCH, _READ * changes // size))


def mark_restart(connection: Connection, slot: str) -> None:
    """Have the server write where decoding may begin again, if that lies more than 1 MB back: the next drain is short.

    It counts once the slot is advanced past it.
    """
    if connection.info.server_version < MARKS:
        return
    row = connection.execute(FAR, (slot,)).fetchone()
    if row is not None and row[0]:
        connection.execute("SELECT pg_log_standby_snapshot()")


def let_go_of(connection: Connection, slot: str, spool: Spool, lsn: int) -> None:
    """Tell the server that the spool has everything up to an LSN; the spool knows of it before."""
    spool.will_let_go(lsn)
    advance(connection, slot, format_lsn(lsn))


def advance(connection: Connection, slot: str, lsn: str) -> None:
    """Let the server forget what comes before an LSN; what is there already is no less."""
    connection.execute(ADVANCE, (lsn, slot, lsn))
