"""What went wrong in a store, in words: from the many exceptions of file systems to one error with a remedy."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Any

from safepoint.errors import StoreError

_SECRETS = re.compile(r"://[^/?#\s]+@")

# The names of exceptions, as their modules must not be imported for this; the first that fits counts.
_LOGIN = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}
_REFUSED_LOGIN = {"AuthenticationException", "PasswordRequiredException", "BadAuthenticationType"}
_HOST_KEY = {"BadHostKeyException", "UnknownHostKey"}
_BROKEN = {
    "ConnectionError",
    "TimeoutError",
    "EOFError",
    "HTTPClientError",
    "EndpointConnectionError",
    "IncompleteRead",
    "ResponseParserError",
    "ClientError",
    "SSHException",
    "gaierror",
}
_BROKEN_NUMBERS = {errno.EBUSY, errno.EREMOTEIO, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT}
# What a gateway before the store says, and stores that count requests; s3fs has no exceptions for these.
_BUSY_ANSWERS = {408, 429, 500, 502, 503, 504}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_BROKEN_WORDS = re.compile("socket is closed|connection (dropped|lost|reset)|garbage packet", re.I)
_WRONG_KEY = re.compile("InvalidAccessKeyId|SignatureDoesNotMatch|signature|access key|ExpiredToken|expired", re.I)


class Unreachable(StoreError):
    """The store did not answer, or the connection broke: trying again may help."""


def explained(error: Exception, action: str, name: str, where: str) -> StoreError:
    """The `StoreError` for an exception of a file system, raised while it was to `action` the file `name`."""
    kind, remedy = _judged(error)
    if action == "read" and isinstance(error, OSError) and error.errno in _FULL:
        # Nothing is written there by reading: it is the copy here that has no room.
        remedy = "The disk here is full: make room where Safepoint keeps its state (launch.state), then retry."
    return kind(
        f"The store {where} failed to {action} {name}.",
        subject=f"{where.rstrip('/')}/{name}",
        found=_said(error),
        remedy=remedy,
    )


def without_login(text: str) -> str:
    """A text whose URLs show no user and no password."""
    return _SECRETS.sub("://", text)


def shown_url(url: str) -> str:
    """A store's URL as people may see it: without its login, and without a query, which may have keys in it. Pure."""
    return without_login(url).partition("?")[0]


def _judged(error: Exception) -> tuple[type[StoreError], str]:
    names = {kind.__name__ for kind in type(error).__mro__}
    if _code(error) == "RequestTimeTooSkewed":
        return StoreError, "This machine's clock is wrong (or the store's): set it right, then retry."
    if names & _LOGIN:
        return StoreError, "Give the store's credentials in the environment (for S3: AWS_ACCESS_KEY_ID and so on)."
    if names & _HOST_KEY:
        return StoreError, "Make sure that it is the right server, then add its key to ~/.ssh/known_hosts."
    if names & _REFUSED_LOGIN or (isinstance(error, PermissionError) and _WRONG_KEY.search(_said(error))):
        return StoreError, "The credentials are wrong or have expired: renew them in the environment, then retry."
    return _judged_by_number(error, names)


def _judged_by_number(error: Exception, names: set[str]) -> tuple[type[StoreError], str]:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, PermissionError):
        return StoreError, "Allow these credentials to list, read, write and delete there."
    if isinstance(error, FileNotFoundError):
        return StoreError, "Check the store's `url`: the bucket or folder must exist, and the snapshot be complete."
    if number in _FULL:
        return StoreError, "The store is full: make room there (`safepoint prune`), then retry."
    if number in {errno.ENOTDIR, errno.EEXIST}:
        return StoreError, "Something that is no folder stands in its place: correct the store's `url`, or move it."
    if _said(error) == "Failure":  # all that SFTP servers say of it (draft-ietf-secsh-filexfer-02 has no word for it)
        return StoreError, "The server does not say why. Is its disk full, or a quota used up? Make room, then retry."
    if number == errno.EROFS:
        return StoreError, "The store can only be read: choose another place, or mount it for writing."
    if (
        names & _BROKEN
        or number in _BROKEN_NUMBERS
        or _answer(error) in _BUSY_ANSWERS
        or _BROKEN_WORDS.search(_said(error))
    ):
        return Unreachable, "The store could not be reached: check the network and the store, then retry."
    return StoreError, "Check the store's `url` and `options` in the plan file."


def _response(error: Exception) -> Mapping[str, Any]:
    """What S3 answered, where that is behind an exception (botocore's ClientError, mostly as the cause)."""
    found = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return found if isinstance(found, Mapping) else {}


def _answer(error: Exception) -> Any:
    """The status of S3's answer; None where there was none."""
    return _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")


def _code(error: Exception) -> str:
    """S3's own word for what went wrong."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def _said(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return without_login(text)[:500]
