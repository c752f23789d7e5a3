"""What the server says of a launch that this state folder does not know of, or knows of no longer.

The folder may be another machine's (a second laptop), lost, not mounted, or a copy that is older than the launch: then
what lies in it says nothing of who is let in, and nobody is told by it to begin.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from safepoint.config import PlanFile
from safepoint.errors import DatabaseError, PlanFileError, Refused
from safepoint.launch.guard import HOLDERS, Holder, key_of, refusal
from safepoint.launch.ledger import Entry
from safepoint.launch.remains import refuse_unexplained
from safepoint.postgres.connections import connect
from safepoint.postgres.target import target

_PATIENCE = 3


def refuse_elsewhere(plan_file: PlanFile, entries: Sequence[Entry]) -> str | None:
    """Refuse what is asked of this state folder where the launch is conducted, or was gone on with, from another one.

    To be asked where no conductor of this folder is alive, for it would hold the guard.

    Args:
        entries: this folder's ledger of the launch; empty where it has none.

    Returns:
        Why the server could not be asked; None where it answered.

    Raises:
        Refused: another conductor is at work, or there are traces that `entries` do not explain.
    """
    database = plan_file.database
    try:
        with connect(target(database).on(database.maintenance), patience=_PATIENCE) as connection:
            holders = connection.execute(HOLDERS, key_of(database.name)).fetchall()
            if holders:
                raise refusal(database.name, Holder(*holders[0]))
            refuse_unexplained(connection, database.name, plan_file.launch_id, entries)
    except Refused as error:
        if entries:
            raise
        away = (
            f"There is nothing of it in {plan_file.state}: is its disk mounted here? Where it is lost for good, drop "
            "nothing of what stands on the server: a twin has the data as of the safe point."
        )
        raise Refused(
            error.message,
            subject=error.subject,
            expected=error.expected,
            found=error.found,
            remedy=f"{error.remedy} {away}",
        ) from None
    except (DatabaseError, PlanFileError) as error:
        return error.message
    except psycopg.Error as error:
        return str(error).strip()
    return None
