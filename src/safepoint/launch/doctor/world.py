"""The preflight checks of what stands around: the database's log, router, stores, the test user, what was put away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime

from safepoint.checkpoints.login import choose_browser, login, plan_visit
from safepoint.checkpoints.pages import health
from safepoint.config import PlanFile, format_bytes
from safepoint.hosts import open_host
from safepoint.launch.asking import answers
from safepoint.launch.doctor.finding import Finding, Look, failure, guarded, ok, warning
from safepoint.launch.error_logs import database_log
from safepoint.launch.whose import owner_of
from safepoint.routers import open_router
from safepoint.routers.caddy import Caddy
from safepoint.stores import open_store
from safepoint.wayback.stash.stash import MANIFEST, damaged, of_others, waiting


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
    """Each store takes, gives back and deletes a probe, and has room; and one of them would outlive this disk."""
    del now
    beside: dict[str, bool] = {}
    for settings in plan.stores:

        def look(name: str = settings.name) -> Iterator[Finding]:
            store = open_store(next(one for one in plan.stores if one.name == name), plan.folder)
            beside[name] = store.on_disk_of(plan.state)
            store.check_writable()
            free = store.free_bytes()
            room = "" if free is None else f", {format_bytes(free)} free"
            yield ok("stores", f"The store {name} takes, gives back and deletes{room}")

        yield from guarded("stores", look)
    if len(beside) == len(plan.stores) and all(beside.values()):
        yield warning(
            "stores",
            f"No store is elsewhere: {', '.join(beside)} and the state folder are on one disk of this machine, and "
            "what takes it takes every snapshot.",
            "Add a store offsite: s3://, sftp://, gs://, az://, or a folder of another machine that is mounted here.",
        )


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
    "database-log": database_log,
    "router": router,
    "stores": stores,
    "login": test_user,
    "stash": put_away,
}
