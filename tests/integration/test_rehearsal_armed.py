"""A rehearsed rollback goes by a capture that is armed as the launch arms it: the log says what a row of a table that
the migration made was before it was changed."""

from __future__ import annotations

from pathlib import Path

from plan_file import plan_file
from replay_ground import RELAX, RELAXED, SHOP, ground

from safepoint.launch.rehearsal.rollback import armed
from safepoint.postgres.target import Target
from safepoint.wayback.capture.capture import disarm


def test_the_log_says_what_rows_of_the_migrations_own_tables_were(database: Target, tmp_path: Path) -> None:
    filled = f"{RELAX} insert into coupon (code) values ('one');"
    with ground(database, tmp_path, SHOP, filled, RELAXED) as made:
        launched = made.facts
        disarm(database, launched)
        plan = plan_file(tmp_path, database)
        facts = armed(plan, made.twin, database, RELAXED)
        disarm(database, facts)
        assert facts.identities == launched.identities and [one.relation for one in facts.identities] == ["coupon"]
        facts = armed(plan, made.twin, database, None)  # nobody knows which tables are new
        disarm(database, facts)
        assert facts.identities == ()
