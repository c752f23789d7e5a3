"""S3 Object Lock: objects that nobody, not even we, can delete before a date.

Sources: Amazon's "Locking objects with Object Lock" and the API pages of GetObjectLockConfiguration, PutObject and
HeadObject. A server that knows nothing of it answers one of several errors, each of which means "no lock".
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from safepoint.errors import StoreError

Mode = Literal["auto", "none", "governance", "compliance"]


class Locking:
    """What an upload says so that its object is locked for the time of `keep`; nothing where there is no lock.

    The bucket is asked once.
    """

    def __init__(self, mode: Mode, keep: timedelta) -> None:
        self._mode = mode
        self._keep = keep
        self._asked: tuple[dict[str, Any] | None] | None = None

    def __call__(self, fs: Any, path: str) -> dict[str, Any]:
        """The words for one upload.

        Raises:
            StoreError: a mode is asked for by name, and the bucket has no Object Lock.
        """
        if self._mode == "none" or not hasattr(fs, "call_s3"):
            return {}
        if self._asked is None:
            self._asked = (_configuration(fs, path),)
        (configuration,) = self._asked
        if configuration is None and self._mode != "auto":
            raise StoreError(
                "The bucket has no Object Lock, so nothing in it can be locked.",
                subject=path.split("/")[0],
                expected=f"Object Lock, as the store's `lock = {self._mode!r}` wants it",
                remedy="Make a bucket with Object Lock, or set `lock` to 'none'.",
            )
        return words(configuration, self._mode, datetime.now(UTC) + self._keep)


def words(configuration: dict[str, Any] | None, mode: Mode, until: datetime) -> dict[str, Any]:
    """The arguments of PutObject and CreateMultipartUpload for a bucket's lock configuration. Pure."""
    if configuration is None or mode == "none":
        return {}
    if mode == "auto" and configuration.get("Rule", {}).get("DefaultRetention"):
        return {}  # the bucket's own rule applies by itself
    chosen = "COMPLIANCE" if mode == "compliance" else "GOVERNANCE"
    return {"ObjectLockMode": chosen, "ObjectLockRetainUntilDate": until}


def until(fs: Any, path: str) -> datetime | None:
    """Until when an object is locked; None where it is not, or the store knows no locks."""
    if not hasattr(fs, "call_s3") or _configuration(fs, path) is None:
        return None
    bucket, key, _version = fs.split_path(path)
    try:
        answer = fs.call_s3("head_object", Bucket=bucket, Key=key)
    except Exception as error:  # botocore's, or s3fs's translation of them
        if not _means_no_lock(error):
            raise
        return None
    found = answer.get("ObjectLockRetainUntilDate")
    return found if isinstance(found, datetime) else None


def keeps_versions(fs: Any, path: str) -> bool:
    """Whether a deletion only puts a marker before an object's versions ("How S3 Versioning works")."""
    if not hasattr(fs, "call_s3"):
        return False
    try:
        answer = fs.call_s3("get_bucket_versioning", Bucket=fs.split_path(path)[0])
    except Exception:  # the server knows nothing of it, or does not tell
        return False
    return bool(answer.get("Status") == "Enabled")


def _configuration(fs: Any, path: str) -> dict[str, Any] | None:
    bucket = fs.split_path(path)[0]
    try:
        answer = fs.call_s3("get_object_lock_configuration", Bucket=bucket)
    except Exception as error:  # botocore's, or s3fs's translation of them
        if not _means_no_lock(error):
            raise
        return None
    found = answer.get("ObjectLockConfiguration") or {}
    return dict(found) if found.get("ObjectLockEnabled") == "Enabled" else None


_SIGNS = ("ObjectLock", "Object Lock", "NotImplemented", "not implemented", "MethodNotAllowed", "InvalidRequest")


def _means_no_lock(error: Exception) -> bool:
    """Whether this is how a server says that it has no lock; anything else (a broken link) is not that."""
    if isinstance(error, ConnectionError | TimeoutError):
        return False
    if isinstance(error, FileNotFoundError | NotImplementedError):
        return True
    text = f"{type(error).__name__} {error}"
    return type(error).__name__ in {"ResponseParserError", "ClientError"} or any(sign in text for sign in _SIGNS)
