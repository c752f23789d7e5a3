"""Triggers that fire ALWAYS, and rules of that kind, do not act while the stash comes back."""

from __future__ import annotations

from pathlib import Path

from launched_twice import attached, launched_again, rolled_back
from replay_ground import RELAX, RELAXED, SHOP, ask

from safepoint.postgres.target import Target

ACTING = """;
create table noted (id serial primary key, what text);
create function notes() returns trigger language plpgsql as $$ begin
    insert into noted (what) values (tg_op); return null;
end $$;
create trigger notes before insert or update on customer for each row execute function notes();
alter table customer enable always trigger notes;
create rule nothing as on insert to coupon do instead nothing;
alter table coupon enable always rule nothing;
"""


def test_what_acts_even_under_replica_takes_nothing_away_and_writes_nothing(database: Target, tmp_path: Path) -> None:
    writes = (
        "insert into customer (name, mail) values (repeat('x', 30), 'new@x')",
        "update customer set name = repeat('y', 30) where id = 1",
        "insert into coupon (code) values ('a')",
    )
    with (
        rolled_back(database, tmp_path, *writes, before=SHOP, migration=RELAX, found=RELAXED) as (made, _),
        launched_again(made, migration=RELAX + ACTING) as again,
    ):
        done = attached(made, again)
        assert (done.values, done.rows, done.left) == (1, 2, 0)
        assert ask(again, "select id, left(name, 1) from customer where id in (1, 6) order by id") == [
            (1, "y"),
            (6, "x"),
        ]
        assert ask(again, "select (select count(*) from coupon), (select count(*) from noted)") == [(1, 0)]
        assert ask(again, "select tgenabled::text from pg_trigger where tgname = 'notes'") == [("A",)]
        assert ask(again, "select ev_enabled::text from pg_rewrite where rulename = 'nothing'") == [("A",)]
