"""A value of an enum gets another name after the launch: what was captured before has the former one."""

from __future__ import annotations

from pathlib import Path

from replay_ground import RELAX, RELAXED, SHOP, ground
from test_schema_since import rest

from safepoint.postgres.target import Target

TAGS = """
create type mood as enum ('low', 'mid', 'high');
create table tag (kind mood, id int, what text, big text, primary key (kind, id));
insert into tag select k::mood, n, 'w', (select string_agg(md5(n || ' ' || g), '') from generate_series(1, 300) g)
    from generate_series(1, 3) n, unnest('{low,mid}'::text[]) k;
"""
WIDEN = "alter table tag alter big type varchar(90000);"


def test_a_key_that_is_none_any_more_keeps_its_own_row_back_only(database: Target, tmp_path: Path) -> None:
    """By it a large value is looked up that is not in the log."""
    with ground(database, tmp_path, SHOP + TAGS, RELAX + WIDEN, RELAXED, how="logical") as made:
        proven = made.mapping()
        made.write("update tag set what = 'new' where id = 2")
        made.write("alter type mood rename value 'mid' to 'middle'")
        outcome = rest(made, proven)
        assert [(dict(one.key)["kind"], one.kind) for one in outcome.aside] == [("mid", "value")]
        assert made.old("select kind::text, what from tag where id = 2 order by 1") == [("low", "new"), ("mid", "w")]
