"""A model that goes to another app keeps its table: what names it by its content type is of the old model as well."""

from __future__ import annotations

from pathlib import Path

import migrated_ground
import pytest
from migrated_ground import CODE, ITEM, migrated
from test_mapping_states import doubts

from safepoint.postgres.target import Target

NOTE = """CreateModel("Note", [ident, ("kind", to("contenttypes.ContentType")), ("at", IntegerField())])"""
FIRST = {"shop.0001_first": (f"{ITEM}, {NOTE}", "contenttypes.0002_remove_content_type_name")}
MOVE = {
    "billing.0001_item": (
        f"""Apart([], [CreateModel("Item", [ident, ("code", {CODE})], options={{"db_table": "shop_item"}})])""",
        "shop.0001_first",
    ),
    "shop.0002_gone": ("""Apart([], [DeleteModel("Item")])""", "billing.0001_item"),
}
# As Django does it after each migration, or as a careful migration does it itself.
OWN = "insert into django_content_type (app_label, model) values ('billing', 'item')"
RENAMED = "update django_content_type set app_label = 'billing' where model = 'item'"
ROWS = [
    "insert into django_content_type (app_label, model) values ('shop', 'item')",
    "insert into shop_note (kind_id, at) select id, 1 from django_content_type where model = 'item'",
]


@pytest.mark.parametrize("types", [OWN, RENAMED], ids=["another", "renamed"])
def test_what_names_a_model_that_went_to_another_app_is_carried(
    database: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, types: str
) -> None:
    settings = migrated_ground.SETTINGS.replace('["shop"', '["django.contrib.contenttypes", "shop"')
    monkeypatch.setattr(migrated_ground, "SETTINGS", settings)
    following = {**MOVE, "shop.0003_types": (f"SQL({types!r})", "")}
    with migrated(database, tmp_path, FIRST, following, ROWS) as site:
        assert doubts(site) == () and site.mapping().models == {"billing.item": "shop.item"}
        billing = "select id, 2 from django_content_type where app_label = 'billing' and model = 'item'"
        site.write(f"insert into shop_note (kind_id, at) {billing}")
        assert site.carry().put_aside == 0
        named = "select n.at, t.app_label from shop_note n join django_content_type t on t.id = n.kind_id order by 1"
        assert site.old(named) == [(1, "shop"), (2, "shop")]


def test_a_model_that_is_renamed_where_it_went_is_followed(database: Target, tmp_path: Path) -> None:
    following = {**MOVE, "billing.0002_name": ("""RenameModel("Item", "Ware")""", "shop.0002_gone")}
    with migrated(database, tmp_path, {"shop.0001_first": (ITEM, "")}, following) as site:
        assert site.mapping().models == {"billing.ware": "shop.item"}
