"""What is in the way of a fence, as long as the site is open: then nobody waits for whoever has to see to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from safepoint.postgres.target import Target
from safepoint.wayback.fence.fence import SUBSCRIPTIONS, oid_of
from safepoint.wayback.sessions import asking, at_maintenance, not_ours_to_end, prepared, walsenders

_DECIDED_SECONDS: Final = 60.0
"""Whoever uses two-phase commit decides sooner; an older one was left by a crash."""

# The application may go on without (by a setting of its database's, or its role's), where our own commits would not
# end. Whether a standby is a synchronous one is not shown to everybody.
WAITING: Final = """
SELECT current_setting('synchronous_standby_names') <> ''
   AND current_setting('synchronous_commit') NOT IN ('off', 'local')
   AND (pg_has_role(current_user, 'pg_read_all_stats', 'usage')
        OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
   AND NOT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))
"""


# A role is the whole server's, and so is its LOGIN. Twins and kept databases bear the fence that stood once.
HELD_OFF: Final = """
SELECT r.rolname, d.datname FROM pg_roles r, pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE r.rolname = ANY(%s) AND NOT r.rolcanlogin AND d.oid <> %s::int8::oid
  AND s.setrole = 0 AND s.setconfig @> ARRAY['default_transaction_read_only=on']
  AND coalesce(shobj_description(d.oid, 'pg_database'), '') !~ '^(made|kept) by Safepoint for launch ' ORDER BY 1, 2
"""


def in_the_way(target: Target, *, roles: Sequence[str] = (), maintenance: str = "postgres") -> str | None:
    """What `close` would refuse, or wait for, now, and what does not go by itself. Changes nothing.

    Args:
        roles: the application's: where another database's fence holds one off, no release could log in afterwards.
    """
    with at_maintenance(target, maintenance) as connection, asking("Looking what is in the fence's way", target.dbname):
        oid = oid_of(connection, target.dbname)
        if consumers := walsenders(connection, [oid]):
            return f"logical replication consumers read {target.dbname}: {'; '.join(consumers[:5])}"
        if waiting := prepared(connection, [oid], older_than=_DECIDED_SECONDS):
            why = "nobody decides (COMMIT PREPARED or ROLLBACK PREPARED)"
            return f"prepared transactions on {target.dbname} that {why}: {'; '.join(waiting[:5])}"
        if staying := not_ours_to_end(connection, [oid]):
            return f"sessions of superusers are on {target.dbname}, which {target.user} may not end: " + "; ".join(
                staying[:5]
            )
        if (held := connection.execute(HELD_OFF, (list(roles), oid)).fetchone()) is not None:
            return (
                f"the role {held[0]} cannot log in anywhere on this server: the database {held[1]}, whose application "
                "has that role, too, is fenced (by its own launch or rollback), and until that is over neither release "
                "could start"
            )
        if connection.execute(WAITING).fetchone() == (True,):
            return "commits wait for a synchronous standby (synchronous_standby_names), and none is there"
        names = [str(row[0]) for row in connection.execute(SUBSCRIPTIONS, (oid,)).fetchall()]
        return f"subscriptions write into {target.dbname}: {', '.join(names)}" if names else None
