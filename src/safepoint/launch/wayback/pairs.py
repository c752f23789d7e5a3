"""Where the twin of a launch is, and how the application is led to the server that a rollback swaps it in on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safepoint.config import PlanFile
from safepoint.config.section import address as address_of
from safepoint.django.address import leading_to_server
from safepoint.errors import DatabaseError, PlanFileError, ServerAway
from safepoint.postgres.target import server_target, target
from safepoint.wayback.names import twin_name
from safepoint.wayback.twin.pair import Pair


def level_pair(plan: PlanFile, launch_id: str) -> Pair:
    """The live database and the twin that is kept level: on the server that the plan names, or beside it."""
    live, name = target(plan.database), twin_name(plan.database.name, launch_id)
    server = plan.wayback.server
    if server is None:
        return Pair.beside(live, name, launch_id, plan.database.maintenance)
    there = server_target(server, "wayback.server", name)
    return Pair(live, there, launch_id, plan.database.maintenance, server.maintenance)


def standing_pair(plan: PlanFile, launch_id: str, twin: Mapping[str, Any] | None) -> Pair:
    """As the fact `twin` says where it stands: a level twin that was given up was copied beside the live database."""
    if twin is not None and twin.get("server") is None:
        name = twin_name(plan.database.name, launch_id)
        return Pair.beside(target(plan.database), name, launch_id, plan.database.maintenance)
    return level_pair(plan, launch_id)


def refuse_shut_out(plan: PlanFile, launch_id: str, twin: Mapping[str, Any] | None) -> None:
    """Refuse to conduct where the twin stands on another server, which answers and does not let this conductor in: it
    could close the site, and neither carry nor swap. One that does not answer refuses nobody: it may come back.

    Args:
        twin: the fact `twin`.

    Raises:
        PlanFileError: the variable with the password is not set.
        DatabaseError: the server refuses the login.
    """
    if twin is None or twin.get("server") is None:
        return
    try:
        standing_pair(plan, launch_id, twin).at_twin().close()
    except ServerAway:
        return
    except (DatabaseError, PlanFileError) as error:
        raise type(error)(
            f"{error.message.rstrip('.')}. The twin stands there ({twin['server']}). Nothing is begun, and all is as "
            "it was.",
            subject=error.subject,
            remedy=error.remedy,
        ) from None


def leading(plan: PlanFile) -> tuple[dict[str, str], dict[str, str]]:
    """The variables, and the secret ones, that lead the old release to the other server. Empty where none is named."""
    server = plan.wayback.server
    if server is None:
        return {}, {}
    own = plan.application.database_address or address_of(plan.database.host, plan.database.port)
    found = leading_to_server(plan.application, own, server.address or address_of(server.host, server.port))
    env, secrets = found or ({}, {})
    # What a person wrote for that server counts.
    return {**env, **server.env}, {name: value for name, value in secrets.items() if name not in server.env}


def is_led(plan: PlanFile) -> bool:
    """Whether anything in the plan leads the old release there."""
    server = plan.wayback.server
    return server is not None and (server.lead is not None or any(leading(plan)))
