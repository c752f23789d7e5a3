"""What was written since the launch, entry by entry, with its user."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from books import Books

from safepoint.errors import Interrupted
from safepoint.postgres.connections import connect
from safepoint.wayback.affected.lines import HEADINGS
from safepoint.wayback.affected.written import Written, list_rows_since, list_written
from safepoint.wayback.capture.capture import CaptureFacts, arm, disarm, drain

LAUNCH = "books-2.0"


def listed(site: Books, facts: CaptureFacts, folder: Path) -> tuple[Written, list[dict[str, str]]]:
    drain(site.target, facts, folder / "spool")
    disarm(site.target, facts)
    written = list_written(site.target, folder / "spool", folder / "affected.csv")
    with (folder / "affected.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HEADINGS
    assert json.loads(json.dumps(written.as_json()))["rows"] == len(rows)
    return written, rows


def test_each_row_is_listed_with_the_user_that_its_foreign_keys_lead_to(site: Books, tmp_path: Path) -> None:
    facts = arm(site.target, LAUNCH)
    with connect(site.application, autocommit=False) as connection:
        connection.execute("insert into ledger_entry (memo, author_id, approver_id) values ('bob''s', 2, 1)")
        connection.execute("insert into ledger_line (amount, entry_id, account_id) values (5, 2, 1), (-5, 2, 2)")
        connection.commit()
        connection.execute("update ledger_line set amount = 11 where id = 1")  # of ann's entry from before the launch
        connection.commit()
        connection.execute("insert into ledger_account (code) values ('3000')")  # leads to no user
        connection.commit()
    written, rows = listed(site, facts, tmp_path)
    assert [(row["table"], row["action"], row["key"], row["user"], row["user_from"]) for row in rows] == [
        ("ledger_entry", "insert", "id=2", "bob", "row"),
        ("ledger_line", "insert", "id=3", "bob", "row"),
        ("ledger_line", "insert", "id=4", "bob", "row"),
        ("ledger_line", "update", "id=1", "ann", "row"),
        ("ledger_account", "insert", "id=3", "", "unknown"),
    ]
    assert (written.transactions, written.rows, written.users) == (3, 5, {"bob": 3, "ann": 1})
    assert written.unknown_rows == 1 and written.complete and written.notes == ()
    assert written.tables["ledger_line"] == {"insert": 2, "update": 1}
    assert "memo=bob's" in rows[0]["values"] and rows[0]["committed_at"].endswith("+00:00")
    assert written.first is not None and written.last is not None and written.first <= written.last


def test_rows_that_are_deleted_since_get_their_user_from_what_was_captured(one_site: Books, tmp_path: Path) -> None:
    site = one_site
    facts = arm(site.target, LAUNCH)
    with connect(site.application, autocommit=False) as connection:
        connection.execute("insert into ledger_entry (memo, author_id) values ('short-lived', 2)")
        connection.execute("insert into ledger_line (amount, entry_id, account_id) values (1, 2, 1)")
        connection.commit()
        connection.execute("delete from ledger_line where entry_id = 2")
        connection.execute("delete from ledger_entry where id = 2")
        connection.commit()
        # The admin deletes a row from before the launch: the log tells its key, the admin's own log tells who it was.
        connection.execute("delete from ledger_line where id = 2")
        connection.execute("insert into django_admin_log (user_id, object_id) values (1, '2')")
        connection.commit()
    written, rows = listed(site, facts, tmp_path)
    found = [(row["action"], row["table"], row["user"], row["user_from"]) for row in rows]
    assert found == [
        ("insert", "ledger_entry", "bob", "row"),
        ("insert", "ledger_line", "bob", "row"),
        ("delete", "ledger_line", "bob", "row"),
        ("delete", "ledger_entry", "bob", "row"),
        ("delete", "ledger_line", "ann", "transaction"),
        ("insert", "django_admin_log", "ann", "row"),
    ]
    assert written.housekeeping_rows == 1


def test_a_deleted_row_that_nothing_tells_of_is_unknown_and_said_so(one_site: Books, tmp_path: Path) -> None:
    facts = arm(one_site.target, LAUNCH)
    with connect(one_site.application) as connection:
        connection.execute("delete from ledger_line where id = 2")
    written, rows = listed(one_site, facts, tmp_path)
    assert [(row["key"], row["user"], row["user_from"]) for row in rows] == [("id=2", "", "unknown")]
    assert written.unknown_rows == 1 and written.users == {}


def test_no_secret_and_no_formula_reaches_the_list(one_site: Books, tmp_path: Path) -> None:
    facts = arm(one_site.target, LAUNCH)
    with connect(one_site.application) as connection:
        connection.execute("insert into auth_user (username, password) values ('+cmd', 'pbkdf2$hash')")
        connection.execute("insert into django_session values ('the-session-key', 'the-session-data')")
    written, rows = listed(one_site, facts, tmp_path)
    text = (tmp_path / "affected.csv").read_text(encoding="utf-8") + json.dumps(written.as_json())
    assert not any(secret in text for secret in ("pbkdf2$hash", "the-session-key", "the-session-data"))
    assert rows[0]["user"] == "'+cmd" and rows[0]["user_from"] == "row"
    assert rows[1]["housekeeping"] == "True" and rows[1]["key"] == "session_key=***"


def test_ten_thousands_of_rows_are_listed_by_few_queries(one_site: Books, tmp_path: Path) -> None:
    facts = arm(one_site.target, LAUNCH)
    with connect(one_site.application) as connection:
        connection.execute(
            "insert into ledger_entry (memo, author_id) select 'm', 1 + g % 2 from generate_series(1, 8000) g"
        )
        for _ in range(300):
            connection.execute("insert into ledger_line (amount, entry_id, account_id) values (1, 1, 1)")
        connection.execute("update ledger_entry set memo = 'n'")
    written, rows = listed(one_site, facts, tmp_path)
    assert written.rows == len(rows) == 8000 + 300 + 8001
    assert written.transactions == 302 and written.users == {"ann": 4000 + 300 + 4001, "bob": 8000}
    assert len(written.preview) == 200 and written.seconds < 10
    assert "preview" not in written.as_json()  # the ledger and the report hold nothing that people wrote


def test_without_decoding_the_rows_themselves_are_listed_and_the_loss_is_said(one_site: Books, tmp_path: Path) -> None:
    facts = CaptureFacts.from_json(arm(one_site.application, LAUNCH, "logical").as_json())
    assert facts.mode == "none"
    with connect(one_site.application) as connection:
        connection.execute("insert into ledger_entry (memo, author_id) values ('new', 2)")
        connection.execute("update ledger_line set amount = 12 where id = 1")
        connection.execute("delete from ledger_line where id = 2")
    written = list_rows_since(one_site.application, facts, tmp_path / "affected.csv")
    found = [(row.table, row.action, row.key, row.user) for row in written.preview]
    assert found == [
        ("ledger_entry", "insert or update", "id=2", "bob"),
        ("ledger_line", "insert or update", "id=1", "ann"),
    ]
    assert not written.complete and any("deleted rows" in note for note in written.notes)


def test_what_a_lost_capture_has_not_read_is_listed_by_the_rows_that_stand(one_site: Books, tmp_path: Path) -> None:
    facts = arm(one_site.target, LAUNCH)
    note = "insert into ledger_entry (memo, author_id) values (%s, 2)"
    with connect(one_site.application) as early, connect(one_site.application, autocommit=False) as late:
        late.execute(note, ["begun before, committed after"])
        with early.transaction(), early.transaction():  # by a savepoint the row has an id of its own
            early.execute(note, ["read"])
        drain(one_site.target, facts, tmp_path / "spool")
        late.commit()
        with early.transaction(), early.transaction():
            early.execute(note, ["not read"])
        early.execute("update ledger_entry set memo = 'read, and changed later' where memo = 'read'")
    disarm(one_site.target, facts)
    out = tmp_path / "affected.csv"
    written = list_written(one_site.target, tmp_path / "spool", out, lost_since=facts.start_xid)
    found = [(row.action, row.values.split("memo=")[1].split(";")[0], row.user) for row in written.preview]
    assert found[0] == ("insert", "read", "bob")
    assert sorted(found[1:]) == [
        ("insert or update", "begun before, committed after", "bob"),
        ("insert or update", "not read", "bob"),
        ("insert or update", "read, and changed later", "bob"),
    ]


def test_what_the_capture_could_not_see_is_said_with_the_list(one_site: Books, tmp_path: Path) -> None:
    with connect(one_site.application) as connection:
        connection.execute("create unlogged table scrap (id int)")
        facts = arm(one_site.target, LAUNCH)
        connection.execute("insert into scrap values (1)")
    drain(one_site.target, facts, tmp_path / "spool")
    disarm(one_site.target, facts)
    written = list_written(one_site.target, tmp_path / "spool", tmp_path / "affected.csv", missing=facts.promises)
    assert (written.rows, written.complete, written.notes) == (0, False, facts.promises)
    assert "public.scrap" in written.notes[0]


def test_a_user_table_that_is_not_there_keeps_nothing_from_being_listed(one_site: Books, tmp_path: Path) -> None:
    facts = arm(one_site.target, LAUNCH)
    with connect(one_site.application) as connection:
        connection.execute("insert into ledger_entry (memo, author_id) values ('new', 2)")
    drain(one_site.target, facts, tmp_path / "spool")
    disarm(one_site.target, facts)
    written = list_written(one_site.target, tmp_path / "spool", tmp_path / "affected.csv", user_table="users_person")
    assert (written.rows, written.unknown_rows, written.complete) == (1, 1, True)
    assert written.notes == ("There is no user table users_person: no row is traced to a user.",)


def test_a_listing_can_be_stopped(one_site: Books, tmp_path: Path) -> None:
    facts = arm(one_site.target, LAUNCH)
    with connect(one_site.application) as connection:
        connection.execute("insert into ledger_account (code) values ('x')")
    drain(one_site.target, facts, tmp_path / "spool")
    disarm(one_site.target, facts)
    with pytest.raises(Interrupted):
        list_written(one_site.target, tmp_path / "spool", tmp_path / "affected.csv", cancelled=lambda: True)
    assert not (tmp_path / "affected.csv").exists()
