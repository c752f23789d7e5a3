"""The way back over operations whose database side and state side are not one: each launched by Django, and carried."""

from __future__ import annotations

from pathlib import Path

import pytest
from migrated_ground import CODE, ITEM, migrated
from replay_ground import Ground

from safepoint.postgres.target import Target
from safepoint.wayback.trial.roundtrip import doubtful, round_trip

ROWS = "insert into shop_item (code) select 'c' || n from generate_series(1, 4) n"
FIRST = {"shop.0001_first": (ITEM, "")}
BOOKS = """CreateModel("Book", [ident, ("code", CharField(max_length=20)), ("items", ManyToManyField("shop.Item"))])"""
LINK = """CreateModel("Link", [ident, ("book", to("shop.Book")), ("item", to("shop.Item"))], options={options})"""
THROUGH = """AlterField("book", "items", ManyToManyField("shop.Item", through="shop.Link"))"""


def doubts(site: Ground) -> tuple[str, ...]:
    """Why nothing may be carried, the round trip's reasons among them."""
    mapping = site.mapping()
    return doubtful(mapping, round_trip(site.twin, site.live, mapping))


RENAMES = {
    "sql, and the field's rename in the state": """
        Apart([SQL("alter table shop_item rename code to sku")], [RenameField("item", "code", "sku")])""",
    "the field's rename on both sides": """
        Apart([RenameField("item", "code", "sku")], [RenameField("item", "code", "sku")])""",
    "the field's rename and a statement on the database's side": """
        Apart([RenameField("item", "code", "sku"), SQL("select 1")], [RenameField("item", "code", "sku")])""",
    "two renames on both sides": """
        Apart([RenameField("item", "code", "x"), RenameField("item", "x", "sku")],
              [RenameField("item", "code", "sku")])""",
    "sql with the rename as its state": """
        SQL("alter table shop_item rename code to sku", state_operations=[RenameField("item", "code", "sku")])""",
    "sql with another column's name as its state, and nothing after it": f"""
        SQL("alter table shop_item rename code to sku",
            state_operations=[AlterField("item", "code", {CODE[:-1]}, db_column="sku"))])""",
}


@pytest.mark.parametrize("operation", RENAMES.values(), ids=RENAMES)
def test_what_is_written_to_a_column_that_was_renamed_in_two_parts_comes_back(
    database: Target, tmp_path: Path, operation: str
) -> None:
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (operation, "")}, [ROWS]) as site:
        assert doubts(site) == ()
        site.write("update shop_item set sku = 'edited' where id = 2", "insert into shop_item (sku) values ('new')")
        site.carry()
        assert site.old("select id, code from shop_item order by id") == [
            (1, "c1"), (2, "edited"), (3, "c3"), (4, "c4"), (5, "new"),
        ]  # fmt: skip


def test_a_model_that_moves_to_another_app_by_its_state_alone_is_carried(database: Target, tmp_path: Path) -> None:
    made = f"""Apart([], [CreateModel("Item", [ident, ("code", {CODE})], options={{"db_table": "shop_item"}})])"""
    following = {
        "billing.0001_item": (made, "shop.0001_first"),
        "shop.0002_next": ("""Apart([], [DeleteModel("Item")])""", "billing.0001_item"),
    }
    with migrated(database, tmp_path, FIRST, following, [ROWS]) as site:
        mapping = site.mapping()
        assert "public.shop_item" not in mapping.kept and "public.shop_item" not in mapping.stash
        assert doubts(site) == ()
        site.write("update shop_item set code = 'edited' where id = 2")
        site.carry()
        assert site.old("select code from shop_item where id = 2") == [("edited",)]


def test_a_model_that_moves_with_its_table_is_followed(database: Target, tmp_path: Path) -> None:
    following = {
        "shop.0002_table": ("""Apart([AlterModelTable("item", "billing_item")], [])""", ""),
        "billing.0001_item": (f"""Apart([], [CreateModel("Item", [ident, ("code", {CODE})])])""", "shop.0002_table"),
        "shop.0003_gone": ("""Apart([], [DeleteModel("Item")])""", "billing.0001_item"),
        "billing.0002_name": ("""RenameField("item", "code", "sku")""", "shop.0003_gone"),
    }
    with migrated(database, tmp_path, FIRST, following, [ROWS]) as site:
        assert doubts(site) == ()
        site.write("update billing_item set sku = 'edited' where id = 2")
        site.carry()
        assert site.old("select code from shop_item where id = 2") == [("edited",)]


def test_a_table_that_became_a_models_own_by_name_alone_is_carried(database: Target, tmp_path: Path) -> None:
    link = LINK.format(options={"db_table": "shop_book_items"})
    following = {"shop.0002_next": (f"Apart([], [{link}, {THROUGH}])", "")}
    rows = [
        ROWS,
        "insert into shop_book (code) values ('b')",
        "insert into shop_book_items (book_id, item_id) values (1, 2)",
    ]
    with migrated(database, tmp_path, {"shop.0001_first": (f"{ITEM}, {BOOKS}", "")}, following, rows) as site:
        assert doubts(site) == () and "public.shop_book_items" not in site.mapping().stash
        site.write("insert into shop_book_items (book_id, item_id) values (1, 3)")
        site.carry()
        assert site.old("select book_id, item_id from shop_book_items order by id") == [(1, 2), (1, 3)]


RENAMED_SQL = [
    "alter table shop_book_items rename to shop_link",
    'ALTER TABLE IF EXISTS ONLY "public" . "shop_book_items"  -- the former name\\n RENAME TO "shop_link"; select 1',
]


@pytest.mark.parametrize("statement", RENAMED_SQL)
def test_a_table_that_sql_renamed_into_a_new_models_is_followed(
    database: Target, tmp_path: Path, statement: str
) -> None:
    link, more = LINK.format(options={}), """AddField("link", "note", CharField(max_length=9, default=""))"""
    operation = f"""Apart([SQL('''{statement}''')], [{link}, {THROUGH}]), {more}"""
    first = {"shop.0001_first": (f"{ITEM}, {BOOKS}", "")}
    rows = [
        ROWS,
        "insert into shop_book (code) values ('b')",
        "insert into shop_book_items (book_id, item_id) values (1, 2)",
    ]
    with migrated(database, tmp_path, first, {"shop.0002_next": (operation, "")}, rows) as site:
        assert doubts(site) == () and not {"public.shop_link", "public.shop_book_items"} & set(site.mapping().stash)
        site.write(
            "insert into shop_link (book_id, item_id, note) values (1, 3, 'n')", "delete from shop_link where id = 1"
        )
        site.carry()
        assert site.old("select book_id, item_id from shop_book_items order by id") == [(1, 3)]


def test_a_table_that_sql_renamed_and_made_anew_is_the_one_of_that_name(database: Target, tmp_path: Path) -> None:
    rebuilt = """SQL("alter table shop_item rename to shop_former"),
        SQL("create table shop_item (like shop_former including all)"),
        SQL("insert into shop_item table shop_former")"""
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (rebuilt, "")}, [ROWS]) as site:
        assert doubts(site) == () and site.mapping().tables[0].new == "public.shop_item"


@pytest.mark.parametrize(
    "inner",
    [
        """[RenameModel("Item", "Product")]""",
        """[SQL("alter table shop_item rename to shop_product"),
            SQL("alter table shop_book_items rename to shop_book_goods"),
            SQL("alter table shop_book_goods rename to shop_book_items"),
            SQL("alter table shop_book_items rename item_id to product_id")]""",
    ],
    ids=["on both sides", "by sql"],
)
def test_a_model_that_is_renamed_in_two_parts_is_followed(database: Target, tmp_path: Path, inner: str) -> None:
    operation = f"""Apart({inner}, [RenameModel("Item", "Product")])"""
    first = {"shop.0001_first": (f"{ITEM}, {BOOKS}", "")}
    rows = [
        ROWS,
        "insert into shop_book (code) values ('b')",
        "insert into shop_book_items (book_id, item_id) values (1, 2)",
    ]
    with migrated(database, tmp_path, first, {"shop.0002_next": (operation, "")}, rows) as site:
        assert doubts(site) == () and site.mapping().models["shop.product"] == "shop.item"
        site.write("update shop_product set code = 'edited' where id = 2")
        site.write("insert into shop_book_items (book_id, product_id) values (1, 3)")
        site.carry()
        assert site.old("select code from shop_item where id = 2") == [("edited",)]
        assert site.old("select item_id from shop_book_items order by id") == [(2,), (3,)]


def test_a_field_that_leaves_the_state_alone_is_the_same_column(database: Target, tmp_path: Path) -> None:
    ours = """Apart([], [RemoveField("item", "code")]), SQL("alter table shop_item alter code set default 'none'")"""
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (ours, "")}, [ROWS]) as site:
        (rule,) = [one for one in site.mapping().tables if one.old == "public.shop_item"]
        assert [one.kind for one in rule.columns] == ["same", "same"] and rule.stash == ()
        assert doubts(site) == ()


def test_a_field_that_adopts_a_column_is_no_problem(database: Target, tmp_path: Path) -> None:
    rows = ["alter table shop_item add note text default 'n'", ROWS]
    ours = """Apart([], [AddField("item", "note", TextField(null=True))]), RenameField("item", "note", "remark")"""
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (ours, "")}, rows) as site:
        assert doubts(site) == ()
        site.write("update shop_item set remark = 'edited' where id = 2")
        site.carry()
        assert site.old("select note from shop_item order by id limit 2") == [("n",), ("edited",)]


LOST = {
    "sql, and the field's removal in the state": """
        Apart([SQL("alter table shop_item drop code")], [RemoveField("item", "code")])""",
    "sql with the removal as its state": """
        SQL("alter table shop_item drop code", state_operations=[RemoveField("item", "code")])""",
    "a data migration and the removal in one": """
        Apart([AddField("item", "sku", TextField(null=True)), SQL("update shop_item set sku = code"),
               RemoveField("item", "code")],
              [AddField("item", "sku", TextField(null=True)), RemoveField("item", "code")])""",
    "two columns that are both there, one of them the state's": """
        Apart([SQL("alter table shop_item add sku text"), SQL("update shop_item set sku = code")],
              [RenameField("item", "code", "sku")])""",
    "two columns that are both there, and the state renamed by itself": """
        SQL("alter table shop_item add sku text"), SQL("update shop_item set sku = code"),
        Apart([], [RenameField("item", "code", "sku")])""",
    "a column that sql gives another name, and the state hears nothing": """
        SQL("alter table shop_item rename code to sku")""",
}


@pytest.mark.parametrize("operation", LOST.values(), ids=LOST)
def test_a_column_that_nobody_can_follow_needs_a_mapper(database: Target, tmp_path: Path, operation: str) -> None:
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (operation, "")}, [ROWS]) as site:
        (problem,) = site.mapping().problems
        assert problem.startswith("shop_item.code needs a mapper: ")


def test_a_table_that_sql_dropped_is_a_problem_until_the_plan_names_it(database: Target, tmp_path: Path) -> None:
    ours = """Apart([SQL("drop table shop_item")], [DeleteModel("Item")])"""
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (ours, "")}, [ROWS]) as site:
        (problem,) = site.mapping().problems
        assert problem.startswith("shop_item stays as it was")


def test_a_table_that_sql_copied_before_the_state_went_over_to_the_copy_is_a_problem(
    database: Target, tmp_path: Path
) -> None:
    ours = """SQL("create table goods (like shop_item including all)"), SQL("insert into goods table shop_item"),
              Apart([], [AlterModelTable("item", "goods")])"""
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (ours, "")}, [ROWS]) as site:
        (problem,) = site.mapping().problems
        assert problem.startswith("shop_item: ") and "public.shop_item and public.goods are both there" in problem


def test_a_field_that_goes_over_to_a_column_that_was_there_before_leaves_both_as_they_are(
    database: Target, tmp_path: Path
) -> None:
    rows = ["alter table shop_item add sku text default 's'", ROWS]
    ours = """Apart([], [RenameField("item", "code", "sku")])"""
    with migrated(database, tmp_path, FIRST, {"shop.0002_next": (ours, "")}, rows) as site:
        assert doubts(site) == ()
        site.write("update shop_item set sku = 'edited' where id = 2")
        site.carry()
        assert site.old("select code, sku from shop_item where id = 2") == [("c2", "edited")]
