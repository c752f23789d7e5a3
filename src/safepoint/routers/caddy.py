"""Caddy through its admin API (https://caddyserver.com/docs/api): one handler of its configuration is replaced.

The handler that the plan file names by its `@id` becomes a subroute that ends in the `reverse_proxy` to the release.
What stands before that proxy makes the mode: nothing (open), the maintenance answer (closed), or a draw by cookie with
the maintenance answer for those who are not let in (split). The proxy always stays, with whatever else was set on it
(transport, headers): only its upstreams change. Caddy swaps its configuration as a whole; requests in flight finish on
the one that they began with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from safepoint.config import CaddyRouter
from safepoint.errors import RouterError
from safepoint.routers import page
from safepoint.routers.http import Answer, exchange
from safepoint.routers.router import RouterState

COOKIE = "safepoint"
"""Holds a client's draw for ever: a random UUID; it is let in while that is below the share, read as a fraction."""

_DRAWS = 1 << 32
_COOKIE_SECONDS = 14 * 24 * 3600
_DRAWN = f"{{http.request.cookie.{COOKIE}}}.matches('^[0-9a-f]{{8}}-[0-9a-f-]{{27}}$')"
_OUT = re.compile(r">= '([0-9a-f]{8})'")

Handler = dict[str, Any]


class Caddy:
    """A Caddy whose configuration holds a handler with the `@id` of the plan file."""

    tells_split = True
    forgets = True  # unless it is started with --resume, which the admin API does not tell

    def __init__(self, settings: CaddyRouter) -> None:
        self.url = settings.url
        self._place = f"{settings.admin.rstrip('/')}/id/{settings.route}"
        self._admin = settings.admin
        self.route = settings.route
        self._remedy = f"Is Caddy running, with its admin API at {self._admin} (`router.admin` in the plan file)?"
        self._retry_after = max(1, round(settings.retry_after.total_seconds()))

    def close(self, reason: str) -> None:
        """See `Router.close`."""
        self._put(closed(self.route, proxy_of(self._handler()), reason, self._retry_after))

    def open(self, upstream: str) -> None:
        """See `Router.open`."""
        self._put(opened(self.route, proxy_of(self._handler()), upstream))

    def split(self, upstream: str, percent: int) -> None:
        """See `Router.split`."""
        self._put(split(self.route, proxy_of(self._handler()), upstream, percent, self._retry_after))

    def state(self) -> RouterState:
        """See `Router.state`."""
        return read_state(self._handler(), self.route)

    def check(self) -> RouterState:
        """See `Router.check`."""
        return self.state()

    def ways_past(self) -> int:
        """How many other proxies lead to where the route leads: closing it leaves them open, and opening, behind."""
        answer = exchange("GET", f"{self._admin.rstrip('/')}/config/apps/http", remedy=self._remedy)
        if answer.status != 200:
            return 0
        upstreams = {entry.get("dial") for entry in proxy_of(self._handler()).get("upstreams", [])}
        return ways_past(json.loads(answer.body), self.route, upstreams)

    def _put(self, handler: Handler) -> None:
        answer = self._ask("PATCH", json.dumps(handler).encode())
        if answer.status != 200:
            raise RouterError(
                "Caddy refused its new configuration and goes on with the old one.",
                subject=self._place,
                found=f"{answer.status}: {_said(answer)}",
                remedy="Read what Caddy says; `safepoint doctor` checks the router.",
            )
        wanted, found = read_state(handler, self.route), self.state()
        if wanted != found:
            raise RouterError(
                "Caddy took the order but its configuration says something else: is another program changing it?",
                subject=self._place,
                expected=str(wanted),
                found=str(found),
                remedy="Keep other programs away from Caddy's configuration during the launch, then retry.",
            )

    def _handler(self) -> Handler:
        answer = self._ask("GET")
        if answer.status == 404:
            raise RouterError(
                f"Caddy's configuration has no handler with the @id {self.route!r}.",
                subject=self._place,
                expected=f'a handler such as {{"@id": "{self.route}", "handler": "reverse_proxy", "upstreams": ...}}',
                found=_said(answer),
                remedy=f'Add "@id": "{self.route}" to the handler that passes requests on to the application.',
            )
        if answer.status != 200:
            raise RouterError(
                "Caddy's admin API refuses to show its configuration.",
                subject=self._place,
                found=f"{answer.status}: {_said(answer)}",
                remedy="Check `router.admin` in the plan file, and `admin.origins` in Caddy's configuration.",
            )
        try:
            handler = json.loads(answer.body)
        except ValueError:
            handler = None
        if not isinstance(handler, dict) or "handler" not in handler:
            raise RouterError(
                f"What has the @id {self.route!r} in Caddy's configuration is not a handler.",
                subject=self._place,
                expected='an object with the key "handler"',
                found=answer.body.decode(errors="replace")[:200],
                remedy=f'Move "@id": "{self.route}" to the handler that passes requests on to the application.',
            )
        return handler

    def _ask(self, method: str, body: bytes | None = None) -> Answer:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        return exchange(method, self._place, body=body, headers=headers, timeout=30, remedy=self._remedy)


def opened(route: str, proxy: Mapping[str, Any], upstream: str) -> Handler:
    """The handler that lets everyone in."""
    return _subroute(route, [{"handle": [_to(proxy, upstream)]}])


def closed(route: str, proxy: Mapping[str, Any], reason: str, retry_after: int) -> Handler:
    """The handler that lets nobody in. The proxy stands behind it, unreached, to be kept."""
    return _subroute(route, [_maintenance(reason, retry_after), {"handle": [dict(proxy)]}])


def split(route: str, proxy: Mapping[str, Any], upstream: str, percent: int, retry_after: int) -> Handler:
    """The handler that lets in those whose draw is below the share.

    The draw is `http.request.uuid`, which Caddy makes once for each request; it becomes the client's cookie.
    """
    if not 1 <= percent <= 99:
        raise RouterError(
            f"A split of {percent} % is none.",
            subject="canary.percent",
            expected="1 to 99",
            found=str(percent),
            remedy="Correct canary.percent in the plan file.",
        )
    limit = f"{round(_DRAWS * percent / 100):08x}"
    cookie, fresh = f"{{http.request.cookie.{COOKIE}}}", "{http.request.uuid}"
    set_cookie = f"{COOKIE}={fresh}; Path=/; Max-Age={_COOKIE_SECONDS}; HttpOnly; SameSite=Lax"
    draw = {
        "match": [{"expression": f"!{_DRAWN}"}],
        "handle": [{"handler": "headers", "response": {"add": {"Set-Cookie": [set_cookie]}, "deferred": True}}],
    }
    out = _maintenance("A new release is being opened step by step.", retry_after)
    out["match"] = [{"expression": f"({_DRAWN} ? {cookie} : {fresh}) >= '{limit}'"}]
    return _subroute(route, [draw, out, {"handle": [_to(proxy, upstream)]}])


def ways_past(config: Any, route: str, upstreams: Collection[Any]) -> int:
    """The proxies in a configuration that lead to one of the upstreams, and are not in the route. Pure."""
    if isinstance(config, list):
        return sum(ways_past(one, route, upstreams) for one in config)
    if not isinstance(config, dict) or config.get("@id") == route:
        return 0
    ours = config.get("handler") == "reverse_proxy" and any(
        entry.get("dial") in upstreams for entry in config.get("upstreams", [])
    )
    return ours + sum(ways_past(one, route, upstreams) for one in config.values())


def proxy_of(handler: Mapping[str, Any]) -> Handler:
    """The `reverse_proxy` in a handler, with all that the user set on it; a bare one where there is none."""
    return _found_proxy(handler) or {"handler": "reverse_proxy"}


def _found_proxy(handler: Mapping[str, Any]) -> Handler | None:
    if handler.get("handler") == "reverse_proxy":
        return {name: value for name, value in handler.items() if name != "@id"}
    inside = [inner for entry in handler.get("routes", []) for inner in entry.get("handle", [])]
    return next((found for inner in inside if (found := _found_proxy(inner))), None)


def read_state(handler: Mapping[str, Any], route: str) -> RouterState:
    """What a handler does, read from its parts.

    Raises:
        RouterError: it is none that `opened`, `closed` or `split` make, and no plain `reverse_proxy` either.
    """
    upstream = ",".join(entry.get("dial", "") for entry in proxy_of(handler).get("upstreams", [])) or None
    routes = handler.get("routes", [])
    kinds = [inner.get("handler") for entry in routes for inner in entry.get("handle", [])]
    if handler.get("handler") == "reverse_proxy" or kinds == ["reverse_proxy"]:
        return RouterState("open", upstream)
    if kinds[:1] == ["subroute"]:
        return RouterState("closed")
    if kinds == ["headers", "subroute", "reverse_proxy"]:
        limit = _OUT.search(str(routes[1].get("match")))
        if limit is not None:
            return RouterState("split", upstream, round(int(limit[1], 16) * 100 / _DRAWS))
    raise RouterError(
        f"The handler {route!r} in Caddy's configuration was not made by Safepoint, and is no reverse_proxy.",
        subject=route,
        expected="reverse_proxy, or a subroute of Safepoint's own",
        found=str(handler.get("handler")) + (f" of {', '.join(map(str, kinds))}" if kinds else ""),
        remedy=f'Give the "@id" {route!r} to the reverse_proxy handler that leads to the application.',
    )


def _subroute(route: str, routes: list[dict[str, Any]]) -> Handler:
    return {"@id": route, "handler": "subroute", "routes": routes}


def _to(proxy: Mapping[str, Any], upstream: str) -> Handler:
    return {**proxy, "upstreams": [{"dial": upstream}]}


def _maintenance(reason: str, retry_after: int) -> dict[str, Any]:
    """The answer to those who are not let in: a page for browsers, a line for programs."""

    def answer(kind: str, body: str) -> Handler:
        headers = {"Retry-After": [str(retry_after)], "Cache-Control": ["no-store"], "Content-Type": [kind]}
        return {"handler": "static_response", "status_code": 503, "headers": headers, "body": body}

    # Caddy fills in {placeholders} in a body, files and environment among them: a reason must not name any.
    harmless = reason.replace("{", "(").replace("}", ")")
    html = answer("text/html; charset=utf-8", page.as_html(harmless, retry_after))
    text = answer("text/plain; charset=utf-8", page.as_text(harmless, retry_after))
    browsers = {"match": [{"header": {"Accept": ["*text/html*"]}}], "handle": [html]}
    return {"handle": [{"handler": "subroute", "routes": [browsers, {"handle": [text]}]}]}


def _said(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["error"])
    except (ValueError, KeyError, TypeError):
        return answer.body.decode(errors="replace").strip()[:500] or "nothing"
