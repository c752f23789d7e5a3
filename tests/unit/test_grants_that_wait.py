"""Which lines of an archive wait for the rights to enter the schemas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safepoint.backup.manifest import read_manifest
from safepoint.backup.refreshing import waiting_last

FOURTH = read_manifest(Path(__file__).resolve().parents[1] / "data" / "shop-format-4").fingerprint
OTHERS = [
    "3362; 0 0 ACL - SCHEMA s postgres",
    "220; 1259 16400 TABLE s ACL postgres",
    "2000; 826 16401 DEFAULT ACL s DEFAULT PRIVILEGES FOR TABLES postgres",
]
GRANTS = ["3363; 0 0 ACL s TABLE t postgres", "3364; 0 0 ACL s FUNCTION f(integer) postgres"]


@pytest.mark.parametrize(
    ("found", "wait"),
    [
        (replace(FOURTH, format=5), False),
        (replace(FOURTH, format=5, ownership={"grants by others of table s.t": "b=select by a"}), True),
        (FOURTH, True),  # it does not say whether there are any
    ],
    ids=["none", "some", "fourth format"],
)
def test_grants_wait_where_others_than_owners_gave_some_or_may_have(found: object, wait: bool) -> None:
    lines = [*GRANTS, *OTHERS]
    assert waiting_last(lines, found) == ((OTHERS, GRANTS) if wait else (lines, []))  # type: ignore[arg-type]
