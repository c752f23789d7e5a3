"""`[hosts.NAME]` of the plan file: where commands run. `here` needs no entry, and nothing is installed anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from safepoint.config.section import Argv, Section


class HereHost(Section):
    """Commands run on the machine of the conductor."""

    kind: Literal["here"] = "here"
    directory: Path | None = None
    """The folder that commands start in; the plan file's own otherwise."""


class ComposeHost(Section):
    """Commands run by `docker compose exec -T SERVICE` (or the older `docker-compose`)."""

    kind: Literal["compose"]
    service: str
    """The service whose container runs the commands; it must be up."""
    project: Path
    """The folder with the Compose file."""
    command: Argv = ("docker", "compose")
    """How Compose is called: `["docker-compose"]` where it is the older one."""
    directory: str | None = None
    """The folder in the container that commands start in; the image's own otherwise."""
    user: str | None = None
    """Who runs them in the container; the image's own user otherwise."""


class SshHost(Section):
    """Commands run over OpenSSH; what is not said here comes from the operator's `ssh_config`. Its sshd has to allow a
    reverse forward (AllowTcpForwarding), by which the application reaches the copies that it is tried on."""

    kind: Literal["ssh"]
    address: str
    """A name or an address, or a `Host` of `ssh_config`."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """The port of its sshd."""
    user: str | None = None
    """Who logs in there."""
    identity: Path | None = None
    """The file of the private key; it must open without a question (an agent, or no passphrase)."""
    options: tuple[str, ...] = ()
    """Further words for `ssh`, such as `["-J", "bastion"]`."""
    directory: str | None = None
    """The folder there that commands start in; the login's home otherwise."""


AnyHost = Annotated[HereHost | ComposeHost | SshHost, Field(discriminator="kind")]
