"""Files in places with real folders (here, and over SFTP): private, and seen under their names only when whole.

A file is written under another name, waited for until it is on the disk (where that is ours to ask), and renamed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

UNFINISHED: Final = ".safepoint-part"
"""How the names of files end that are not whole yet."""
_LOCAL: Final = {"file", "local"}
_REMOTE: Final = {"sftp", "ssh"}


def has_folders(fs: Any) -> bool:
    """Whether a file system of fsspec has folders that are made, and files that are renamed."""
    return bool(_protocols(fs) & (_LOCAL | _REMOTE))


def make_above(fs: Any, path: str) -> None:
    """Make the folders that a file needs; here only their owner may enter those that are made.

    Where the folder above is shared with its group by the setgid bit (`chmod 2750`), the group may read as well. What
    is there stays as it is.
    """
    if not _is_local(fs):
        fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        return
    missing, folder = [], Path(path).parent
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        with suppress(FileExistsError):  # another process was first
            one.mkdir(mode=0o750 if _is_shared(one.parent) else 0o700)
            _sync(one.parent)


def make_private(fs: Any, path: str) -> None:
    """Make a file that is to be written, so that here nobody but its owner (and such a group) may ever read it."""
    if _is_local(fs):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o640 if _is_shared(Path(path).parent) else 0o600))


def settle(fs: Any, path: str) -> None:
    """Give a file that is written whole, and closed, its name; what had that name is replaced."""
    part = f"{path}{UNFINISHED}"
    if not _is_local(fs):
        _rename(fs, part, path)
        return
    with Path(part).open("rb") as file:
        os.fsync(file.fileno())
    Path(part).replace(path)
    _sync(Path(path).parent)


@contextmanager
def settling(fs: Any, path: str) -> Iterator[str]:
    """Where to write a file that gets its name on leaving, unless by an exception; its folders are there then."""
    make_above(fs, path)
    part = f"{path}{UNFINISHED}"
    make_private(fs, part)
    yield part
    settle(fs, path)


def _rename(fs: Any, part: str, path: str) -> None:
    """Not every SFTP server knows how to replace a file in one (`posix-rename@openssh.com`)."""
    try:
        fs.mv(part, path)
    except OSError as error:
        if "unsupported" not in str(error).lower():
            raise
        with suppress(FileNotFoundError):
            fs.rm(path)
        fs.ftp.rename(part, path)


def _sync(folder: Path) -> None:
    """Wait until a folder's entries are on the disk, where its file system lets us."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems know it of files only
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_shared(folder: Path) -> bool:
    return bool(folder.stat().st_mode & stat.S_ISGID)


def _is_local(fs: Any) -> bool:
    return bool(_protocols(fs) & _LOCAL)


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
