"""What routers decide without a server: handlers, states, words of commands, the maintenance page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safepoint.errors import RouterError
from safepoint.routers import RouterState, caddy, page
from safepoint.routers.command import filled, parse_state
from safepoint.routers.embedded import initial_config

PROXY = {"handler": "reverse_proxy", "transport": {"protocol": "http", "tls": {}}, "upstreams": [{"dial": "old:80"}]}


@given(percent=st.integers(1, 99))
def test_every_share_is_read_back_as_it_was_ordered(percent: int) -> None:
    handler = caddy.split("route", PROXY, "new:80", percent, 60)
    assert caddy.read_state(json.loads(json.dumps(handler)), "route") == RouterState("split", "new:80", percent)


@pytest.mark.parametrize("percent", [-1, 0, 100, 250])
def test_a_share_that_splits_nothing_is_refused(percent: int) -> None:
    with pytest.raises(RouterError, match="1 to 99"):
        caddy.split("route", PROXY, "new:80", percent, 60)


def test_an_owners_several_upstreams_are_read_as_they_stand() -> None:
    several = {**PROXY, "upstreams": [{"dial": "a:1"}, {"dial": "unix//run/c.sock"}]}
    assert caddy.read_state({"@id": "route", **several}, "route") == RouterState("open", "a:1,unix//run/c.sock")


def test_what_was_set_on_the_proxy_passes_through_every_mode() -> None:
    handler: dict[str, object] = {"@id": "route", **PROXY}
    for change in (
        lambda proxy: caddy.closed("route", proxy, "why", 60),
        lambda proxy: caddy.split("route", proxy, "new:80", 10, 60),
        lambda proxy: caddy.opened("route", proxy, "new:80"),
    ):
        handler = change(caddy.proxy_of(handler))
        assert handler["@id"] == "route"
        assert caddy.proxy_of(handler)["transport"] == PROXY["transport"]
        assert "@id" not in caddy.proxy_of(handler)


def test_a_plain_proxy_is_an_open_route() -> None:
    assert caddy.read_state({"@id": "route", **PROXY}, "route") == RouterState("open", "old:80")


@pytest.mark.parametrize("handler", [{"handler": "file_server"}, {"handler": "subroute", "routes": []}])
def test_a_handler_that_is_not_ours_is_no_state(handler: dict[str, object]) -> None:
    with pytest.raises(RouterError, match="not made by Safepoint"):
        caddy.read_state(handler, "route")


def test_no_placeholder_of_caddy_gets_into_an_answer() -> None:
    text = json.dumps(caddy.closed("route", PROXY, "{env.SECRET} and {file./etc/passwd}", 60))
    assert "{env." not in text and "{file." not in text


@pytest.mark.parametrize(("upstream", "mode"), [(None, "closed"), ("a:1", "open")])
def test_the_first_configuration_listens_on_the_loopback_interface_only(upstream: str | None, mode: str) -> None:
    config = initial_config(8080, 2019, upstream)
    server = config["apps"]["http"]["servers"]["safepoint"]
    assert server["listen"] == ["127.0.0.1:8080"] and config["admin"]["listen"] == "127.0.0.1:2019"
    assert server["automatic_https"] == {"disable": True} and "logs" not in server
    assert caddy.read_state(server["routes"][0]["handle"][0], "safepoint").mode == mode


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_page_needs_nothing_from_elsewhere_and_tries_again_by_itself() -> None:
    html = page.as_html("We move <script>alert(1)</script> to 100 %.", 90)
    tags = _Tags()
    tags.feed(html)
    assert "script" not in [tag for tag, _attributes in tags.seen]
    assert not [attributes for _tag, attributes in tags.seen if {"src", "href"} & attributes.keys()]
    assert "url(" not in html and "@import" not in html
    assert ("meta", {"http-equiv": "refresh", "content": "90"}) in tags.seen
    assert "to 100 %." in html and "every 90 seconds" in html


def test_the_line_for_programs_is_one_line() -> None:
    assert page.as_text("two\nlines.", 60) == "Closed for maintenance: two lines. Try again in 60 s.\n"


def test_words_are_filled_and_other_braces_stay() -> None:
    argv = ("lb", "set", "{upstream}:{percent}", '{"weight": {percent}}', "{print $1}")
    assert filled(argv, upstream="new:80", percent="10") == (
        "lb", "set", "new:80:10", '{"weight": 10}', "{print $1}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("closed\n", RouterState("closed")),
        ("open", RouterState("open")),
        ("open new:80\n", RouterState("open", "new:80")),
        ("open http://new:80/", RouterState("open", "new:80")),
        ("split new:80 10%\n", RouterState("split", "new:80", 10)),
    ],
)
def test_what_a_state_command_prints_is_read(text: str, state: RouterState) -> None:
    assert parse_state(text) == state
    assert json.loads(json.dumps(state.as_json()))["mode"] == state.mode


@pytest.mark.parametrize("text", ["", "opened", "split new", "split new many", "open a b", "Error: no such server"])
def test_what_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(RouterError, match="closed, open UPSTREAM"):
        parse_state(text)


def test_other_proxies_to_the_same_release_are_counted_and_ours_and_others_are_not() -> None:
    def proxy(dial: str) -> dict[str, Any]:
        return {"handler": "reverse_proxy", "upstreams": [{"dial": dial}]}

    ours = {"@id": "safepoint", "handler": "subroute", "routes": [{"handle": [proxy("old:1")]}]}
    routes: list[Any] = [{"handle": [ours]}, {"handle": [proxy("search:9")]}]
    config = {"servers": {"main": {"routes": [{"handle": [{"handler": "subroute", "routes": routes}]}]}}}
    assert caddy.ways_past(config, "safepoint", {"old:1"}) == 0
    routes.append({"match": [{"path": ["/api/*"]}], "handle": [proxy("old:1")]})
    assert caddy.ways_past(config, "safepoint", {"old:1"}) == 1
    assert caddy.ways_past({**config, "more": [proxy("old:1")]}, "safepoint", {"old:1"}) == 2
