"""Where snapshots live: any fsspec URL. Start with `open_store`; the libraries behind it are imported only then."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safepoint.config import Store
from safepoint.errors import PlanFileError
from safepoint.stores.abandoned import Abandoned
from safepoint.stores.age import Opening, Seal
from safepoint.stores.faults import shown_url
from safepoint.stores.fsspec_files import FsspecFiles
from safepoint.stores.label import LabelOfOtherVersion, LabelUnreadable
from safepoint.stores.lock import Locking
from safepoint.stores.places import MANIFEST
from safepoint.stores.reading_back import GivenBackOtherwise
from safepoint.stores.retry import Retrying
from safepoint.stores.store import SnapshotStore
from safepoint.stores.transfer import Transfer

__all__ = [
    "MANIFEST",
    "Abandoned",
    "GivenBackOtherwise",
    "LabelOfOtherVersion",
    "LabelUnreadable",
    "SnapshotStore",
    "Transfer",
    "open_store",
    "shown_url",
]

_EXTRAS = {"s3": "s3", "s3a": "s3", "sftp": "sftp", "ssh": "sftp"}


def open_store(store: Store, folder: Path, *, identity: Path | None = None) -> SnapshotStore:
    """The store of a plan file. Nothing is connected before the first use.

    `file:` URLs and plain paths that are relative start at `folder`. An option whose name ends in `_env` is taken
    from the environment variable that it names (`password_env = "BACKUP_PASSWORD"`); S3's AWS_* are used as they are.

    Args:
        identity: the file of the age identity (or SSH key) that opens encrypted snapshots.

    Raises:
        PlanFileError: such a variable is not set, or a recipient or the identity cannot be used.
    """
    options = from_environment(store.options)
    path = local_path(store.url, folder)
    seal = Seal(store.encrypt_to) if store.encrypt_to else None
    opening = Opening(identity) if identity is not None else None
    if path is not None:
        files = FsspecFiles(lambda: (_filesystem("file", {}), str(path)), str(path))
        return SnapshotStore(store.name, files, path, seal=seal, opening=opening)
    remote = FsspecFiles(
        lambda: _connected(store.url, options),
        shown_url(store.url),
        Locking(store.lock, store.keep),
    )
    return SnapshotStore(store.name, Retrying(remote), seal=seal, opening=opening)


def local_path(url: str, folder: Path) -> Path | None:
    """The folder of a `file:` URL or a plain path, absolute; None for a URL of another kind."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme.lower() not in {"file", "local"}:
        return None
    path = rest.removeprefix("//") if colon else url
    return (folder / Path(path).expanduser()).resolve()


def from_environment(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with each `NAME_env` replaced by a `NAME` from the environment, in tables within them too."""
    given: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            given[name] = from_environment(value)
        elif name.endswith("_env") and isinstance(value, str):
            if value not in os.environ:
                raise PlanFileError(
                    f"The environment variable {value} (`{name}` in a store's options) is not set.",
                    subject=name,
                    remedy=f"Set {value} and try again.",
                )
            given[name.removesuffix("_env")] = os.environ[value]
        else:
            given[name] = value
    return given


def _connected(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system of a URL, and the path of the store in it."""
    from fsspec.core import split_protocol
    from fsspec.utils import infer_storage_options

    protocol = split_protocol(url)[0]
    if protocol in {"sftp", "ssh"}:
        parts = infer_storage_options(url)
        login = {name: parts[name] for name in ("host", "port", "username", "password") if name in parts}
        return _filesystem("sftp", {**login, **options}), parts["path"]
    if protocol in {"s3", "s3a"}:
        from safepoint.stores.s3 import patient, sending_at_once

        options = {**options, "config_kwargs": patient(options.get("config_kwargs", {}))}
        found = sending_at_once(_filesystem(protocol, options))
        found.retries = 1  # s3fs tries five times itself: with ours, a dead link would be told after half an hour
    else:
        found = _filesystem(protocol, options)
    return found, url.partition("://")[2]


def _filesystem(protocol: str, options: Mapping[str, Any]) -> Any:
    import fsspec

    try:
        if protocol == "sftp":
            from safepoint.stores.sftp import CheckedSftp

            return CheckedSftp(**options, skip_instance_cache=True)
        return fsspec.filesystem(protocol, **options, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        what = f"Install `safepoint[{extra}]`" if extra else "Install the fsspec implementation of it"
        raise PlanFileError(
            f"The library for {protocol}: stores is not installed.",
            subject=protocol,
            found=str(error),
            remedy=f"{what}.",
        ) from error
    except ValueError as error:
        raise PlanFileError(
            f"There is no kind of store {protocol!r}.",
            subject=protocol,
            found=str(error),
            remedy="Use a URL that fsspec knows: file:, s3:, sftp:, gs:, az: ...",
        ) from error
