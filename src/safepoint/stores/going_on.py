"""Big files, sent so that an upload that broke off goes on where it was, in this process or in a later one.

S3: in parts. Those that arrived are listed by the store, and each is compared with the local piece by its MD5 (its
ETag, unless the store encrypts in a way of its own); where one differs, all begins anew. Nothing is seen of the file
before all are put together. Elsewhere: into a file of another name, which is compared, appended to, and renamed.

Encrypted files are no such, for they come out different each time: see `piecewise`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from safepoint.stores.faults import Unreachable, explained
from safepoint.stores.folders import UNFINISHED, make_private, settle

BIG: Final = 8 * 1024 * 1024
"""Files up to this size, in bytes, are sent at once, and bigger ones in parts of at least this size."""
_MOST_PARTS: Final = 9000  # S3 allows 10,000 parts for one object
_SNAPSHOT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-\d{8}T\d{6}Z/")
_PIECE: Final = 256 * 1024
_GOOD_FOR: Final = timedelta(days=1)
"""An upload that was begun longer ago is begun anew: the time for which it is locked counts from its beginning."""

Step = Callable[[int], None]


def broke(error: BaseException) -> bool:
    """Whether the link or the store failed, so that what was sent is worth keeping; an order or a refusal is none."""
    return isinstance(error, Exception) and isinstance(explained(error, "write", "a file", "the store"), Unreachable)


def in_parts(fs: Any, path: str, local: Path, step: Step, words: dict[str, Any]) -> tuple[int, str]:
    """Send a file to S3; its size and its SHA-256.

    Args:
        words: what is said of the object when it is begun.
    """
    try:
        return _in_parts(fs, path, local, step, words)
    except _AnotherFile:  # it was given up; not every store lets a part be replaced
        return _in_parts(fs, path, local, step, words)


class _AnotherFile(Exception):
    """A part that arrived is not as it is here."""


def _in_parts(fs: Any, path: str, local: Path, step: Step, words: dict[str, Any]) -> tuple[int, str]:
    bucket, key, _version = fs.split_path(path)
    place = {"Bucket": bucket, "Key": key}
    upload: str | None = None
    there: dict[int, tuple[str, int]] = {}
    marks, done, digest = dict[int, str](), 0, hashlib.sha256()
    try:
        for number, data in enumerate(_parts_of(local, step), start=1):
            digest.update(data)
            if upload is None:
                upload, there = _begun(fs, bucket, key)
            if upload is None:
                upload = str(begin(fs, path, words)["UploadId"])
            mark = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if there.get(number, (mark, len(data))) != (mark, len(data)):
                raise _AnotherFile
            if number not in there:
                answer = fs.call_s3("upload_part", **place, UploadId=upload, PartNumber=number, Body=data)
                mark = answer["ETag"]
            marks[number] = mark
            done += len(data)
        step(done)
        put_together(fs, {**place, "UploadId": upload}, marks)
    except BaseException as error:
        if upload is not None and not broke(error):
            with suppress(Exception):  # the failure that led here is the one to tell
                fs.call_s3("abort_multipart_upload", **place, UploadId=upload)
        raise
    return done, digest.hexdigest()


def begin(fs: Any, path: str, words: dict[str, Any]) -> dict[str, Any]:
    """Begin an upload to S3: the words that name it in each call."""
    bucket, key, _version = fs.split_path(path)
    place = {"Bucket": bucket, "Key": key}
    return {**place, "UploadId": fs.call_s3("create_multipart_upload", **place, **words)["UploadId"]}


def put_together(fs: Any, upload: dict[str, Any], marks: dict[int, str]) -> None:
    """Complete an upload to S3 of parts with these ETags, in quotes or not."""
    parts = [{"PartNumber": number, "ETag": f'"{mark.strip(chr(34))}"'} for number, mark in sorted(marks.items())]
    fs.call_s3("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})


def parts_of(fs: Any, upload: dict[str, Any]) -> dict[int, tuple[str, int]]:
    """The parts of an upload that S3 has: MD5 (or another ETag) and size by number."""
    return dict(_parts(fs, upload["Bucket"], upload["Key"], upload["UploadId"]))


def size_of_parts(size: int) -> int:
    """How big the parts of a file of that size are, in bytes."""
    return max(BIG, size // _MOST_PARTS)


def give_up(fs: Any, path: str, *, begun_before: datetime | None = None) -> int:
    """Give up the unfinished uploads to S3 below a path, and say how many there were.

    Args:
        begun_before: only these, of which no part came later either (others may be under way), and only of files of
            what is called as a snapshot is: somebody else may use the bucket as well.
    """
    bucket, prefix, _version = fs.split_path(path)
    below = f"{prefix}/" if prefix else ""
    found = [
        one
        for one in _uploads(fs, bucket, below)
        if begun_before is None
        or (
            one["Initiated"] < begun_before
            and _SNAPSHOT.match(one["Key"][len(below) :])
            and _written(fs, bucket, one) < begun_before
        )
    ]
    for one in found:
        with suppress(FileNotFoundError):
            fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=one["Key"], UploadId=one["UploadId"])
    return len(found)


def written_below(fs: Any, path: str) -> list[datetime]:
    """When something of the unfinished uploads to S3 below a folder came last; none where the store lists none."""
    bucket, prefix, _version = fs.split_path(path)
    try:
        return [_written(fs, bucket, one) for one in _uploads(fs, bucket, f"{prefix}/")]
    except Exception as error:  # each file system has exceptions of its own
        if broke(error):
            raise
        return []


def _written(fs: Any, bucket: str, upload: dict[str, Any]) -> datetime:
    """When the last part of an upload came; where there is none, or the store does not tell, when it was begun."""
    begun: datetime = upload["Initiated"]
    try:
        parts = list(_listed(fs, bucket, upload["Key"], upload["UploadId"]))
    except Exception as error:  # it may have been put together meanwhile
        if broke(error):
            raise
        return begun
    times: list[datetime] = [part["LastModified"] for part in parts if "LastModified" in part]
    return max([begun, *times])


def by_appending(
    fs: Any, path: str, local: Path, step: Step, reading: Callable[[Any, str], Any], writing: Callable[[Any], Any]
) -> tuple[int, str]:
    """Send a file to a place with folders; its size and its SHA-256.

    Args:
        reading: opens a file of the store, as a context manager.
        writing: makes an opened file ready to be written to.
    """
    part = f"{path}{UNFINISHED}"
    make_private(fs, part)
    start = _equal_bytes(fs, part, local, step, reading)
    digest, done, file = hashlib.sha256(), 0, None
    try:
        file = writing(fs.open(part, "ab" if start else "wb"))
        for data in _pieces(local, _PIECE):
            digest.update(data)
            done += len(data)
            if done > start:
                file.write(data[max(0, start - (done - len(data))) :])
                step(done)
        file.close()
    except BaseException as error:
        end(fs, file, None if broke(error) else part)
        raise
    settle(fs, path)
    return done, digest.hexdigest()


def end(fs: Any, file: Any, remove: str | None) -> None:
    """Close a file that could not be written, and remove one.

    Best effort: the failure that led here is the one to tell, and what has another name is not seen.
    """
    with suppress(Exception):
        if file is not None:
            file.close()
    if remove is not None:
        with suppress(Exception):
            fs.rm(remove)
    if hasattr(file, "set_pipelined"):
        file._closed = True  # else paramiko tries to close it again when it is collected, and complains to stderr


def _equal_bytes(fs: Any, part: str, local: Path, step: Step, reading: Callable[[Any, str], Any]) -> int:
    """How many bytes an earlier try left, all of them as they are here; 0 where one is another."""
    try:
        size = int(fs.info(part)["size"])
    except FileNotFoundError:
        return 0
    if not 0 < size <= local.stat().st_size:
        return 0
    done = 0
    with reading(fs, part) as there, local.open("rb") as here:
        while data := there.read(4 * _PIECE):
            if data != here.read(len(data)):
                return 0
            done += len(data)
            step(done)
    return done if done == size else 0


def _begun(fs: Any, bucket: str, key: str) -> tuple[str | None, dict[int, tuple[str, int]]]:
    """An upload of that very object that broke off, and its parts: MD5 and size by number."""
    try:
        since = datetime.now(UTC) - _GOOD_FOR
        uploads = [one for one in _uploads(fs, bucket, key) if one["Key"] == key and one["Initiated"] > since]
        if not uploads:
            return None, {}
        upload = max(uploads, key=lambda one: one["Initiated"])["UploadId"]
        return upload, dict(_parts(fs, bucket, key, upload))
    except Exception as error:  # a store may not list them, or not let us: then it begins anew
        if broke(error):
            raise
        return None, {}


def _uploads(fs: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    words: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    while True:
        answer = fs.call_s3("list_multipart_uploads", **words)
        yield from answer.get("Uploads") or ()
        if not answer.get("IsTruncated"):
            return
        words |= {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}


def _parts(fs: Any, bucket: str, key: str, upload: str) -> Iterator[tuple[int, tuple[str, int]]]:
    for part in _listed(fs, bucket, key, upload):
        yield int(part["PartNumber"]), (str(part["ETag"]).strip('"'), int(part["Size"]))


def _listed(fs: Any, bucket: str, key: str, upload: str) -> Iterator[dict[str, Any]]:
    words: dict[str, Any] = {"Bucket": bucket, "Key": key, "UploadId": upload}
    while True:
        answer = fs.call_s3("list_parts", **words)
        yield from answer.get("Parts") or ()
        if not answer.get("IsTruncated"):
            return
        words["PartNumberMarker"] = answer["NextPartNumberMarker"]


def _parts_of(local: Path, step: Step) -> Iterator[bytes]:
    """The file in parts, each read in small pieces: an order is heard before the next part is sent."""
    size = size_of_parts(local.stat().st_size)
    done, part = 0, bytearray()
    for piece in _pieces(local, _PIECE):
        part += piece
        done += len(piece)
        step(done)
        if len(part) >= size:
            yield bytes(part)
            part.clear()
    if part:
        yield bytes(part)


def _pieces(local: Path, size: int) -> Iterator[bytes]:
    with local.open("rb") as file:
        while data := file.read(size):
            yield data
