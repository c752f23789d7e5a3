"""A twin that is followed for days: what one round costs does not grow with what was stashed before it."""

from __future__ import annotations

from pathlib import Path

import pytest
from replay_ground import LAUNCH, Ground, ground

from safepoint.postgres.target import Target
from safepoint.wayback.replay.outcome import Outcome
from safepoint.wayback.replay.replay import replay

BEFORE = """
create table entry (id int primary key, memo text); create table price (code numeric primary key, memo text);
create type mood as enum ('low', 'high'); create table feeling (mood mood primary key, memo text);
create table span (lasts interval, code text, memo text, primary key (lasts, code));
"""
CHANGE = """
alter table entry add tag text; alter table price add tag text; alter table feeling add tag text;
alter table span add tag text; create table mark (id int primary key, at text); alter type mood add value 'new';
"""
MANY = 3000


def carried(made: Ground) -> Outcome:
    """Without files, as a follower does it."""
    made.drain()
    return replay(made.twin, made.live, made.spool, made.mapping(), launch_id=LAUNCH)


def looked_at(made: Ground) -> int:
    """How many rows of a replay's records were read one after the other, so far."""
    query = "select coalesce(sum(seq_tup_read), 0)::int from pg_stat_all_tables where schemaname = 'safepoint'"
    return int(made.old(query)[0][0])


@pytest.mark.parametrize("writes", ["entry", "price", "mark", "span", "feeling"])
def test_a_round_reads_only_what_was_stashed_of_its_own_rows(database: Target, tmp_path: Path, writes: str) -> None:
    with ground(database, tmp_path, BEFORE, CHANGE) as made:
        made.write(
            f"insert into entry select n, 'm', 'tag' from generate_series(1, {MANY}) n",
            f"insert into price select n, 'm', 'tag' from generate_series(1, {MANY}) n",
            f"insert into span select n * interval '1 day', 'c', 'm', 'tag' from generate_series(1, {MANY}) n",
            f"insert into mark select n, 'm' from generate_series(1, {MANY}) n",
            "insert into feeling values ('low', 'm', 'tag'), ('high', 'm', 'tag')",
        )
        carried(made)
        for n in range(3):  # each is one more line of what became of a transaction, too
            made.write(f"insert into mark values ({-n - 1}, 'first')")
            carried(made)
        before = looked_at(made)
        made.write(
            {
                "entry": "update entry set tag = 'last' where id = 7",
                "price": "update price set code = 7.00, tag = 'last' where code = 7",  # equal, and written otherwise
                "mark": "update mark set at = 'last' where id = 7",
                "span": "update span set lasts = '168 hours', tag = 'last' where lasts = '7 days'",
                "feeling": "update feeling set tag = 'last' where mood = 'low'",
            }[writes]
        )
        carried(made)
        assert looked_at(made) - before < 50
        of_it = f"from safepoint.stash where relation = 'public.{writes}'"
        last = "coalesce(values ->> 'tag', values ->> 'at') = 'last'"
        total = 2 if writes == "feeling" else MANY + (3 if writes == "mark" else 0)
        assert made.old(f"select count(*), count(*) filter (where {last}) {of_it}") == [(total, 1)]


def test_a_key_that_has_a_value_of_its_type_which_the_twin_does_not_know_is_found_all_the_same(
    database: Target, tmp_path: Path
) -> None:
    with ground(database, tmp_path, BEFORE, CHANGE) as made:
        made.write("insert into feeling values ('low', 'm', 'first')")
        carried(made)
        # In this round the keys are texts to the twin.
        made.write("insert into feeling values ('new', 'm', 'first')", "update feeling set tag = 'second'")
        assert [one.key for one in carried(made).aside] == [{"mood": "new"}]
        made.write("update feeling set tag = 'third' where mood = 'low'")
        carried(made)
        kept = "select key ->> 'mood', values ->> 'tag', whole from safepoint.stash order by 1"
        assert made.old(kept) == [("low", "third", None), ("new", "second", True)]
