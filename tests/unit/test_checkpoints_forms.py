"""HTML forms: found, filled in, and sent as a browser would send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.checkpoints.forms import filled, form_with, login_form, read

PAGE = """
<html><head><title>error</title><style>.x{}</style></head><body class="page">
<form action="/search/"><input name="q"><button>Search</button></form>
<p class="errornote">Please   correct <b>this</b>.</p>
<form method="POST">
  <input type="hidden" name="csrf" value="a&amp;b">
  <input name="user"><input type="email" name="mail" value="m@example.com"><input type="password" name="pw">
  <input type="checkbox" name="stay" checked> <input type="checkbox" name="news" value="1">
  <input type="radio" name="size" value="s" checked><input type="radio" name="size" value="l">
  <select name="kind"><option value="">---</option><option value="2" selected>Two &amp; more<option>Three</select>
  <select name="many" multiple><option value="a">A</option></select>
  <textarea name="memo">
first
second</textarea>
  <input type="file" name="upload"><input name="off" value="x" disabled><input type="submit" name="go" value="Go">
  <button name="other" value="2">Other</button>
</form>
<script>var expected = "hidden from people";</script> Shown <br> here
</body></html>
"""


def sent(**values: str) -> list[tuple[str, str]]:
    form = login_form(read(PAGE))
    assert form is not None
    return filled(form, values)


def test_what_is_not_named_is_sent_as_the_page_gave_it() -> None:
    assert sent() == [
        ("csrf", "a&b"),
        ("user", ""),
        ("mail", "m@example.com"),
        ("pw", ""),
        ("stay", "on"),
        ("size", "s"),
        ("kind", "2"),
        ("memo", "first\nsecond"),
        ("go", "Go"),
    ]


def test_values_are_set_by_name_with_choices_by_value_or_by_what_people_read() -> None:
    pairs = dict(sent(user="u", stay="no", news="yes", size="l", kind="Three", memo="m"))
    assert pairs["user"] == "u" and "stay" not in pairs and pairs["news"] == "1"
    assert (pairs["size"], pairs["kind"], pairs["memo"]) == ("l", "Three", "m")
    assert dict(sent(kind="Two & more"))["kind"] == "2"
    assert dict(sent(many="A"))["many"] == "a"


@pytest.mark.parametrize(("name", "value"), [("kind", "Four"), ("size", "xl")])
def test_a_choice_that_is_not_there_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' has no choice '{value}'"):
        sent(**{name: value})


def test_the_login_form_is_the_one_with_a_password_and_its_user_stands_before_it() -> None:
    form = login_form(read(PAGE))
    assert form is not None
    assert (form.method, form.password, form.username, form.buttons) == ("post", "pw", "mail", 2)


def test_a_form_is_found_by_all_its_fields() -> None:
    page = read(PAGE)
    assert form_with(page, ("q",)) is page.forms[0]
    assert form_with(page, ("memo", "kind")) is page.forms[1]
    assert form_with(page, ("q", "memo")) is None


def test_the_text_is_what_people_see_and_messages_are_known() -> None:
    page = read(PAGE)
    assert "Shown here" in page.text and "hidden from people" not in page.text and ".x{}" not in page.text
    assert page.errors == ("Please correct this .",) or page.errors == ("Please correct this.",)


@given(st.text(max_size=400))
def test_no_text_is_too_broken_to_be_read(text: str) -> None:
    read(text)
    read(f"<form><select name=a>{text}</form>{text}")
