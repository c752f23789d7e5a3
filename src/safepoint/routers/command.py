"""Traffic switched by commands of the user's own: a load balancer's CLI, a maintenance mode, a script."""

from __future__ import annotations

import time
from collections.abc import Callable

from safepoint.config import Argv, CommandRouter
from safepoint.errors import CommandFailed, RouterError
from safepoint.hosts import Host, command
from safepoint.routers.http import exchange
from safepoint.routers.router import RouterState

_OBEYED_SECONDS = 15.0
_COMMAND_SECONDS = 120.0


class Commands:
    """A router behind commands. Words of them may hold `{upstream}`, `{percent}`, `{reason}` and `{retry_after}`.

    Args:
        old: the upstream of the old release, which decides between `open_old` and `open_new`.
    """

    forgets = False  # nobody knows; how their orders last is for those to say who wrote the commands

    def __init__(self, settings: CommandRouter, host: Host, old: str) -> None:
        self.url = settings.url
        self.tells_split = settings.state is not None
        self._settings = settings
        self._host = host
        self._old = old

    def close(self, reason: str) -> None:
        """See `Router.close`. Believed when `url` answers 503."""
        self._order(self._settings.close, reason=reason)
        self._await(lambda: self.state().mode == "closed", "close", "an answer with status 503")

    def open(self, upstream: str) -> None:
        """See `Router.open`. Believed when `url` no longer answers 503."""
        argv = self._settings.open_old if upstream == self._old else self._settings.open_new
        self._order(argv, upstream=upstream)
        self._await(lambda: self.state().mode == "open", "open", "an answer with another status than 503")

    def split(self, upstream: str, percent: int) -> None:
        """See `Router.split`."""
        if self._settings.split is None:
            raise RouterError(
                "This router cannot let in a part of the clients: the plan file has no command for it.",
                subject="router.split",
                remedy="Give `router.split` a command with {upstream} and {percent}. A conductor that lives has read "
                "the plan file already: end it (Ctrl-C), then `safepoint launch` goes on.",
            )
        self._order(self._settings.split, upstream=upstream, percent=str(percent))

    def state(self) -> RouterState:
        """What the `state` command says; without one, what a request sees (which is either side of a split)."""
        if self._settings.state is not None:
            return parse_state(self._run(self._settings.state))
        answer = exchange("GET", self.url, headers={"Accept": "*/*"}, remedy="Check `router.url` in the plan file.")
        return RouterState("closed" if answer.status == 503 else "open")

    def check(self) -> RouterState:
        """See `Router.check`."""
        return self.state()

    def _order(self, argv: Argv, **values: str) -> None:
        retry_after = max(1, round(self._settings.retry_after.total_seconds()))
        self._run(filled(argv, retry_after=str(retry_after), **values))

    def _run(self, argv: Argv) -> str:
        try:
            return self._host.run(command(argv), timeout=_COMMAND_SECONDS).stdout
        except CommandFailed as error:
            raise RouterError(
                "The router's command failed.",
                subject=error.subject,
                expected=error.expected,
                found=error.found or error.message,
                remedy="Run it by hand; traffic is as it was unless the command did a part of its work.",
            ) from error

    def _await(self, obeyed: Callable[[], bool], order: str, expected: str) -> None:
        """Load balancers may take a moment to do what their CLI accepted."""
        deadline = time.monotonic() + _OBEYED_SECONDS
        while not obeyed():
            if time.monotonic() > deadline:
                raise RouterError(
                    f"The router's command for `{order}` succeeded, but {self.url} does not behave so.",
                    subject=self.url,
                    expected=f"{expected} within {_OBEYED_SECONDS:g} s",
                    found=str(self.state()),
                    remedy="Run the command by hand and look; or give `router.state` a command that knows.",
                )
            time.sleep(0.1)


def filled(argv: Argv, **values: str) -> Argv:
    """Put values in place of `{name}` in words. Other braces stay: they may be the command's own (JSON, awk)."""
    words = []
    for word in argv:
        for name, value in values.items():
            word = word.replace(f"{{{name}}}", value)
        words.append(word)
    return tuple(words)


def parse_state(text: str) -> RouterState:
    """Read what a `state` command prints: `closed`, `open UPSTREAM` or `split UPSTREAM PERCENT`.

    Raises:
        RouterError: it prints something else.
    """
    match text.split():
        case ["closed"]:
            return RouterState("closed")
        case ["open"]:
            return RouterState("open")
        case ["open", upstream]:
            return RouterState("open", _plain(upstream))
        case ["split", upstream, percent] if percent.rstrip("%").isdigit():
            return RouterState("split", _plain(upstream), int(percent.rstrip("%")))
        case _:
            raise RouterError(
                "The router's `state` command does not say what it should.",
                subject="router.state",
                expected="closed, open UPSTREAM, or split UPSTREAM PERCENT",
                found=text.strip()[:200] or "nothing",
                remedy="Correct the command, or leave `router.state` out: then the router is asked over HTTP.",
            )


def _plain(upstream: str) -> str:
    """As the plan file writes it: what a program prints is compared with that."""
    return upstream.removeprefix("http://").rstrip("/")
