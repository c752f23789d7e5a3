"""Files in any place that fsspec knows, by names relative to the store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from safepoint.errors import SafepointError
from safepoint.stores import folders, going_on, lock
from safepoint.stores.faults import Unreachable, explained
from safepoint.stores.files import CHUNK, Reading, Sent, Step, Through, copied
from safepoint.stores.piecewise import InPlace, S3Parts, Writing

_PART = 8 * 1024 * 1024
_MOST_PARTS = 9000  # S3 allows 10,000 parts for one object


class FsspecFiles:
    """Files by fsspec.

    Args:
        connect: opens the file system and says the path of the store in it; called again after a connection broke.
        where: the store as it is shown to people (without a login).
        locking: what an upload to a path says so that it is locked; see `lock.Locking`.
    """

    def __init__(
        self,
        connect: Callable[[], tuple[Any, str]],
        where: str,
        locking: Callable[[Any, str], dict[str, Any]] = lambda _fs, _path: {},
    ) -> None:
        self.where = where
        self._connect = connect
        self._locking = locking
        self._opened: tuple[Any, str] | None = None

    def put(self, local: Path, name: str, step: Step, through: Through = copied) -> Sent:
        """See `Files.put`."""
        size = local.stat().st_size
        part = max(_PART, size // _MOST_PARTS)
        with self._at(name, "write") as (fs, path), local.open("rb") as source:
            words = self._locking(fs, path)
            if size > going_on.BIG and through is copied and hasattr(fs, "call_s3"):
                return Sent(*going_on.in_parts(fs, path, local, step, words))
            if size > going_on.BIG and through is copied and folders.has_folders(fs):
                folders.make_above(fs, path)
                return Sent(*going_on.by_appending(fs, path, local, step, _opened, _pipelined))
            with _written(fs, path, part, words) as sink:
                counting = _Counting(sink)
                through(source, cast(BinaryIO, counting), step)
        return counting.sent()

    def begin(self, name: str, size: int) -> Writing | None:
        """See `Files.begin`."""
        if size <= going_on.BIG:
            return None
        with self._at(name, "write") as (fs, _path):
            in_parts, in_place = hasattr(fs, "call_s3"), folders.has_folders(fs)
        if in_parts:
            return S3Parts(lambda: self._at(name, "write"), size, self._locking)
        return InPlace(lambda: self._at(name, "write"), _pipelined) if in_place else None

    def reading(self, name: str) -> Reading:
        """See `Files.reading`."""
        return _Reading(lambda: self._at(name, "read"))

    def get(self, name: str, local: Path, step: Step, through: Through = copied) -> None:
        """See `Files.get`."""
        with self._at(name, "read") as (fs, path), _opened(fs, path) as source, local.open("wb") as sink:
            through(source, sink, step)

    def locked_until(self, name: str) -> datetime | None:
        """See `Files.locked_until`."""
        with self._at(name, "look for a lock on") as (fs, path):
            return lock.until(fs, path)

    def keeps_versions(self) -> bool:
        """See `Files.keeps_versions`."""
        with self._at("", "ask for the versions of") as (fs, path):
            return lock.keeps_versions(fs, path)

    def digest(self, name: str, step: Step) -> str:
        """See `Files.digest`."""
        digest = hashlib.sha256()
        with self._at(name, "read") as (fs, path), _opened(fs, path) as source:
            for chunk in _chunks(source, step):
                digest.update(chunk)
        return digest.hexdigest()

    def write(self, name: str, data: bytes) -> None:
        """See `Files.write`."""
        with self._at(name, "write") as (fs, path), _written(fs, path, _PART) as sink:
            sink.write(data)

    def read(self, name: str) -> bytes:
        """See `Files.read`."""
        with self._at(name, "read") as (fs, path), _opened(fs, path) as source:
            return b"".join(_chunks(source, lambda _done: None))

    def exists(self, name: str) -> bool:
        """See `Files.exists`. A file system's own `exists` takes any failure for a no."""
        try:
            with self._at(name, "look for") as (fs, path):
                fs.info(path)
        except SafepointError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise
        return True

    def names(self, folder: str) -> list[str]:
        """See `Files.names`."""
        return sorted(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int | None]:
        """See `Files.sizes`."""
        with self._at(folder, "list") as (fs, path):
            found = {str(name): entry.get("size") for name, entry in fs.find(path, detail=True).items()}
            start = len(str(path).rstrip("/")) + 1
            return {name[start:]: size for name, size in found.items() if not name.endswith(folders.UNFINISHED)}

    def folders(self) -> list[str]:
        """See `Files.folders`."""
        with self._at("", "list") as (fs, path):
            try:
                entries = fs.ls(path, detail=True)
            except FileNotFoundError:
                return []
            names = [str(entry["name"]).rstrip("/") for entry in entries if entry["type"] == "directory"]
            return sorted(name.rpartition("/")[2] for name in names)

    def touched(self, folder: str) -> datetime | None:
        """See `Files.touched`."""
        with self._at(folder, "list") as (fs, path):
            found = fs.find(path, detail=True).values()
            times = [_time_of(entry) for entry in found if entry.get("type") != "directory"]  # it has no time
            if hasattr(fs, "call_s3"):
                times += going_on.written_below(fs, path)
            return max(times, default=None)

    def remove(self, name: str) -> None:
        """See `Files.remove`."""
        with self._at(name, "remove") as (fs, path):
            with suppress(FileNotFoundError):
                fs.rm(path, recursive=True)
            if hasattr(fs, "call_s3"):
                _refuse_left(fs, path)
            self._give_up_below(fs, path, None)

    def tidy(self, before: datetime) -> None:
        """See `Files.tidy`."""
        with self._at("", "tidy") as (fs, path):
            self._give_up_below(fs, path, before)

    def _give_up_below(self, fs: Any, path: str, before: datetime | None) -> None:
        """Not every store lists them, or lets us: they are invisible, and its own rules may remove them."""
        if not hasattr(fs, "call_s3"):
            return
        try:
            going_on.give_up(fs, path, begun_before=before)
        except Exception as error:  # each file system has exceptions of its own
            if going_on.broke(error):
                raise

    @contextmanager
    def _at(self, name: str, action: str) -> Iterator[tuple[Any, str]]:
        """The file system and a path in it; what goes wrong inside is explained, and the connection made anew."""
        try:
            if self._opened is None:
                self._opened = self._connect()
            fs, root = self._opened
            fs.invalidate_cache()
            yield fs, f"{root.rstrip('/')}/{name}" if name else root
        except SafepointError:
            raise
        except Exception as error:  # each file system has exceptions of its own
            fault = explained(error, action, name or "the store", self.where)
            if isinstance(fault, Unreachable):
                self._opened = None
            raise fault from error


def _refuse_left(fs: Any, path: str) -> None:
    """S3 answers that it has deleted files, and within that answer which ones it did not; s3fs passes these over
    (API page of DeleteObjects).
    """
    fs.invalidate_cache()
    if left := [name for name, entry in fs.find(path, detail=True).items() if entry.get("type") != "directory"]:
        raise PermissionError(f"it answered as if it had, but {left[0]} is still there ({len(left)} in all)")


def _time_of(entry: dict[str, Any]) -> datetime:
    """When a file was written last. Each file system of fsspec has a word of its own for it."""
    found = next((entry[word] for word in ("mtime", "LastModified", "last_modified") if word in entry), None)
    if isinstance(found, int | float):
        return datetime.fromtimestamp(found, UTC)
    if isinstance(found, datetime):
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return datetime.now(UTC)


class _Counting:
    """Writes, and knows what was written."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> int:
        self._sink.write(data)
        self._digest.update(data)
        self._bytes += len(data)
        return len(data)

    def sent(self) -> Sent:
        return Sent(self._bytes, self._digest.hexdigest())


def _chunks(source: Any, step: Step) -> Iterator[bytes]:
    done = 0
    while chunk := source.read(CHUNK):
        yield chunk
        done += len(chunk)
        step(done)


class _Reading:
    """See `Reading`; after a failure the file is opened anew where the last whole piece ended."""

    def __init__(self, at: Callable[[], AbstractContextManager[tuple[Any, str]]]) -> None:
        self._at = at
        self._stack = ExitStack()
        self._file: Any = None
        self._done = 0

    def read(self, size: int) -> bytes:
        with self._at() as (fs, path):
            try:
                if self._file is None:
                    self._file = self._stack.enter_context(_opened(fs, path))
                    self._file.seek(self._done)
                data = bytes(self._file.read(size))
            except BaseException:
                self.close()
                raise
        self._done += len(data)
        return data

    def close(self) -> None:
        self._file = None
        with suppress(Exception):  # of a connection that is gone already
            self._stack.close()


@contextmanager
def _opened(fs: Any, path: str) -> Iterator[Any]:
    """A file of the store to read from beginning to end."""
    with fs.open(path, "rb", block_size=CHUNK) as file:
        yield _Windows(file, fs.info(path)["size"]) if hasattr(file, "readv") else file


class _Windows:
    """An SFTP file read by windows of many requests on the way at once: one by one, each would cost a round trip."""

    _REQUEST = 32 * 1024  # what every server takes (draft-ietf-secsh-filexfer-02, section 3)

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._size, self._at = file, size, 0
        asks = file._prefetch_thread

        def asks_quietly(*words: Any) -> None:
            with suppress(Exception):  # a broken link is told by the reading; paramiko's thread would print a traceback
                asks(*words)

        file._prefetch_thread = asks_quietly

    def seek(self, at: int) -> None:
        self._at = at

    def read(self, size: int) -> bytes:
        end = min(self._at + size, self._size)
        requests = [(start, min(self._REQUEST, end - start)) for start in range(self._at, end, self._REQUEST)]
        data = b"".join(self._file.readv(requests))
        if len(data) != end - self._at:
            raise ConnectionError(f"the server sent {len(data)} bytes instead of {end - self._at}")
        self._at = end
        return data


def _pipelined(file: Any) -> Any:
    """An SFTP file waits for no answer to each write."""
    if hasattr(file, "set_pipelined"):
        file.set_pipelined(True)
    return file


@contextmanager
def _written(fs: Any, path: str, part: int, words: dict[str, Any] | None = None) -> Iterator[Any]:
    """A file of the store to write; after a failure what was sent is given up, not completed."""
    with ExitStack() as stack:
        at = stack.enter_context(folders.settling(fs, path)) if folders.has_folders(fs) else path
        file = _pipelined(fs.open(at, "wb", block_size=part, **(words or {})))
        try:
            yield file
        except BaseException:
            _give_up(fs, file, at)
            raise
        file.close()


def _give_up(fs: Any, file: Any, path: str) -> None:
    """Closing an object-store file would complete the upload, so it is discarded; elsewhere the file is removed.

    Best effort: the failure that led here is the one to tell, and without its manifest a snapshot is not seen.
    """
    with suppress(Exception):
        if not folders.has_folders(fs):
            file.closed = True
            file.discard()
            return
    with suppress(Exception):
        file.close()
    with suppress(Exception):
        fs.rm(path)
    if hasattr(file, "set_pipelined"):
        file._closed = True  # else paramiko tries to close it again when it is collected, and complains to stderr
