"""The stash: what had no home in the old schema comes back with the next launch, and nothing newer is overwritten."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from launched_twice import BEFORE, FIRST, OWNER, SECOND, attached, keep, launched_again, rolled_back
from replay_ground import LAUNCH, ask

from safepoint.errors import ProofFailed
from safepoint.postgres.connections import connect
from safepoint.postgres.target import Target
from safepoint.wayback.mapping.catalogue import read_catalogue
from safepoint.wayback.replay.stash_schema import drop_from_database, schema_name
from safepoint.wayback.stash.reattach import MARK, forget_mark, reattach
from safepoint.wayback.stash.stash import (
    MANIFEST,
    damaged,
    give_back,
    of_others,
    take,
    verify,
    waiting,
)

WRITES = (
    "update entry set currency = 'USD' where id in (1, 2, 7)",
    "update entry set slug = 'own', memo = 'changed' where id = 3; update entry set slug = 'mine' where id = 4",
    "insert into entry (memo, currency) values ('new', 'GBP')",
    "insert into tag (name, body) values ('mine', repeat('long', 2000))",
    "update tag set name = 'renamed' where name = 'audit'",
    "delete from tag where name = 'project'",
    "insert into entry_tags (entry_id, tag_id) values (1, 3), (9, 3), (7, 1)",
    "update tag set name = 'mine!' where id = 3",  # its large value is not in the log this time
    "insert into mark values (1, 4, 'about marks')",
    "insert into note values ('a'), ('a')",
)


def test_a_default_that_is_no_value_of_its_column_keeps_nothing_from_coming_back(
    database: Target, tmp_path: Path
) -> None:
    before = "create table page (id int primary key, name text); insert into page values (1, 'a'), (2, 'b')"
    with (
        rolled_back(
            *(database, tmp_path, "update page set body = '[1]' where id = 1"),
            before=before,
            migration="alter table page add body jsonb",
        ) as (made, _),
        launched_again(made, migration="alter table page add body jsonb") as again,
    ):
        with connect(made.twin) as connection:
            old = read_catalogue(connection)
        found, defaults = waiting(made.folder, "shop-2.1", OWNER), {"page": {"body": ""}}
        done = reattach(again, old, found, defaults, launch_id="shop-2.1", out=made.folder / "left.jsonl")
        assert (done.values, done.left) == (1, 0)
        assert ask(again, "select body::text from page order by id") == [("[1]",), (None,)]


def test_values_and_rows_come_back_by_key_with_what_they_refer_to(database: Target, tmp_path: Path) -> None:
    with rolled_back(database, tmp_path, *WRITES) as (made, found):
        assert found.count > 10 and found.tables["public.tag"].whole and not found.tables["public.entry"].whole
        with launched_again(made) as again:
            done = attached(made, again)
            rows = ask(again, "select id, currency, slug from entry where id in (1, 2, 3, 4, 7, 9) order by id")
            assert rows == [
                (1, "USD", "slug-m1"),
                (2, "USD", "slug-m2"),
                (3, "EUR", "own"),
                (4, "EUR", "mine"),
                (7, "USD", "slug-m7"),
                (9, "GBP", None),
            ]
            tags = ask(again, "select id, name, length(body) from tag order by id")
            assert tags == [(1, "renamed", None), (3, "mine!", 8000)]
            assert ask(again, "select entry_id, tag_id from entry_tags order by 1") == [(1, 3), (7, 1), (9, 3)]
            assert ask(again, "select about from mark") == [(13,)]  # by what it names, not by its number
            assert ask(again, "select text from note") == [("a",), ("a",)]
            assert done.left == 0, done.preview
            assert ask(again, "insert into tag (name) values ('next') returning id") == [(4,)]
            # Killed after the commit and before it was written down: it is read from the mark, and not done again.
            assert attached(made, again) == done
            forget_mark(again, "shop-2.1")
            assert ask(again, f"select to_regnamespace('{MARK}')") == [(None,)]


def test_what_is_newer_is_never_overwritten_and_is_told(database: Target, tmp_path: Path) -> None:
    since = (
        "update entry set memo = 'newer', body = 'x' where id in (1, 4)",  # slug is computed anew from it
        "delete from entry where id = 2",
        "delete from entry where id = 7",
    )
    with rolled_back(database, tmp_path, *WRITES) as (made, _), launched_again(made, *since) as again:
        done = attached(made, again)
        # The currency has its default still, so there is nothing newer; the slug is of the newer memo.
        assert ask(again, "select id, currency, slug from entry where id in (1, 4) order by id") == [
            (1, "USD", "slug-newer"),
            (4, "EUR", "slug-newer"),
        ]
        told = {(one.table, next(iter(one.key.values())), one.column): one.reason for one in done.preview}
        assert told["entry", "4", "slug"] == "the row has a newer value"
        assert told["entry", "2", "*"] == told["entry", "7", "*"] == "the row is not there any more"
        assert told["entry_tags", "3", "*"] == "the row of entry that it refers to is not there"
        lines = [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()]
        assert (
            len(lines) == done.left
            and {"value": "mine"}.items()
            <= next(line for line in lines if line["column"] == "slug" and line["key"] == {"id": "4"}).items()
        )
        assert (tmp_path / "left.jsonl").stat().st_mode & 0o777 == 0o600
        forget_mark(again, "shop-2.1")
        # Even without the mark nothing is attached twice: what stands there is seen.
        assert attached(made, again).values == 0


def test_a_schema_that_has_another_table_or_column_now_keeps_nothing_from_being_launched(
    database: Target, tmp_path: Path
) -> None:
    other = SECOND + "alter table entry drop slug; alter table tag add check (name <> 'renamed'); drop table mark;"
    with rolled_back(database, tmp_path, *WRITES) as (made, _), launched_again(made, migration=other) as again:
        done = attached(made, again)
        reasons = {(one.table, one.column, one.reason) for one in done.preview}
        assert ("entry", "slug", "the new schema has no such column any more") in reasons
        assert ("mark", "*", "the new schema has no such table") in reasons
        assert any(table == "tag" and "violates check" in reason for table, _, reason in reasons)
        assert ask(again, "select name from tag order by id") == [("audit",), ("mine!",)]


def test_a_stash_that_was_changed_is_refused_and_nothing_is_attached(database: Target, tmp_path: Path) -> None:
    with rolled_back(database, tmp_path, *WRITES) as (made, found), launched_again(made) as again:
        found.rows.write_text(found.rows.read_text().replace("USD", "XXX"))
        with pytest.raises(ProofFailed, match="not as it was written"):
            attached(made, again)
        assert damaged(tmp_path) and ask(again, "select count(*) from entry where currency <> 'EUR'") == [(0,)]
        assert ask(again, f"select to_regnamespace('{MARK}')") == [(None,)]
        found.rows.unlink()
        with pytest.raises(ProofFailed):
            verify(found)


KILLED = """
import sys
from pathlib import Path
from safepoint.postgres.target import Target
from safepoint.wayback.mapping.catalogue import Catalogue
from safepoint.wayback.stash.reattach import reattach
from safepoint.wayback.stash.stash import waiting
again, folder = Target(*{login!r}), Path({folder!r})
print("begins", flush=True)
stashes = waiting(folder, "shop-2.1", "shop/shop")
reattach(again, Catalogue({{}}), stashes, {{}}, launch_id="shop-2.1", out=folder / "left.jsonl")
"""
WAITS = "select 1 from pg_stat_activity where application_name = 'safepoint reattach' and wait_event_type = 'Lock'"


def test_killed_in_the_middle_nothing_stands_and_run_again_everything_once(database: Target, tmp_path: Path) -> None:
    with rolled_back(database, tmp_path, *WRITES) as (made, _), launched_again(made) as again:
        blocker = psycopg.connect(**again.conninfo())  # type: ignore[arg-type]
        blocker.execute("lock table mark in share mode")  # tags and what refers to them are written before it
        login = (again.host, again.port, again.dbname, again.user, again.password)
        code = KILLED.format(login=login, folder=str(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while not ask(again, WAITS):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.communicate(timeout=10)
        assert ask(again, "select count(*) from tag where name = 'mine!'") == [(0,)]
        blocker.close()
        done = attached(made, again)  # waits for what the dead one's session still holds
        assert done.left == 0 and ask(again, "select count(*) from note") == [(2,)]
        assert ask(again, "select count(*) from tag where name = 'mine!'") == [(1,)]


def test_another_application_of_the_same_state_folder_gets_nothing_of_it(database: Target, tmp_path: Path) -> None:
    with rolled_back(database, tmp_path, WRITES[0]) as (_, found):
        assert waiting(tmp_path, "billing-3.0", "billing/billing") == []
        assert of_others(tmp_path, "billing/billing") == [found] and of_others(tmp_path, OWNER) == []
        assert waiting(tmp_path, "shop-2.1", OWNER) == [found]
        manifest = found.folder / MANIFEST
        data = json.loads(manifest.read_text())
        del data["owner"]  # an earlier version did not say whose it is
        manifest.write_text(json.dumps(data))
        assert len(waiting(tmp_path, "shop-2.1", OWNER)) == 1 and of_others(tmp_path, OWNER) == []


def test_after_another_rollback_the_stash_waits_again_and_the_newer_one_says_what_a_row_is(
    database: Target, tmp_path: Path
) -> None:
    with rolled_back(database, tmp_path, *WRITES) as (made, found):
        take(found, "shop-2.1")
        assert waiting(tmp_path, "shop-2.2", OWNER) == [] and len(waiting(tmp_path, "shop-2.1", OWNER)) == 1
        assert [one.launch_id for one in give_back(tmp_path, "shop-2.1")] == [LAUNCH]
        newer = tmp_path / "newer.jsonl"
        lines = [json.loads(line) for line in found.rows.read_text().splitlines()]
        usd = next(one for one in lines if one["relation"] == "public.entry" and one["key"] == {"id": "1"})
        gone = next(one for one in lines if one["relation"] == "public.tag" and one["key"] == {"id": "3"})
        usd["values"]["currency"], gone["action"] = "CHF", "delete"
        links = [{**one, "action": "delete"} for one in lines if one["relation"] == "public.entry_tags"]
        emptied = {**gone, "relation": "public.mark", "action": "truncate", "key": {}, "values": {}}
        newer.write_text("".join(json.dumps(one) + "\n" for one in (usd, gone, emptied, *links)))
        keep(made, tmp_path, newer, "shop-2.1")
        with launched_again(made) as again:
            done = attached(made, again, "shop-2.2")
            assert done.launches == (LAUNCH, "shop-2.1") and done.left == 0, done.preview
            assert ask(again, "select currency from entry where id in (1, 2) order by id") == [("CHF",), ("USD",)]
            assert ask(again, "select count(*) from tag where id = 3") == [(0,)]
            assert ask(again, "select count(*) from mark") == [(0,)]


def test_what_refers_to_content_types_in_another_schema_is_named_and_found_again(
    database: Target, tmp_path: Path
) -> None:
    before, first, second = (
        text.replace("django_content_type", "app.django_content_type") for text in (BEFORE, FIRST, SECOND)
    )
    about = "insert into mark values (1, 4, 'about marks')"
    with rolled_back(database, tmp_path, about, before=f"create schema app; {before}", migration=first) as (
        made,
        found,
    ):
        assert found.identities["app.django_content_type"]["4"] == "shop.mark"
        with launched_again(made, migration=second) as again:
            assert attached(made, again).left == 0
            assert ask(again, "select about from mark") == [(13,)]


def test_the_stash_can_be_queried_until_the_launch_is_retired(database: Target, tmp_path: Path) -> None:
    with rolled_back(database, tmp_path, *WRITES) as (made, found):
        query = f"select count(*) from {schema_name(LAUNCH)}.stash s join entry e on e.id = (s.key ->> 'id')::int"
        assert ask(made.twin, query)[0][0] > 0
        assert ask(made.twin, "select to_regnamespace('safepoint')") == [(None,)]
        assert drop_from_database(made.twin, [LAUNCH]) == [schema_name(LAUNCH)]
        assert drop_from_database(made.twin, [LAUNCH]) == [] and found.rows.exists()
