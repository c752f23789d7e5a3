"""A reason is read by people: what PostgreSQL says of a value has that value in it, however long it is."""

from __future__ import annotations

import json
from pathlib import Path

from replay_ground import ground
from test_affected import told

from safepoint.postgres.target import Target
from safepoint.wayback.affected.affected import UserTable

BEFORE = """
create table auth_user (id int primary key, username text not null unique, email text);
create table form (id int primary key, user_id int not null references auth_user, data jsonb);
alter table form add constraint ruled check ((data ->> 'n')::int > 0);
insert into auth_user values (1, 'ann', 'ann@x.org');
"""


def test_a_huge_value_does_not_stand_in_the_reason_nor_break_a_letter_s_lines(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, "alter table form drop constraint ruled") as made:
        made.write(
            "insert into form values (1, 1, jsonb_build_object('n', E'a\\nBcc: b@x.org\\n' || repeat('x', 1000000)))"
        )
        outcome = made.carry()
        found, rows = told(made, UserTable(), given={})
    (row,) = rows
    assert row["fate"] == "stashed" and row["reason"].startswith("invalid input syntax for type integer")
    kept = "...: kept for the next launch"
    assert len(row["reason"]) <= 200 + len(kept) and "\n" not in row["reason"] and row["reason"].endswith(kept)
    assert len(json.dumps(outcome.as_json())) < 5_000
    letters = Path(found.letters).read_text()
    assert len(letters) < 2_000 and not any(line.startswith("Bcc:") for line in letters.splitlines())
