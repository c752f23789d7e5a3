"""Which lines of an archive's table of contents a part of a snapshot needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safepoint.backup.manifest import Manifest, read_manifest
from safepoint.backup.prints import TablePrint
from safepoint.backup.selection import select, wanted_lines
from safepoint.errors import Refused

# As PostGIS has it: the table belongs to the extension, and so its owner is told nowhere in the fingerprint.
EXTENSIONS = ("public.spatial_ref_sys", 'public."two words"', "public.two")
MADE = """\
;     Format: CUSTOM
2; 3079 16390 EXTENSION - postgis
215; 1259 16400 TABLE public account shop_owner
"""
OF_ALL_ELSE = """\
3380; 6104 16500 PUBLICATION - told postgres
3381; 6106 16501 PUBLICATION TABLE public told account postgres
3382; 0 0 COMMENT - PUBLICATION told postgres
3383; 3466 16502 EVENT TRIGGER - watched postgres
3384; 0 0 COMMENT - EVENT TRIGGER watched postgres
3385; 0 0 SECURITY LABEL - PUBLICATION told postgres
3386; 0 0 COMMENT - SUBSCRIPTION there postgres
3387; 2613 16503 BLOB - 16503 postgres
3388; 0 0 ACL - LARGE OBJECT 16503 postgres
3389; 0 0 COMMENT - LARGE OBJECT 16503 postgres
3390; 0 0 ACL - LARGE OBJECTS 16503..16509 postgres
3391; 0 0 BLOBS - BLOBS postgres
"""
COMMENTS = """\
3392; 0 0 COMMENT - EXTENSION postgis
3393; 0 0 COMMENT public TABLE account shop_owner
3394; 0 0 ACL public TABLE account shop_owner
"""


@pytest.fixture
def manifest() -> Manifest:
    """Of a shop, with tables of an extension in it."""
    made = read_manifest(Path(__file__).resolve().parents[1] / "data" / "shop-format-2")
    tables = {**made.fingerprint.tables, **{name: TablePrint(1, "0" * 32) for name in EXTENSIONS}}
    return replace(made, fingerprint=replace(made.fingerprint, tables=tables))


def rows(*tables: str) -> str:
    return "".join(f"{number}; 0 164{number} TABLE DATA {table}\n" for number, table in enumerate(tables, 10))


def test_what_is_said_of_publications_event_triggers_and_large_objects_goes_with_them(manifest: Manifest) -> None:
    listing = MADE + rows("public account shop_owner") + OF_ALL_ELSE + COMMENTS
    before, after = wanted_lines(listing, manifest, select(manifest, ["account"]))
    wanted = MADE.splitlines()[1:] + rows("public account shop_owner").splitlines() + COMMENTS.splitlines()
    assert (before, after) == (wanted, [])


def test_the_rows_of_an_extension_s_table_come_whoever_owns_it(manifest: Manifest) -> None:
    found = ("public account shop_owner", "public spatial_ref_sys dba", "public two words dba", "public two dba")
    selection = select(manifest, ["public"])
    before, _ = wanted_lines(MADE + rows(*found), manifest, selection)
    assert before == MADE.splitlines()[1:] + rows(*found).splitlines()
    alone = select(manifest, ["spatial_ref_sys"])
    before, _ = wanted_lines(MADE + rows(*found), manifest, alone)
    assert [line for line in before if "TABLE DATA" in line] == ["11; 0 16411 TABLE DATA public spatial_ref_sys dba"]


def test_rows_that_are_not_in_the_archive_are_refused(manifest: Manifest) -> None:
    with pytest.raises(Refused, match="no rows"):
        wanted_lines(MADE + rows("public account shop_owner"), manifest, select(manifest, ["spatial_ref_sys"]))
