"""The test user's visit in an HTTP session: cookies, CSRF tokens and redirects as a browser would have them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import httpx

from safepoint.checkpoints import forms
from safepoint.checkpoints.pages import status_remedy, visitor

if TYPE_CHECKING:
    from safepoint.checkpoints.chromium import Visit


class Stopped(Exception):
    """The visit cannot go on: at which stage, and what was seen."""

    def __init__(self, stage: str, said: str) -> None:
        super().__init__(said)
        self.stage = stage
        self.said = said


def visit(task: Visit) -> tuple[bool, str, str]:
    """Carry out a visit: whether it went well, the stage where it stopped, and what was seen there."""
    try:
        with visitor(task.base_url, public_url=task.public_url, cookies=task.cookies, timeout=task.timeout) as client:
            landed = _log_in(client, task)
            page = forms.read(landed.text) if task.form_path is None else _send_form(client, task, landed)
    except Stopped as stopped:
        return False, stopped.stage, stopped.said
    except httpx.HTTPError as error:
        return False, "asking the application", f"{type(error).__name__}: {error}"
    if task.expect is not None and " ".join(task.expect.split()) not in page.text:
        return False, "looking for the text", f"{task.expect!r} does not stand on the page"
    return True, "", ""


def _log_in(client: httpx.Client, task: Visit) -> httpx.Response:
    answer = client.get(task.path)
    form = forms.login_form(_page(answer, f"opening {task.path}"))
    if form is None or form.password is None or form.username is None:
        raise Stopped(f"opening {task.path}", "there is no form with a user name and a password")
    values = {form.username: task.username, form.password: task.password}
    landed = _send(client, answer, form, values)
    page = _page(landed, "logging in")
    if forms.login_form(page) is not None:
        raise Stopped("logging in", _messages(page) or "the login form came back")
    return landed


def _send_form(client: httpx.Client, task: Visit, landed: httpx.Response) -> forms.Page:
    """Fill in the form; it is not opened once more where the login led to it."""
    stage = f"opening {task.form_path}"
    there = landed.url.raw_path.decode() == task.form_path
    answer = landed if there else client.get(task.form_path or "/")
    page = _page(answer, stage)
    form = forms.form_with(page, tuple(task.fields))
    if form is None:
        if forms.login_form(page) is not None:
            raise Stopped(stage, "the application asks to log in again")
        known = "; ".join(", ".join(one.names) or "no field" for one in page.forms) or "no form at all"
        raise Stopped(stage, f"no form has the fields {', '.join(task.fields)} (there: {known})")
    stage = f"sending the form at {task.form_path}"
    try:
        sent = _send(client, answer, form, dict(task.fields))
    except ValueError as error:
        raise Stopped(stage, str(error)) from None
    page = _page(sent, stage)
    again = forms.form_with(page, tuple(task.fields)) if sent.url.path == answer.url.path else None
    if again is not None and page.errors:
        raise Stopped(stage, f"the form came back: {_messages(page)}")
    # A site that says yes redirects, shows another page, or the form as it was at first.
    if task.expect is None and again is not None and not sent.history and forms.kept(form, again, dict(task.fields)):
        raise Stopped(stage, forms.REFUSED)
    return page


def _send(client: httpx.Client, page: httpx.Response, form: forms.Form, values: dict[str, str]) -> httpx.Response:
    """Send a form as a browser would, with the Origin and Referer that Django's CSRF check compares."""
    url = page.url.join(form.action) if form.action else page.url
    pairs = forms.filled(form, values)
    if form.method != "post":
        return client.get(url, params=dict(pairs))
    origin = urlsplit(str(page.url))
    headers = {
        "Origin": f"{origin.scheme}://{origin.netloc}",
        "Referer": str(page.url),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return client.post(url, content=urlencode(pairs), headers=headers)


def _page(answer: httpx.Response, stage: str) -> forms.Page:
    if answer.status_code >= 400:
        raise Stopped(stage, f"{answer.url.path} answered {answer.status_code}. {status_remedy(answer.status_code)}")
    return forms.read(answer.text)


def _messages(page: forms.Page) -> str:
    return " / ".join(page.errors)[:300]
