"""Encryption in the age format (age-encryption.org/v1), streaming: sealed to recipients, opened with an identity file.

Every file is sealed on its own, so that the plain `age` tool opens each, and a broken link costs one file. age's MAC
covers a whole file: one that was changed or cut short does not open. pyrage needs some 10 kB of memory a file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from safepoint.errors import PlanFileError, StoreError
from safepoint.stores.files import CHUNK, Step

SUFFIX = ".age"


class Seal:
    """Encrypts to recipients; any one of their identities opens it."""

    def __init__(self, recipients: Sequence[str]) -> None:
        """Take `age1...` and SSH public keys.

        Raises:
            PlanFileError: one of them is no recipient, or the library is not installed.
        """
        self.recipients = tuple(recipients)
        self._keys = [_recipient(word) for word in recipients]

    def __call__(self, source: BinaryIO, sink: BinaryIO, step: Step) -> None:
        """See `files.Through`."""
        _stream(_library().encrypt_io, source, sink, self._keys, step, "")


class Opening:
    """Decrypts with the identities of a file, as `age --identity` does."""

    def __init__(self, identity: Path) -> None:
        """Read an age identity file (`age-keygen`) or an SSH private key without a passphrase.

        Raises:
            PlanFileError: it cannot be read, or holds no identity.
        """
        self._path = identity
        self._keys = _identities(identity)

    def __call__(self, source: BinaryIO, sink: BinaryIO, step: Step) -> None:
        """See `files.Through`.

        Raises:
            StoreError: none of the identities opens it, or it is not as it was written.
        """
        _stream(_library().decrypt_io, source, sink, self._keys, step, str(self._path))


class _Failing:
    """A file object for pyrage, which would hide what its reader or writer raised."""

    def __init__(self, step: Step) -> None:
        self.error: BaseException | None = None
        self._step = step
        self._done = self._told = 0

    def guard(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except BaseException as error:
            self.error = self.error or error
            raise

    def count(self, size: int) -> None:
        self._done += size
        if self._done - self._told >= CHUNK:
            self._told = self._done
            self._step(self._done)

    def finish(self) -> None:
        self._step(self._done)


class _Reader:
    def __init__(self, file: BinaryIO, shared: _Failing) -> None:
        self._file, self._shared, self._buffer, self._at = file, shared, b"", 0

    def read(self, size: int = -1) -> bytes:
        return bytes(self._shared.guard(lambda: self._read(size)))

    def _read(self, size: int) -> bytes:
        """Small reads are served from a big one: a store's file would ask the network for each."""
        if self._at == len(self._buffer):
            self._buffer, self._at = self._file.read(CHUNK), 0
            self._shared.count(len(self._buffer))
        end = len(self._buffer) if size < 0 else self._at + size
        piece = self._buffer[self._at : end]
        self._at += len(piece)
        return piece


class _Writer:
    def __init__(self, file: BinaryIO, shared: _Failing) -> None:
        self._file, self._shared, self._size = file, shared, 0
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self._size += len(data)
        if self._size >= CHUNK // 4:
            self.flush()
        return len(data)

    def flush(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces:
            self._shared.guard(lambda: self._file.write(b"".join(pieces)))


def _stream(work: Any, source: BinaryIO, sink: BinaryIO, keys: list[Any], step: Step, identity: str) -> None:
    shared = _Failing(step)
    writer = _Writer(sink, shared)
    library = _library()
    try:
        work(_Reader(source, shared), writer, keys)
        writer.flush()
    except (library.EncryptError, library.DecryptError, OSError) as error:
        if shared.error is not None:
            raise shared.error from None
        raise _closed(str(error), identity) from None
    shared.finish()


def _closed(said: str, identity: str) -> StoreError:
    if "No matching keys" in said:
        return StoreError(
            f"The identity file {identity} does not open this snapshot: it was encrypted to other recipients.",
            subject=identity,
            expected="the identity of one of its recipients (they stand in its sealed.json)",
            found="other keys",
            remedy="Name the right file with --identity. Nothing was touched.",
        )
    return StoreError(
        f"The encrypted file is not as it was written: {said}.",
        subject=identity,
        remedy="Do not use this copy; take the snapshot from another store.",
    )


def _library() -> Any:
    try:
        import pyrage
    except ImportError as error:
        raise PlanFileError(
            "The library for encryption is not installed.",
            subject="snapshot.encrypt_to",
            found=str(error),
            remedy="Install `safepoint[age]`.",
        ) from None
    return pyrage


def _recipient(word: str) -> Any:
    library = _library()
    try:
        kind = library.ssh if word.startswith("ssh-") else library.x25519
        return kind.Recipient.from_str(word)
    except library.RecipientError as error:
        raise PlanFileError(
            f"{word!r} is nobody to encrypt to.",
            subject="snapshot.encrypt_to",
            expected="an age recipient (age1...), as `age-keygen` prints it, or an SSH public key (ssh-ed25519 ...)",
            found=str(error),
            remedy="Correct it in [snapshot] encrypt_to; the secret identity (AGE-SECRET-KEY-...) never belongs there.",
        ) from None


def _identities(path: Path) -> list[Any]:
    library = _library()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _no_identity(path, error.strerror or str(error)) from None
    try:
        if b"PRIVATE KEY-----" in data:
            return [library.ssh.Identity.from_buffer(data)]
        words = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
        keys = [library.x25519.Identity.from_str(word) for word in words if word and not word.startswith("#")]
    except library.IdentityError:
        raise _no_identity(path, "something else") from None  # what it says might show a part of the key
    if not keys:
        raise _no_identity(path, "no identity in it")
    return keys


def _no_identity(path: Path, found: str) -> PlanFileError:
    return PlanFileError(
        f"The identity file {path} cannot be used.",
        subject=str(path),
        expected="a file of `age-keygen` (AGE-SECRET-KEY-1...), or an SSH private key without a passphrase",
        found=found,
        remedy="Name the right file with --identity.",
    )
