"""The preflight check of the variables by which a release is led to a database: tried, by loading it with others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from safepoint.config import PlanFile
from safepoint.django.address import INSISTING, NOT_INSISTING, how_to_lead
from safepoint.django.inspector import Project, followed, inspect, redirected
from safepoint.django.managepy import Manage, redirect
from safepoint.errors import CommandFailed, SafepointError
from safepoint.launch.doctor.finding import Finding, failure, ok, warning
from safepoint.launch.doctor.settings import lost_engine, lost_options, session_of
from safepoint.postgres.binaries import for_server
from safepoint.postgres.connections import connect
from safepoint.postgres.encrypting import can_encrypt
from safepoint.postgres.scratch_databases import MAINTENANCE
from safepoint.postgres.target import server_target, target


def led(plan: PlanFile, manage: Manage, project: Project, check: str) -> Iterator[Finding]:
    """Whether the variables of `[application]` decide which database the release uses; where they give it no login of
    its own, whether the session's settings reach the server."""
    application = plan.application
    if application.url_env is not None:
        yield _by_url(plan, application.url_env, manage, project, check)
    elif application.parts:
        yield _by_parts(application.parts, manage, project, check)
    if check == "release-new" and not application.fixed:
        yield from _encrypted(plan, manage, project, check)
    if application.has_login:
        return
    default = project.database()
    if default is not None and default.options:
        yield failure(
            check,
            "The settings' OPTIONS carry `options`, so that Safepoint's lock_timeout does not reach the server.",
            f"Read the options from an environment variable. Or: {how_to_lead(application)}.",
        )
    elif check == "release-new":
        if application.parts:
            yield warning(
                check,
                "[application.variables] names none for user and password: migrations run by the application's own "
                "login, which the fence has to leave to it.",
                f"{how_to_lead(application)}.",
            )
        yield from session_of(plan, manage, check)


def _by_url(plan: PlanFile, variable: str, manage: Manage, project: Project, check: str) -> Finding:
    default = project.database()
    _env, secrets = redirect(plan.application, target(plan.database))
    there = redirected(Manage(manage.host, manage.release, {}, secrets, manage.directory), variable)
    lost = lost_options(variable, default, there, check) or lost_engine(variable, default, there, check)
    if lost is not None:
        return lost
    if there is not None:
        return ok(check, f"{variable} decides which database {manage.release.version} uses (tried)")
    return failure(
        check,
        f"{variable} does not change the database of {manage.release.version} (tried).",
        without_effect(variable, project.environment),
    )


def _by_parts(parts: Mapping[str, str], manage: Manage, project: Project, check: str) -> Finding:
    version = manage.release.version
    try:
        found = followed(manage, {name: part for part, name in parts.items()})
    except CommandFailed as error:
        return failure(
            check,
            f"With another address in {', '.join(parts.values())} {version} does not start: {error.message}",
            "Does each have what [application.variables] says? A rehearsal and the migration start it so.",
        )
    lost = {part: name for part, name in parts.items() if found.get(part) != name}
    if not lost:
        return ok(check, f"{', '.join(parts.values())} decide which database {version} uses (tried)")
    shown = ", ".join(f"{name} (its {part})" for part, name in lost.items())
    return failure(
        check,
        f"{shown} {'does' if len(lost) == 1 else 'do'} not change the database of {version} (tried).",
        without_effect(next(iter(lost.values())), project.environment, "[application.variables]"),
    )


def _encrypted(plan: PlanFile, manage: Manage, project: Project, check: str) -> Iterator[Finding]:
    """Settings that insist on an encrypted connection do so at the copy of a rehearsal as well."""
    default = project.database()
    if default is None or default.sslmode not in INSISTING or not (plan.rehearsal.required or plan.wayback.prove):
        return
    env, secrets = redirect(plan.application, target(plan.database))
    with TemporaryDirectory(prefix="safepoint-doctor-") as folder:
        given = plan.rehearsal.variables(Path(folder))
        there = inspect(Manage(manage.host, manage.release, {**given, **env}, secrets, manage.directory)).database()
    mode = there.sslmode if there is not None else ""
    if mode not in INSISTING or (mode == "require" and _offered(plan)):
        return
    of_the_copy = "cannot be encrypted there" if mode == "require" else "has a certificate there that nobody has signed"
    yield failure(
        check,
        f"The settings insist on sslmode={mode}, also where they are led to the copy of a rehearsal. A connection "
        f"{of_the_copy}: the launch would end there.",
        NOT_INSISTING,
    )


def _offered(plan: PlanFile) -> bool:
    """Whether connections to the scratch server can be encrypted; one that somebody else made is asked."""
    try:
        if plan.scratch is not None:
            there = server_target(plan.scratch, "scratch", MAINTENANCE)
            connect(replace(there, sslmode="require"), application_name="safepoint doctor").close()
            return True
        with connect(target(plan.database), application_name="safepoint doctor") as connection:
            version = connection.info.server_version
        return can_encrypt(for_server(version, plan.database.tools))
    except SafepointError:
        return False


def without_effect(variable: str, read: Sequence[str], where: str = "application.url_env") -> str:
    """What to do where the variable that should lead the application to a database leads it nowhere. Pure.

    Args:
        read: the variables that the settings read.
        where: the key that names the variable.
    """
    if variable in read:
        return (
            f"Its settings read {variable}, so it is set once more on the way to them: let `manage` (a script that "
            "sources a file, say) and the settings (.env) leave it as it is where it is set already."
        )
    return f"Name the variable that its settings read in {where}; they read: {', '.join(read) or 'none'}"
