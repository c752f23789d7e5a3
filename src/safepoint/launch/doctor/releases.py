"""The preflight checks of hosts and releases: manage.py, its database, migrations, logs, caches and addresses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

from safepoint.checkpoints.logs import mark
from safepoint.config import CommandRouter, PlanFile, Release
from safepoint.django.inspector import IDENTITY, Project, inspect
from safepoint.django.managepy import Manage, redirect
from safepoint.errors import CommandFailed
from safepoint.hosts import command, open_host
from safepoint.launch.doctor.finding import Finding, Look, failure, guarded, ok, some, warning
from safepoint.launch.doctor.led import led
from safepoint.launch.doctor.others import other_databases
from safepoint.launch.doctor.settings import handed_on, other_log, restless
from safepoint.postgres.connections import connect
from safepoint.postgres.target import target


def hosts(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """Every host that the plan uses carries out a command."""
    del now
    names = {plan.application.host, plan.database.tools_host}
    if isinstance(plan.router, CommandRouter):
        names.add(plan.router.host)
    for name in sorted(names):

        def look(name: str = name) -> Iterator[Finding]:
            result = open_host(name, plan.host(name), plan.folder).run(command(("echo", "safepoint")), timeout=30)
            if result.stdout.strip() == "safepoint":
                yield ok("hosts", f"The host {name} answers in {result.seconds * 1000:.0f} ms")
            else:
                yield failure(
                    "hosts",
                    f"The host {name} mixes other words into a command's output: {result.stdout[:100]!r}.",
                    "Let its shell's start files print nothing where there is no terminal.",
                )

        yield from guarded("hosts", look)


def old_release(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """The release that runs today."""
    del now
    yield from _release(plan, plan.releases.old, "old")


def new_release(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """The release that is launched."""
    del now
    yield from _release(plan, plan.releases.new, "new")


def _release(plan: PlanFile, release: Release, which: str) -> Iterator[Finding]:
    check = f"release-{which}"
    host = open_host(plan.application.host, plan.host(plan.application.host), plan.folder)
    for name, argv in (("start", release.start), ("stop", release.stop)):
        found = host.run(
            command(("sh", "-c", 'command -v "$1"', "sh", argv[0]), directory=release.directory, env=release.env),
            check=False,
            timeout=30,
        )
        if found.code != 0:
            yield failure(
                check,
                f"The {name} command of {release.version} names {argv[0]}, which is not on host {host.name}.",
                f"Correct releases.{which}.{name}.",
            )
    manage, project, alone = _asked(plan, release)
    if alone is not None:
        yield failure(
            check,
            f"manage.py of {release.version} works only where {', '.join(plan.application.led_by)} leads to its "
            f"database: {alone.message}",
            f"Set it where the launch runs its commands (host {host.name}), as the release's own processes have it, or "
            f"in releases.{which}.env.",
        )
    settings = project.settings or "no settings module"
    yield ok(check, f"{release.version}: Django {project.django}, Python {project.python}, {settings}")
    yield from _database_of(plan, project, check, own_login=alone is None)
    yield from _migrations_of(release, project, which)
    yield from led(plan, manage, project, check)
    yield from handed_on(plan, release, project, which)
    if which == "old":
        yield from _logs(plan, project)
        yield from restless(plan, host, release, project)
    else:
        yield from other_databases(plan, manage, project, check)
        yield from _caches(plan, project)
        yield from other_log(plan, project)
        yield from _addresses(release, project)


def _asked(plan: PlanFile, release: Release) -> tuple[Manage, Project, CommandFailed | None]:
    """The release's manage.py and what it says; the last, why it says so only with our address of the database.

    A launch asks it by its own settings, too, and believes `back-check` by nothing else.
    """
    host = open_host(plan.application.host, plan.host(plan.application.host), plan.folder)
    own = Manage(host, release)
    try:
        return own, inspect(own), None
    except CommandFailed as error:
        if not plan.application.has_login:
            raise
        env, secrets = redirect(plan.application, target(plan.database))
        ours = Manage(host, release, env, secrets)
        return ours, inspect(ours), error


def _database_of(plan: PlanFile, project: Project, check: str, *, own_login: bool) -> Iterator[Finding]:
    """The application and Safepoint are connected to one and the same database, as roles that the plan knows."""
    default = project.database()
    if default is None or not default.is_postgresql:
        yield failure(check, "The project's default database is not PostgreSQL.", "Safepoint launches PostgreSQL only.")
        return
    if project.database_error is not None:
        remedy = "Let `manage.py showmigrations` run with it first: are its libraries those that it needs?"
        yield failure(check, f"{project.unknown}.", remedy if project.database_answers else "Check its settings.")
        return
    with connect(target(plan.database), application_name="safepoint doctor") as connection:
        row = connection.execute(IDENTITY).fetchone()
    if row is None or row[0] != project.identity:
        yield failure(
            check,
            f"The application is connected to another database ({default.name} on {default.host or 'its socket'}).",
            "Let [database] and the application's settings lead to the same database.",
        )
    if own_login and default.user and default.user not in plan.database.application_roles:
        yield failure(
            check,
            f"The application logs in as {default.user}, which database.application_roles does not name.",
            f"Add {default.user!r} there, or its writes are not held off during the window.",
        )
    if project.session is not None and project.session["pooled"]:
        yield warning(
            check,
            "The application reaches the database by a connection pooler, which may go on refusing logins when the "
            "fence is opened (PgBouncer for server_login_retry, 15 s): the site stays closed so much longer.",
            "For the launch day, set server_login_retry = 1 (PgBouncer: change it, then RELOAD).",
        )


def _migrations_of(release: Release, project: Project, which: str) -> Iterator[Finding]:
    if project.pending is None:
        return  # said already: the database does not answer
    if project.conflicts:
        yield failure(
            "migrations",
            f"{release.version} has migrations that conflict in {', '.join(project.conflicts)}.",
            "Merge them: `manage.py makemigrations --merge`.",
        )
    if project.inconsistent is not None:
        yield failure(
            "migrations",
            f"`migrate` of {release.version} refuses this database: {project.inconsistent}",
            "Is it a release that follows the one that runs today? Where it has squashed older migrations without "
            "naming them, or has others than were applied, launch the newest release first that knows them all.",
        )
    if project.unmade:
        yield warning(
            "migrations",
            f"{release.version} has model changes without a migration in {', '.join(project.unmade)}.",
            "Run `manage.py makemigrations` and release again, or be sure that they need none.",
        )
    labels = [migration.label for migration in project.pending]
    if which == "old" and labels:
        yield warning(
            "migrations",
            f"{release.version}, which runs today, has {len(labels)} pending migrations, first {labels[0]}.",
            "Apply them before the launch, or be sure that the new release brings them.",
        )
    if which == "old":
        return
    if not labels:
        yield warning("migrations", f"{release.version} has no pending migration.", "Is this the right release?")
        return
    python = sum(migration.runs_python for migration in project.pending)
    sql = sum(migration.runs_sql for migration in project.pending)
    yield ok("migrations", f"{len(labels)} pending ({python} run Python, {sql} run SQL): {some(labels)}")
    loose = [migration.label for migration in project.pending if not migration.atomic]
    if loose:
        yield warning(
            "migrations",
            f"Not atomic: {', '.join(loose)}: a failure in them leaves half of their work behind.",
            "Nothing to do for a launch (it goes back to the twin); when retrying by hand, look at what is there.",
        )


def _logs(plan: PlanFile, project: Project) -> Iterator[Finding]:
    path = plan.application.error_log
    if path is None:
        known = ", ".join(project.error_logs)
        yield warning(
            "error-log",
            "No error log is watched (application.error_log is not set).",
            f"Set it to one of: {known}." if known else "Let LOGGING write errors to a file, and name it there.",
        )
        return
    host = open_host(plan.application.host, plan.host(plan.application.host), plan.folder)
    if mark(host, path).inode == 0:
        yield warning("error-log", f"There is no file {path} yet.", "Fine, if it is only created by the first error.")
    else:
        yield ok("error-log", f"{path} can be read")


def _caches(plan: PlanFile, project: Project) -> Iterator[Finding]:
    unknown = [argv[0] for argv in plan.cache.clear if argv[0] not in project.commands]
    backends = ", ".join(f"{alias}: {backend.rpartition('.')[2]}" for alias, backend in project.caches.items())
    if unknown:
        yield warning(
            "cache",
            f"The project has no command {', '.join(unknown)} (Django has none; django-extensions brings one).",
            "Django's own cache.clear() is called instead; or correct cache.clear.",
        )
    else:
        by = ", ".join(" ".join(argv) for argv in plan.cache.clear) or "Django's cache.clear()"
        yield ok("cache", f"The cache is cleared by {by}; {backends}")
    if project.session_engine.endswith("backends.cache"):
        yield warning(
            "cache",
            "Sessions are kept in the cache only: clearing it logs everyone out.",
            "Give the sessions a cache of their own that cache.clear leaves alone, or tell the users.",
        )


def _addresses(release: Release, project: Project) -> Iterator[Finding]:
    name = urlsplit(f"//{release.upstream}").hostname or ""
    allowed = project.allowed_hosts
    if project.debug:
        yield warning("settings", f"{release.version} runs with DEBUG.", "Set DEBUG = False in production.")
    elif "*" not in allowed and not any(name == host or (host[:1] == "." and name.endswith(host)) for host in allowed):
        yield warning(
            "settings",
            f"ALLOWED_HOSTS does not have {name}, where Safepoint asks the release before it gets traffic.",
            f"Add {name!r}: pages that ask for the host's name answer 400 there otherwise.",
        )


LOOKS: dict[str, Look] = {"hosts": hosts, "release-old": old_release, "release-new": new_release}
