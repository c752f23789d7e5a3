"""A test user logs in and fills in a form: in a real browser where there is one, in an HTTP session otherwise."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from safepoint.checkpoints.checkpoint import Checkpoint
from safepoint.checkpoints.chromium import Chromium, Outcome, Visit, browse
from safepoint.checkpoints.session import visit
from safepoint.config import Login
from safepoint.errors import PlanFileError

_TITLE = "Test user's login"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def login(
    base_url: str,
    settings: Login,
    *,
    public_url: str | None = None,
    cookies: Mapping[str, str] | None = None,
    screenshots: Path | None = None,
    timeout: float = 30,
    now: datetime | None = None,
    standby: Chromium | None = None,
) -> Checkpoint:
    """Log the test user in, open the form, fill it in, send it and look for the expected text.

    Args:
        base_url: where requests go: the new release's own address, or the router's.
        public_url: the address that people use, where it is another one (see `pages.visitor`).
        cookies: to begin with, such as the one that lets a canary's client in.
        screenshots: the folder that gets a picture when the browser fails; None takes none.
        timeout: seconds for the whole visit.
        now: for the word `{stamp}` in the fields and in the expected text: each visit then looks for its own entry.
        standby: a browser that was started for this visit before.
    """
    began = time.monotonic()
    try:
        task = plan_visit(
            base_url, settings, public_url=public_url, cookies=cookies, timeout=timeout, now=now or datetime.now(UTC)
        )
    except PlanFileError as error:
        return Checkpoint("login", _TITLE, "fail", detail=error.message, remedy=error.remedy)
    browser, why_not = choose_browser(settings.browser, task.base_url, task.public_url)
    if browser is None and settings.browser == "chromium":
        return Checkpoint("login", _TITLE, "fail", detail=f"no browser: {why_not}", remedy=_BROWSER_REMEDY)
    if browser is not None:
        outcome = browse(task, browser, screenshots, standby)
        if not outcome.started and settings.browser == "auto":
            why_not = f"Chromium did not start: {outcome.said}"
            outcome = _by_session(task)
    else:
        outcome = _by_session(task)
    return judge_visit(task, outcome, why_not if outcome.way != "Chromium" else "", time.monotonic() - began)


_BROWSER_REMEDY = 'Install Chromium and `pip install safepoint[browser]`, or set browser = "http".'


def plan_visit(
    base_url: str,
    settings: Login,
    *,
    now: datetime,
    public_url: str | None = None,
    cookies: Mapping[str, str] | None = None,
    timeout: float = 30,
) -> Visit:
    """Put the visit together. Pure but for the password's environment variable.

    Raises:
        PlanFileError: that variable is not set.
    """
    password = os.environ.get(settings.password_env)
    if not password:
        raise PlanFileError(
            f"The environment variable {settings.password_env} (checkpoints.login.password_env) is not set.",
            subject="checkpoints.login.password_env",
            remedy=f"Set {settings.password_env} to the password of {settings.username!r}.",
        )
    stamp = f"{now:%Y%m%d-%H%M%S}-{now.microsecond:06d}"
    return Visit(
        base_url=base_url,
        public_url=public_url or base_url,
        path=settings.path,
        username=settings.username,
        password=password,
        form_path=settings.form_path,
        fields={name: value.replace("{stamp}", stamp) for name, value in settings.fields.items()},
        expect=settings.expect.replace("{stamp}", stamp) if settings.expect is not None else None,
        cookies=dict(cookies or {}),
        timeout=timeout,
    )


def stand_by(base_url: str, settings: Login, *, public_url: str) -> Chromium | None:
    """Start the browser that `login` will want; None where it will not want one."""
    browser, _why_not = choose_browser(settings.browser, base_url, public_url)
    return None if browser is None else Chromium(browser, base_url, public_url)


def choose_browser(wanted: str, base_url: str, public_url: str) -> tuple[str | None, str]:
    """The browser's program, or None with the reason."""
    if wanted == "http":
        return None, "no browser was asked for"
    if urlsplit(public_url).scheme == "https" and base_url != public_url:
        # A browser cannot be made to speak plain HTTP for an https address.
        return None, "the release answers without TLS, and people reach it with TLS"
    if importlib.util.find_spec("playwright") is None:
        return None, "Playwright is not installed"
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    return found, "" if found else "there is no Chromium on this machine"


def _by_session(task: Visit) -> Outcome:
    ok, stage, said = visit(task)
    return Outcome(ok, "HTTP session", stage, said)


def _host(task: Visit) -> str:
    """By which name a release that is not open to people yet was asked."""
    public = urlsplit(task.public_url).netloc
    return "" if task.base_url == task.public_url else f" (with the header Host: {public})"


def judge_visit(task: Visit, outcome: Outcome, why_not: str, seconds: float) -> Checkpoint:
    """The checkpoint of a visit; its detail says in which way it was made. Pure."""
    way = f"by {outcome.way}" + (f" ({why_not})" if why_not else "")
    common: dict[str, Any] = {
        "value": round(seconds, 2),
        "unit": "s",
        "seconds": seconds,
        "files": (outcome.screenshot,) if outcome.screenshot else (),
    }
    if outcome.ok:
        done = f"{task.username} logged in"
        if task.form_path is not None:
            done += f", sent the form at {task.form_path}"
        if task.expect is not None:
            done += f" and found {task.expect!r}"
        return Checkpoint("login", _TITLE, "pass", detail=f"{done}, {way}", **common)
    detail = f"{outcome.stage}: {outcome.said}".replace(task.password, "***")
    return Checkpoint(
        "login",
        _TITLE,
        "fail",
        detail=f"{detail}, {way}",
        remedy=f"Try it by hand at {task.base_url.rstrip('/')}{task.path}{_host(task)}, and read the application's "
        "error log.",
        **common,
    )
