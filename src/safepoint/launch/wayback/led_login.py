"""Whether the old release will get in on the twin's server: tried before the launch, and not first by a rollback.

The database that it will ask for bears another name until then. So its login is good where the server says that there
is no such database: that comes after the password and pg_hba.conf, which are asked for that very role and name.
"""

from __future__ import annotations

from safepoint.config import PlanFile
from safepoint.django.inspector import inspect
from safepoint.django.managepy import Manage
from safepoint.errors import CommandFailed, DatabaseError
from safepoint.hosts import open_host
from safepoint.launch.wayback.pairs import leading
from safepoint.postgres.connections import connect
from safepoint.wayback.twin.pair import Pair


def refused(plan: PlanFile, pair: Pair) -> str | None:
    """Why the application could not work there, in half a sentence; None where it could, or where nothing tells.

    Args:
        pair: with a twin on a server of its own.
    """
    env, secrets = leading(plan)
    release, server = plan.releases.old, plan.wayback.server
    if server is None or not (env or secrets):
        return None  # a command leads it
    host = open_host(plan.application.host, plan.host(plan.application.host), plan.folder)
    try:
        found = inspect(Manage(host, release, {**release.env, **env}, secrets))
    except CommandFailed:
        return None  # it does not start where its database is missing: that is no word about the login
    if found.database_error is None:
        led = server.lead is not None or found.identity is None
        return None if led else f"the variables that lead {release.version} to {pair.twin.address} do not lead it there"
    said = " ".join(found.database_error.split())
    if any(words in said for words in _not_there(pair)):
        return None
    return f"{release.version} would not get in on {pair.twin.address} ({said}): let its role in there as it is here"


def _not_there(pair: Pair) -> list[str]:
    """How that server says that there is no such database yet: in its own language, as it says it to us."""
    known = [f'database "{pair.live.dbname}" does not exist']
    try:
        connect(pair.swapped_in).close()
    except DatabaseError as error:
        if pair.live.dbname in (said := error.message.rpartition(": ")[2]):  # and not that we are refused as well
            known.append(said)
    return known
