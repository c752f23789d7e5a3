"""Which table and column an old one became, where names alone tell it wrongly: launched by Django, and carried."""

from __future__ import annotations

from pathlib import Path

import pytest
from migrated_ground import CODE, ITEM, migrated
from replay_ground import Ground

from safepoint.postgres.target import Target
from safepoint.wayback.trial.roundtrip import doubtful, round_trip

ROWS = "insert into shop_item (code) select 'c' || n from generate_series(1, 4) n"
FIRST = {"shop.0001_first": (ITEM, "")}


def doubts(site: Ground) -> tuple[str, ...]:
    """Why nothing may be carried, the round trip's reasons among them."""
    mapping = site.mapping()
    return doubtful(mapping, round_trip(site.twin, site.live, mapping))


def test_a_renamed_column_is_carried_where_its_former_name_came_and_went(database: Target, tmp_path: Path) -> None:
    ours = f"""RenameField("item", "code", "sku"), AddField("item", "code", {CODE}), RemoveField("item", "code")"""
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (ours, "")}, [ROWS]) as site:
        assert doubts(site) == ()
        site.write("update shop_item set sku = 'edited' where id = 2")
        site.carry()
        assert site.old("select code from shop_item where id = 2") == [("edited",)]


def test_a_renamed_table_is_carried_where_its_former_name_came_and_went(database: Target, tmp_path: Path) -> None:
    ours = f"""RenameModel("Item", "Product"), {ITEM}, DeleteModel("Item")"""
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (ours, "")}, [ROWS]) as site:
        assert doubts(site) == ()
        site.write("update shop_product set code = 'edited' where id = 2")
        site.carry()
        assert site.old("select code from shop_item where id = 2") == [("edited",)]


def test_a_table_of_the_same_name_in_another_schema_keeps_its_own_rows(database: Target, tmp_path: Path) -> None:
    rows = [
        ROWS,
        "create schema staging",
        "create table staging.shop_item (like public.shop_item including all)",
        "insert into staging.shop_item select * from public.shop_item",
    ]
    with migrated(
        database, tmp_path, FIRST, {"shop.0002_next": ("""RenameModel("Item", "Product")""", "")}, rows
    ) as site:
        assert {rule.old: rule.new for rule in site.mapping().tables} == {
            "public.shop_item": "public.shop_product",
            "staging.shop_item": "staging.shop_item",
        }
        assert doubts(site) == ()
        site.write("update shop_product set code = 'live' where id = 2")
        site.write("update staging.shop_item set code = 'copied' where id = 3")
        site.carry()
        assert site.old("select code from public.shop_item order by id") == [("c1",), ("live",), ("c3",), ("c4",)]
        assert site.old("select code from staging.shop_item order by id") == [("c1",), ("c2",), ("copied",), ("c4",)]


def test_a_model_that_django_no_longer_manages_is_carried(database: Target, tmp_path: Path) -> None:
    ours = """AlterModelOptions("item", {"managed": False}), AddField("note", "text", TextField(null=True)),
              AlterModelOptions("note", {"managed": False}), AlterModelOptions("free", {"managed": True}),
              AddField("free", "text", TextField(null=True))"""
    first = f"""{ITEM}, CreateModel("Note", [ident]),
                CreateModel("Free", [ident], options={{"managed": False, "db_table": "free"}})"""
    rows = [ROWS, "create table free (id serial primary key)"]
    following = {"shop.0002_next": (ours, "")}
    # The table that Django shall manage from now on was made by somebody else.
    first_of_all = {"shop.0001_first": (first, "")}
    with migrated(database, tmp_path, first_of_all, following, rows) as site:
        assert doubts(site) == () and site.mapping().kept.keys() == {"public.django_migrations"}
        site.write("update shop_item set code = 'edited' where id = 2", "insert into free (text) values ('x')")
        site.carry()
        assert site.old("select code from shop_item where id = 2") == [("edited",)]
        assert site.old("select id from free") == [(1,)]


COPIES = """RunPython(lambda apps, editor: [apps.get_model("billing", "Bill").objects.create(code=one.code)
                                           for one in apps.get_model("shop", "Item").objects.all()])"""
BILL = f"""CreateModel("Bill", [ident, ("code", {CODE})])"""
GONE = """RemoveField("item", "code")"""


@pytest.mark.parametrize(
    "needs", ["billing.0001_bill", ""], ids=["which the removal depends on", "which depends on the model"]
)
def test_a_column_that_is_removed_after_another_apps_data_migration_needs_a_mapper(
    database: Target, tmp_path: Path, needs: str
) -> None:
    following = {
        "billing.0001_bill": (f"{BILL}, {COPIES}", "shop.0001_first"),
        "shop.0002_next": (GONE, needs),
    }
    with migrated(database, tmp_path, FIRST, following, [ROWS]) as site:
        (problem,) = site.mapping().problems
        assert problem.startswith("shop_item.code needs a mapper: ") and "billing.0001_bill: Raw Python" in problem


def test_a_column_that_is_removed_after_an_unrelated_apps_data_migration_is_restored(
    database: Target, tmp_path: Path
) -> None:
    following = {
        "news.0001_news": ("""CreateModel("News", [ident]), RunPython(lambda *_: None)""", ""),
        "shop.0002_next": (GONE, ""),
    }
    with migrated(database, tmp_path, FIRST, following, [ROWS]) as site:
        assert [one.opaque for one in site.operations.operations] == [False, True, False]
        assert doubts(site) == ()


PEOPLE = f"""CreateModel("User", [ident, ("name", {CODE})]), CreateModel("Profile", [ident, ("name", {CODE})]),
             CreateModel("Item", [ident, ("owner", to("shop.User", null=True)),
                                  ("friends", ManyToManyField("shop.User", related_name="+")),
                                  ("loose", to("shop.User", null=True, db_constraint=False, related_name="+"))])"""
# A child: Django does not rename the parent of one.
MEMBER = """CreateModel("Member", [("user_ptr", models.OneToOneField("shop.User", models.CASCADE, parent_link=True,
                                    primary_key=True))], bases=("shop.user",))"""
OWNED = [
    "insert into shop_user (name) values ('u1'), ('u2')",
    "insert into shop_profile (name) values ('p1'), ('p2')",
    "insert into shop_item (owner_id, loose_id) values (1, 2)",
]


@pytest.mark.parametrize(
    ("operation", "column"),
    [
        ("""AlterField("item", "owner", to("shop.Profile", null=True))""", "owner_id"),
        ("""RenameField("item", "owner", "by"), AlterField("item", "by", to("shop.Profile", null=True))""", "owner_id"),
        ("""AlterField("item", "owner", to("shop.Profile", null=True, db_constraint=False))""", "owner_id"),
        ("""AlterField("item", "loose", to("shop.Profile", null=True, related_name="+"))""", "loose_id"),
        ("""AlterField("item", "friends", ManyToManyField("shop.Profile", related_name="+"))""", "friends"),
        (
            """AlterField("item", "loose", to("shop.Profile", null=True, db_constraint=False, related_name="+"))""",
            "loose_id",
        ),
    ],
)
def test_a_foreign_key_that_leads_elsewhere_needs_a_mapper(
    database: Target, tmp_path: Path, operation: str, column: str
) -> None:
    following = {"shop.0002_next": (operation, "")}
    with migrated(database, tmp_path, {"shop.0001_first": (PEOPLE, "")}, following, OWNED) as site:
        table, column = ("shop_item_friends", "user_id") if column == "friends" else ("shop_item", column)
        (problem,) = site.mapping().problems
        assert problem.startswith(f"{table}.{column} needs a mapper: ") and "shop_profile" in problem
        site.mappers = {table: {column: "NULL::int"}}
        assert site.mapping().problems == ()


@pytest.mark.parametrize(
    "operation",
    [
        """RenameModel("User", "Person"), RenameField("item", "owner", "by")""",
        """AlterField("item", "owner", to("shop.Member", null=True))""",
        """AlterField("item", "owner", to("shop.User", null=True, db_constraint=False))""",
        """AlterField("item", "loose", to("shop.User", null=True, related_name="+"))""",
        """AlterField("item", "owner", models.IntegerField(null=True))""",
        """AlterField("item", "friends", ManyToManyField("shop.User", blank=True))""",
    ],
)
def test_a_foreign_key_that_leads_to_the_same_rows_is_taken_as_it_is(
    database: Target, tmp_path: Path, operation: str
) -> None:
    following = {"shop.0002_next": (operation, "")}
    child = "Member" in operation
    first = {"shop.0001_first": (f"{PEOPLE}, {MEMBER}" if child else PEOPLE, "")}
    rows = [*OWNED, *["insert into shop_member (user_ptr_id) values (1)"] * child]
    with migrated(database, tmp_path, first, following, rows) as site:
        assert doubts(site) == ()


def test_a_foreign_key_that_leads_to_another_column_of_the_same_table_is_told_so(
    database: Target, tmp_path: Path
) -> None:
    words = "CharField(max_length=9, unique=True)"
    first = f"""CreateModel("Item", [ident, ("code", {words}), ("alias", {words})]),
                CreateModel("Line", [ident, ("item", to("shop.Item", to_field="code"))])"""
    ours = """AlterField("line", "item", to("shop.Item", to_field="alias"))"""
    with migrated(database, tmp_path, {"shop.0001_first": (first, "")}, {"shop.0002_next": (ours, "")}) as site:
        (problem,) = site.mapping().problems
        assert problem.startswith("shop_line.item_id needs a mapper: ")
        assert problem.endswith("its values named rows of shop_item, and name them by another column now.")
