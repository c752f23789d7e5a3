"""An S3 store whose policy denies deletion answers a deletion with 200, and says within which files it left."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty_s3 import faulty_s3
from s3_server import Address
from store_places import SNAPSHOT, make_snapshot, s3_store

from safepoint.errors import StoreError

DENIED = (
    200,
    b'<?xml version="1.0"?><DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error>'
    b"<Key>some/key</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>",
)


def denied(method: str, path: str) -> tuple[int, bytes] | None:
    """What the store answers, of requests that delete several files at once."""
    return DENIED if method == "POST" and "?delete" in path else None


@pytest.mark.usefixtures("s3_credentials")
def test_what_the_store_does_not_delete_is_no_removed_snapshot(s3: Address, tmp_path: Path) -> None:
    with faulty_s3(s3.port, denied) as door:
        store = s3_store(s3, tmp_path.name, port=door.port).open()
        store.upload(make_snapshot(tmp_path / "one", big=1000), SNAPSHOT)
        with pytest.raises(StoreError, match="failed to remove") as raised:
            store.remove(SNAPSHOT)
        assert door.faults > 0 and store.ids() == [SNAPSHOT]
        assert not store.keeps_versions()
    assert "still there" in (raised.value.found or "")
    assert "delete" in (raised.value.remedy or "")
