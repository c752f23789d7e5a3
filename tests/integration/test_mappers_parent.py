"""A row's columns that went to a parent (multi-table inheritance), launched by Django: read from there, and carried."""

from __future__ import annotations

from pathlib import Path

from migrated_ground import CODE, migrated
from replay_ground import whole

from safepoint.postgres.target import Target
from safepoint.wayback.trial.roundtrip import doubtful, round_trip

FIRST = f"""CreateModel("Book", [ident, ("title", {CODE}), ("pages", IntegerField(default=1))]),
            CreateModel("Note", [ident, ("book", to("shop.Book")), ("text", {CODE})])"""
# The way that Django's own documentation leaves to the project: a new parent, its rows, then the child's key.
PARENT = f"""CreateModel("Work", [ident, ("title", {CODE}), ("genre", {CODE})]),
RunPython(lambda apps, editor: [apps.get_model("shop", "Work").objects.create(id=one.id, title=one.title)
                                for one in apps.get_model("shop", "Book").objects.all()]),
RemoveField("book", "title"),
Apart(database_operations=[SQL("ALTER TABLE shop_book RENAME id TO work_ptr_id; ALTER TABLE shop_book ADD FOREIGN KEY "
                               "(work_ptr_id) REFERENCES shop_work DEFERRABLE INITIALLY DEFERRED; "
                               "ALTER TABLE shop_book ALTER work_ptr_id DROP IDENTITY IF EXISTS; "
                               "SELECT setval('shop_work_id_seq', 10)")],
      state_operations=[RenameField("book", "id", "work_ptr"),
                        AlterField("book", "work_ptr", models.OneToOneField("shop.Work", models.CASCADE,
                                   parent_link=True, primary_key=True, serialize=False, db_column="work_ptr_id"))])"""
ROWS = [
    "insert into shop_book (title, pages) select 't' || n, n from generate_series(1, 3) n",
    "insert into shop_note (book_id, text) select n, 'x' from generate_series(1, 3) n",
]
MAPPERS = {"shop_book": {"title": "(select w.title from shop_work w where w.id = new.work_ptr_id)"}}


def test_columns_that_went_to_a_new_parent_are_read_from_there(database: Target, tmp_path: Path) -> None:
    following = {"shop.0002_next": (PARENT, "")}
    with migrated(database, tmp_path, {"shop.0001_first": (FIRST, "")}, following, ROWS, MAPPERS) as site:
        assert doubtful(site.mapping(), round_trip(site.twin, site.live, site.mapping())) == ()
        site.write("update shop_work set title = 'edited', genre = 'g' where id = 1")
        site.write(
            "insert into shop_work (id, title, genre) values (11, 'new', '')",
            "insert into shop_book (work_ptr_id, pages) values (11, 7)",
            "insert into shop_note (book_id, text) values (11, 'y')",
        )
        site.write("delete from shop_note where book_id = 3", "delete from shop_book where work_ptr_id = 3")
        site.write("delete from shop_work where id = 3")
        whole(site, site.carry())
        assert site.old("select id, title, pages from shop_book order by id") == [
            (1, "edited", 1),
            (2, "t2", 2),
            (11, "new", 7),
        ]
        assert site.old("select book_id from shop_note order by 1") == [(1,), (2,), (11,)]
