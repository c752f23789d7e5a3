"""The test user's visit in Chromium through Playwright. A program of its own: a line of JSON for each thing said.

Run as `python -m safepoint.checkpoints.browser`. In comes which browser to start for which addresses; out goes that it
is ready; in comes the task, over standard input, because it has the password; out goes the outcome.
No trace is recorded, and no picture is taken while a password stands in a field.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from safepoint.checkpoints.forms import REFUSED

_FLAGS = (
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--no-first-run",
    "--no-proxy-server",
)
_BUTTON = "button[type=submit], input[type=submit], button:not([type])"
# What the browser itself would complain about before it sends anything.
_INVALID = """form => {
    const bad = form.noValidate ? null : [...form.elements].find(e => e.willValidate && !e.checkValidity());
    return bad ? `${bad.name}: ${bad.validationMessage}` : "";
}"""
# What the form's fields of these names hold; of passwords nothing, which no form gives back.
_HELD = """(form, names) => Object.fromEntries(names.map(name => [name, JSON.stringify(
    [...form.elements].filter(e => e.name === name && e.type !== "password")
        .map(e => e.type === "checkbox" || e.type === "radio" ? e.checked : e.value))]))"""
_NAVIGATION_MS = 10_000
_EMPTY = "<form method=post><input name=user><input type=password name=word><button>Send</button></form>"
_USERNAME = "input[type=text], input[type=email], input[type=tel], input:not([type])"


def flags(base_url: str, public_url: str, *, root: bool) -> list[str]:
    """Chromium's arguments. The public address is led to the release's own by a resolver rule. Pure.

    Chromium's sandbox refuses to run as root, so that root has to do without it.
    """
    words = list(_FLAGS)
    if root:
        words.append("--no-sandbox")
    if base_url != public_url:
        words.append(f"--host-resolver-rules=MAP {urlsplit(public_url).hostname} {urlsplit(base_url).netloc}")
    return words


class Stopped(Exception):
    """The visit cannot go on."""

    def __init__(self, stage: str, said: str) -> None:
        super().__init__(said)
        self.stage = stage
        self.said = said


def main() -> None:
    """Start the browser, wait for the task, visit, print the outcome."""
    wanted: dict[str, Any] = json.loads(sys.stdin.readline())
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=wanted["executable"],
                headless=True,
                args=flags(wanted["base_url"], wanted["public_url"], root=os.geteuid() == 0),
                timeout=wanted["timeout"] * 1000,
            )
            page = browser.new_context(base_url=wanted["public_url"]).new_page()
            _warm_up(page)
        except Error as error:
            _answer(ok=False, stage="starting", said=_short(error), started=False)
            return
        print(json.dumps({"ready": True}), flush=True)
        if line := sys.stdin.readline():  # the end of the input: nobody wants a visit any more
            _make_visit(page, json.loads(line))


def _warm_up(page: Any) -> None:
    """Fill in and send a form of our own, at the site's address, of which nothing leaves the browser.

    What a browser and its driver do for the first time takes much longer than the second time: the process that draws
    the site's pages is started, scripts are compiled.
    """
    everything = "**/*"
    page.route(everything, lambda route: route.fulfill(body=_EMPTY, content_type="text/html"))
    _open(page, "/", "warming up")
    form = page.locator("form", has=page.locator("input[type=password]")).first
    form.locator(_USERNAME).last.fill("nobody")
    form.locator("input[type=password]").first.fill("nothing")
    _submit(page, form, "warming up")
    page.unroute(everything)


def _make_visit(page: Any, task: Mapping[str, Any]) -> None:
    from playwright.sync_api import Error

    page.context.add_cookies(
        [{"name": name, "value": value, "url": task["public_url"]} for name, value in task["cookies"].items()]
    )
    page.set_default_timeout(task["timeout"] * 1000)
    stage = [""]
    try:
        _visit(page, task, stage)
    except Stopped as stopped:
        _answer(ok=False, stage=stopped.stage, said=stopped.said, screenshot=_picture(page, task))
    except Error as error:
        _answer(ok=False, stage=stage[0], said=_short(error), screenshot=_picture(page, task))
    else:
        _answer(ok=True, stage="", said="")


def _visit(page: Any, task: Mapping[str, Any], stage: list[str]) -> None:
    deadline = time.monotonic() + float(task["timeout"])
    stage[0] = f"opening {task['path']}"
    _open(page, task["path"], stage[0])
    form = page.locator("form", has=page.locator("input[type=password]")).first
    if not form.count():
        raise Stopped(stage[0], "there is no form with a password")
    form.locator(_USERNAME).last.fill(task["username"])
    form.locator("input[type=password]").first.fill(task["password"])
    stage[0] = "logging in"
    _submit(page, form, stage[0])
    if page.locator("form input[type=password]").count():
        raise Stopped(stage[0], _messages(page) or "the login form came back")
    if task["form_path"] is not None:
        _send_form(page, task, stage)
    if task["expect"] is not None:
        stage[0] = "looking for the text"
        _await_text(page, task["expect"], deadline, stage[0])


def _send_form(page: Any, task: Mapping[str, Any], stage: list[str]) -> None:
    stage[0] = f"opening {task['form_path']}"
    if not _is_at(page, task["form_path"]):  # the login may have led there
        _open(page, task["form_path"], stage[0])
    form = page.locator("form")
    for name in task["fields"]:
        form = form.filter(has=page.locator(_named(name)))
    if not form.count():
        if page.locator("form input[type=password]").count():
            raise Stopped(stage[0], "the application asks to log in again")
        raise Stopped(stage[0], f"no form has the fields {', '.join(task['fields'])}")
    form, names = form.first, list(task["fields"])
    opened = form.evaluate(_HELD, names)
    for name, value in task["fields"].items():
        _fill(form, name, value, stage[0])
    filled = form.evaluate(_HELD, names)
    stage[0] = f"sending the form at {task['form_path']}"
    before = urlsplit(page.url).path
    answer = _submit(page, form, stage[0])
    if urlsplit(page.url).path != before:
        return
    if said := _messages(page):
        raise Stopped(stage[0], f"the form came back: {said}")
    # A site that says yes redirects, shows another page, or the form as it was at first.
    if task["expect"] is None and answer is not None and answer.request.redirected_from is None and form.count():
        again = form.evaluate(_HELD, names)
        changed = [name for name in names if filled[name] != opened[name]]
        if changed and all(again[name] == filled[name] for name in changed):
            raise Stopped(stage[0], REFUSED)


def _is_at(page: Any, path: str) -> bool:
    here = urlsplit(str(page.url))
    return path == here._replace(scheme="", netloc="", fragment="").geturl()


def _open(page: Any, path: str, stage: str) -> None:
    answer = page.goto(path, wait_until="domcontentloaded")
    _good(answer, stage)


def _submit(page: Any, form: Any, stage: str) -> Any:
    """Press the form's button; gives the answer. A form that a script sends may change no address, and there is none
    then: the text decides about it."""
    from playwright.sync_api import TimeoutError as Late

    if invalid := form.evaluate(_INVALID):
        raise Stopped(stage, f"the browser does not send the form: {invalid}")
    try:
        with page.expect_navigation(wait_until="domcontentloaded", timeout=_NAVIGATION_MS) as navigation:
            button = form.locator(_BUTTON)
            if button.count():
                button.first.click()
            else:
                form.evaluate("form => form.requestSubmit()")
    except Late:
        return None
    _good(navigation.value, stage)
    return navigation.value


def _good(answer: Any, stage: str) -> None:
    if answer is not None and answer.status >= 400:
        raise Stopped(stage, f"{urlsplit(answer.url).path} answered {answer.status}")


def _fill(form: Any, name: str, value: str, stage: str) -> None:
    control = form.locator(_named(name))
    kind = control.first.evaluate("e => e.tagName === 'INPUT' ? e.type : e.tagName.toLowerCase()")
    if kind == "select":
        values = control.first.evaluate("e => [...e.options].map(o => [o.value, o.label.trim()])")
        chosen = next((one for one, label in values if value in (one, label)), None)
        if chosen is None:
            raise Stopped(stage, f"{name!r} has no choice {value!r}")
        control.first.select_option(value=chosen)
    elif kind == "checkbox":
        control.first.set_checked(value.lower() not in ("", "0", "false", "off", "no"))
    elif kind == "radio":
        form.locator(f"{_named(name)}[value={json.dumps(value)}]").first.check()
    elif kind == "hidden":
        control.first.evaluate("(e, value) => { e.value = value }", value)
    else:
        control.first.fill(value)


def _await_text(page: Any, expected: str, deadline: float, stage: str) -> None:
    """The text may be drawn by a script after the page has come: wait for it, but only briefly."""
    wanted = " ".join(expected.split())
    until = min(deadline, time.monotonic() + 5)
    while wanted not in " ".join(page.locator("body").inner_text().split()):
        if time.monotonic() >= until:
            raise Stopped(stage, f"{expected!r} does not stand on the page")
        page.wait_for_timeout(100)


def _named(name: str) -> str:
    return f"[name={json.dumps(name)}]"


def _messages(page: Any) -> str:
    texts = page.locator("[class*=error]").all_inner_texts()
    return " / ".join(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))[:300]


def _picture(page: Any, task: Mapping[str, Any]) -> str | None:
    """A picture of where it stopped, with the password's fields emptied first."""
    from playwright.sync_api import Error

    if task["folder"] is None:
        return None
    path = Path(task["folder"]) / f"login-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.png"
    try:
        page.eval_on_selector_all("input[type=password]", "fields => fields.forEach(f => f.value = '')")
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(path), timeout=5000)
    except (Error, OSError):
        return None
    return str(path)


def _short(error: Exception) -> str:
    return " ".join(str(error).split("Call log")[0].split())[:300]


def _answer(*, ok: bool, stage: str, said: str, screenshot: str | None = None, started: bool = True) -> None:
    outcome = {"ok": ok, "stage": stage, "said": said, "screenshot": screenshot, "started": started}
    print(json.dumps(outcome), flush=True)
    # Closing Chromium in order takes longer than the visit; its profile is thrown away, and whoever started us ends it.


if __name__ == "__main__":
    main()
