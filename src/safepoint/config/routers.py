"""`[router]` of the plan file: what lets traffic through, and to which release."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from safepoint.config.section import Argv, Duration, Name, Section, Url


class CaddyRouter(Section):
    """Caddy, through its admin API."""

    kind: Literal["caddy"]
    admin: Url = "http://127.0.0.1:2019"
    """Where the admin API answers."""
    route: Name = "safepoint"
    """The `@id` of the handler in Caddy's configuration that Safepoint may replace."""
    url: Url
    """The address that people use, by which each order is seen to be obeyed."""
    retry_after: Duration = timedelta(seconds=60)
    """When the maintenance page asks browsers to come again."""


class CommandRouter(Section):
    """Any other router, by commands of your own (a load balancer's CLI, a maintenance mode). `{upstream}`, `{percent}`,
    `{reason}` and `{retry_after}` in their words are filled in.
    """

    kind: Literal["command"]
    host: str = "here"
    """The host that runs the commands: one of `[hosts]`."""
    url: Url
    """The address that people use: 503 there means closed."""
    close: Argv
    """Answers everyone with 503 and Retry-After."""
    open_old: Argv
    """Lets everyone in, to the old release."""
    open_new: Argv
    """Lets everyone in, to the new release."""
    split: Argv | None = None
    """Lets `{percent}` of the clients in to `{upstream}`, who stay there. Without it a launch has no canary."""
    state: Argv | None = None
    """Prints `closed`, `open UPSTREAM` or `split UPSTREAM PERCENT`. Without it `url` is asked, which shows no split."""
    retry_after: Duration = timedelta(seconds=60)
    """When `close` asks browsers to come again."""


AnyRouter = Annotated[CaddyRouter | CommandRouter, Field(discriminator="kind")]
