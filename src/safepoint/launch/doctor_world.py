"""The preflight checks outside the database: hosts, both releases, router, stores, the test user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

from safepoint.checkpoints.login import choose_browser, login, plan_visit
from safepoint.checkpoints.logs import mark
from safepoint.checkpoints.pages import health
from safepoint.config import CommandRouter, PlanFile, Release, format_bytes
from safepoint.django.inspector import IDENTITY, Project, inspect, redirected
from safepoint.django.managepy import Manage, redirect
from safepoint.errors import CommandFailed
from safepoint.hosts import command, open_host
from safepoint.launch.asking import answers
from safepoint.launch.doctor import Finding, Look, failure, guarded, ok, warning
from safepoint.launch.doctor_settings import handed_on, lost_options, other_log, restless, session_of
from safepoint.launch.error_logs import database_log
from safepoint.launch.whose import owner_of
from safepoint.postgres.connections import connect
from safepoint.postgres.target import target
from safepoint.routers import open_router
from safepoint.routers.caddy import Caddy
from safepoint.stores import open_store
from safepoint.wayback.stash import MANIFEST, damaged, of_others, waiting


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
            f"manage.py of {release.version} works only where {plan.application.url_env} leads to its database: "
            f"{alone.message}",
            f"Set {plan.application.url_env} where the launch runs its commands (host {host.name}), as the release's "
            f"own processes have it, or in releases.{which}.env.",
        )
    yield ok(check, f"{release.version}: Django {project.django}, Python {project.python}, {project.settings}")
    yield from _database_of(plan, project, check, own_login=alone is None)
    yield from _migrations_of(release, project, which)
    yield from _redirection(plan, manage, project, check)
    yield from handed_on(plan, release, project, which)
    if which == "old":
        yield from _logs(plan, project)
        yield from restless(plan, host, release, project)
    else:
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
        if plan.application.url_env is None:
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
        yield failure(
            check, f"The application's database does not answer: {project.database_error}", "Check its settings."
        )
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
    others = [one.alias for one in project.databases if one.alias != "default" and one.is_postgresql]
    if others:
        yield warning(
            check,
            f"The project has further databases ({', '.join(others)}), which this launch does not touch.",
            "Make sure that no migration of this release needs them. Where it could write to one, a rehearsal wants a "
            "copy of that in [rehearsal] env.",
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
    yield ok("migrations", f"{len(labels)} pending ({python} run Python, {sql} run SQL): {', '.join(labels[:8])}")
    loose = [migration.label for migration in project.pending if not migration.atomic]
    if loose:
        yield warning(
            "migrations",
            f"Not atomic: {', '.join(loose)}: a failure in them leaves half of their work behind.",
            "Nothing to do for a launch (it goes back to the twin); when retrying by hand, look at what is there.",
        )


def _redirection(plan: PlanFile, manage: Manage, project: Project, check: str) -> Iterator[Finding]:
    variable = plan.application.url_env
    default = project.database()
    if variable is None:
        if default is not None and default.options:
            yield failure(
                check,
                "The settings' OPTIONS carry `options`, so that Safepoint's lock_timeout does not reach the server.",
                "Read the options from an environment variable, or set application.url_env.",
            )
        elif check == "release-new":
            yield from session_of(plan, manage, check)
        return
    _env, secrets = redirect(plan.application, target(plan.database))
    there = redirected(Manage(manage.host, manage.release, {}, secrets, manage.directory), variable)
    lost = lost_options(variable, default, there, check)
    if lost is not None:
        yield lost
    elif there is not None:
        yield ok(check, f"{variable} decides which database {manage.release.version} uses (tried)")
    else:
        yield failure(
            check,
            f"{variable} does not change the database of {manage.release.version} (tried).",
            "Name the variable that its settings read in application.url_env; they read: "
            + (", ".join(project.environment) or "none"),
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


def router(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """The router takes orders, and leads to the release that runs."""
    del now
    old = plan.releases.old
    switch = open_router(plan.router, lambda name: open_host(name, plan.host(name), plan.folder), old=old.upstream)
    state = switch.check()
    yield ok(
        "router", f"The router takes orders; it is {state.mode}" + (f" to {state.upstream}" if state.upstream else "")
    )
    yield from _canary(plan, tells=switch.tells_split)
    if isinstance(switch, Caddy) and (others := switch.ways_past()):
        yield failure(
            "router",
            f"Caddy has {others} more reverse_proxy to {state.upstream or 'the same release'} beside the one that is "
            f"named {switch.route}: people would come in there while the site is closed, and find nobody afterwards.",
            "Let one handler lead to the application, for all its paths; or write a router of commands.",
        )
    if state.mode != "open":
        yield warning("router", f"The site is {state.mode} already.", "Open it before a launch, or say why it is so.")
        return
    if state.upstream is not None and state.upstream != old.upstream:
        yield failure(
            "router",
            f"The router leads to {state.upstream}, the old release is at {old.upstream}.",
            "Correct releases.old.upstream, or the router.",
        )
    for check, url, path in (
        ("router", plan.router.url, old.health),
        ("upstream", f"http://{old.upstream}", old.health),
    ):
        page = health(url, path, public_url=plan.router.url)
        status = answers(old.upstream, old.health, plan.router.url) if check == "upstream" else 200
        if page.verdict != "pass":
            yield failure(check, page.detail, page.remedy)
        elif status != 200:  # asked as a start of the release asks it, which follows no redirect
            found = "does not answer" if status is None else f"answers {status}"
            yield failure(
                check,
                f"{old.health} on {old.upstream} {found}; once a release is started, 200 is waited for.",
                "Let releases.old.health (and releases.new.health) name a page that answers 200 without a login.",
            )
        else:
            yield ok(check, page.detail)


def _canary(plan: PlanFile, *, tells: bool) -> Iterator[Finding]:
    """Whether a share of the clients can be let in first, and whether anybody will see that they are."""
    if not plan.has_canary:
        yield warning(
            "router",
            "There is no canary: the router has no command that lets in a part of the clients. After the checkpoints "
            "everyone comes in at once.",
            'Fine, if it cannot; else write `router.split`, such as ["./router", "split", "{upstream}", "{percent}"].',
        )
    elif not tells:
        yield warning(
            "router",
            "Nothing tells whether the router splits: its command's exit code is believed.",
            "Give `router.state` a command that prints closed, open UPSTREAM, or split UPSTREAM PERCENT.",
        )


def stores(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """Each store takes, gives back and deletes a probe, and has room."""
    del now
    for settings in plan.stores:

        def look(name: str = settings.name) -> Iterator[Finding]:
            store = open_store(next(one for one in plan.stores if one.name == name), plan.folder)
            store.check_writable()
            free = store.free_bytes()
            room = "" if free is None else f", {format_bytes(free)} free"
            yield ok("stores", f"The store {name} takes, gives back and deletes{room}")

        yield from guarded("stores", look)


def test_user(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """The test user can log in to the release that runs today."""
    settings = plan.checkpoints.login
    if settings is None:
        yield warning(
            "login",
            "No test user is in the plan file: nobody tries the application after the migration.",
            "Add [checkpoints.login] with a user, a form and the text that must come.",
        )
        return
    if settings.password_env not in os.environ:
        yield failure(
            "login",
            f"The environment variable {settings.password_env} is not set.",
            f"Set it for {settings.username!r}.",
        )
        return
    task = plan_visit(plan.router.url, settings, now=now)
    program, why_not = choose_browser(settings.browser, task.base_url, task.public_url)
    if program is None and settings.browser == "chromium":
        yield failure("browser", f"No browser: {why_not}.", 'Install Chromium and Playwright, or set browser = "http".')
    else:
        yield ok("browser", f"The test user comes by {program}" if program else f"By HTTP session: {why_not}")
    # Only the login: a form would leave an entry behind in the live database.
    only = settings.model_copy(update={"form_path": None, "fields": {}, "expect": None, "browser": "http"})
    tried = login(f"http://{plan.releases.old.upstream}", only, public_url=plan.router.url)
    if tried.verdict == "pass":
        yield ok("login", f"{settings.username} can log in today ({tried.seconds * 1000:.0f} ms)")
    else:
        yield failure("login", tried.detail, tried.remedy)


def put_away(plan: PlanFile, now: datetime) -> Iterator[Finding]:
    """What earlier rollbacks put away is whole; it is re-attached in the window, where there is no time to look."""
    del now
    for found in damaged(plan.state):
        remedy = "Restore it from a copy; or move its folder elsewhere, then nothing of it is re-attached."
        yield failure("stash", found, remedy)
    owner = owner_of(plan)
    stashes = waiting(plan.state, plan.launch_id, owner)
    for one in stashes:
        yield ok("stash", f"{one.count} rows that the rollback of {one.launch_id} put away will be re-attached")
    if not stashes:
        yield ok("stash", "No rollback has put anything away")
    for one in of_others(plan.state, owner):
        yield warning(
            "stash",
            f"{one.count} rows that the rollback of {one.launch_id} put away are of {one.owner}, and this is {owner}: "
            "they are not re-attached.",
            "Fine, if that is another application of this state folder. Where this one was only renamed, correct "
            f"`owner` in {one.folder / MANIFEST}.",
        )


LOOKS: dict[str, Look] = {
    "hosts": hosts,
    "release-old": old_release,
    "release-new": new_release,
    "database-log": database_log,
    "router": router,
    "stores": stores,
    "login": test_user,
    "stash": put_away,
}
