"""HTML forms as data: found in a page, filled in by name, turned into what a browser would send. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_SKIPPED = ("script", "style", "template", "head")
_NO_VALUE = ("submit", "button", "image", "reset", "file")
_OFF = ("", "0", "false", "off", "no")
REFUSED = "the form came back with what was sent; if that is this site's yes, give `expect` the text that it shows then"
"""What is said of a form that no message says anything about."""


@dataclass
class Choice:
    """One option of a select."""

    value: str
    label: str
    selected: bool


@dataclass
class Input:
    """One named control: `kind` is the input's type, `textarea` or `select`."""

    name: str
    kind: str
    value: str = ""
    checked: bool = False
    multiple: bool = False
    choices: list[Choice] = field(default_factory=list)


@dataclass
class Form:
    """One form: its controls in their order, and its first submit button's name and value."""

    action: str
    method: str
    inputs: list[Input] = field(default_factory=list)
    button: tuple[str, str] | None = None
    buttons: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a person could fill in."""
        return tuple(dict.fromkeys(one.name for one in self.inputs if one.kind != "hidden"))

    def holds(self, *names: str) -> bool:
        """Whether it has controls of all these names."""
        known = {one.name for one in self.inputs}
        return all(name in known for name in names)

    @property
    def password(self) -> str | None:
        """The name of its password control."""
        return next((one.name for one in self.inputs if one.kind == "password"), None)

    @property
    def username(self) -> str | None:
        """The control that the user's name goes into: the last text or e-mail control before the password."""
        before: str | None = None
        for one in self.inputs:
            if one.kind == "password":
                return before
            if one.kind in ("text", "email", "tel"):
                before = one.name
        return None


@dataclass(frozen=True)
class Page:
    """A page's forms, its visible text with single spaces, and the messages in elements of an `error` class."""

    forms: tuple[Form, ...]
    text: str
    errors: tuple[str, ...]


def read(html: str) -> Page:
    """Find the forms and the text of a page."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    errors = tuple(dict.fromkeys(text for text in (_spaced(one) for one in reader.errors) if text))
    return Page(tuple(reader.forms), _spaced(reader.text), errors)


def login_form(page: Page) -> Form | None:
    """The form with a password."""
    return next((form for form in page.forms if form.password), None)


def form_with(page: Page, names: tuple[str, ...]) -> Form | None:
    """The first form that has all these names."""
    return next((form for form in page.forms if form.holds(*names)), None)


def filled(form: Form, values: dict[str, str]) -> list[tuple[str, str]]:
    """What a browser would send with these values; everything not named keeps what the page gave it.

    Raises:
        ValueError: a select or a group of radio buttons has no such choice.
    """
    sent: list[tuple[str, str]] = []
    for one in form.inputs:
        given = values.get(one.name)
        if one.kind == "select":
            sent += [(one.name, value) for value in _chosen(one, given)]
        elif one.kind == "checkbox":
            if one.checked if given is None else given.lower() not in _OFF:
                sent.append((one.name, one.value or "on"))
        elif one.kind == "radio":
            if one.checked if given is None else given == one.value:
                sent.append((one.name, one.value))
        elif one.kind not in _NO_VALUE:
            sent.append((one.name, one.value if given is None else given))
    missing = [name for name in values if name not in {key for key, _value in sent} and _is_radio(form, name)]
    if missing:
        raise ValueError(f"{missing[0]!r} has no choice {values[missing[0]]!r}")
    if form.button is not None and form.button[0]:
        sent.append(form.button)
    return sent


def kept(first: Form, again: Form, values: dict[str, str]) -> bool:
    """Whether a form that came again holds what was sent in it. False where it held that at first, and shows nothing.

    Passwords are not looked at: no form gives them back.
    """
    secret = {one.name for one in first.inputs if one.kind == "password"}
    names = values.keys() - secret

    def held(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
        return {name: [value for key, value in pairs if key == name] for name in names}

    opened, sent, back = held(filled(first, {})), held(filled(first, values)), held(filled(again, {}))
    changed = [name for name in names if sent[name] != opened[name]]
    return bool(changed) and all(back[name] == sent[name] for name in changed)


def _is_radio(form: Form, name: str) -> bool:
    return any(one.name == name and one.kind == "radio" for one in form.inputs)


def _chosen(one: Input, given: str | None) -> list[str]:
    if given is None:
        selected = [choice.value for choice in one.choices if choice.selected]
        return selected or ([] if one.multiple else [choice.value for choice in one.choices[:1]])
    for choice in one.choices:
        if given in (choice.value, _spaced(choice.label)):
            return [choice.value]
    known = ", ".join(_spaced(choice.label) or choice.value for choice in one.choices[:8])
    raise ValueError(f"{one.name!r} has no choice {given!r} (known: {known})")


def _spaced(text: str) -> str:
    return " ".join(text.split())


class _Reader(HTMLParser):
    """Collects forms, text and messages; tolerant of everything, as browsers are."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.text = ""
        self.errors: list[str] = []
        self._form: Form | None = None
        self._select: Input | None = None
        self._area: Input | None = None
        self._skip: str | None = None
        self._error: str | None = None
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if self._skip is None and tag in _SKIPPED:
            self._skip = tag
        if self._error is not None:
            self._depth += tag == self._error
        elif "error" in given.get("class", ""):
            self._error, self._depth = tag, 1
            self.errors.append("")
        self.text += " "
        if tag == "form":
            self._form = Form(given.get("action", ""), given.get("method", "get").lower() or "get")
            self.forms.append(self._form)
        elif self._form is not None:
            self._control(self._form, tag, given)

    def _control(self, form: Form, tag: str, given: dict[str, str]) -> None:
        name, kind = given.get("name", ""), given.get("type", "").lower()
        if (tag == "button" and kind in ("", "submit")) or (tag == "input" and kind in ("submit", "image")):
            form.button = form.button or (name, given.get("value", ""))
            form.buttons += 1
        elif tag == "option" and self._select is not None:
            choice = Choice(given.get("value", ""), "", "selected" in given)
            self._select.choices.append(choice)
            self._labelled = "value" in given
        elif tag in ("input", "select", "textarea") and name and "disabled" not in given:
            one = Input(
                name,
                (kind or "text") if tag == "input" else tag,
                given.get("value", ""),
                "checked" in given,
                "multiple" in given,
            )
            form.inputs.append(one)
            self._select = one if tag == "select" else self._select
            self._area = one if tag == "textarea" else self._area

    def handle_endtag(self, tag: str) -> None:
        if tag == self._skip:
            self._skip = None
        if tag == self._error:
            self._depth -= 1
            if self._depth == 0:
                self._error = None
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = None
        elif tag == "textarea":
            self._area = None
        self.text += " "

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            self._area.value += data.removeprefix("\n") if not self._area.value else data
        elif self._select is not None and self._select.choices:
            choice = self._select.choices[-1]
            choice.label += data
            if not self._labelled:
                choice.value = _spaced(choice.label)
        elif self._skip is None:
            self.text += data
            if self._error is not None:
                self.errors[-1] += data
