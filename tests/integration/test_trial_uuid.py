"""Whole products name their rows by UUIDs: what is generated for a rehearsal's rollback is written to them, too."""

from __future__ import annotations

from pathlib import Path

from replay_ground import ground

from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import arm, disarm
from safepoint.wayback.trial.trial import LAUNCH, try_replay

BEFORE = """
create table entity (id uuid primary key default gen_random_uuid(), name text);
create table bill (id uuid primary key default gen_random_uuid(), entity_id uuid not null references entity, total int);
insert into entity (name) select 'e' || n from generate_series(1, 5) n;
insert into bill (entity_id, total) select id, n from entity, generate_series(1, 3) n;
"""


def test_a_parent_that_is_named_by_a_uuid_gets_children_as_any_other(database: Target, tmp_path: Path) -> None:
    with ground(database, tmp_path, BEFORE, "alter table bill add note text") as made:
        disarm(made.live, made.facts)
        trial = try_replay(made.twin, made.live, made.mapping(), made.folder / "trial", arm(made.live, LAUNCH))
        assert (trial.verdict, trial.refused) == ("equal", ()), trial
        assert trial.writes["insert"] == 2
