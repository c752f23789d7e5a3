"""`launch.toml` -> frozen models. Start with `load`."""

from safepoint.config.durations import Moment, format_bytes, format_duration, parse_duration
from safepoint.config.load import load
from safepoint.config.models import (
    AnyHost,
    AnyRouter,
    CaddyRouter,
    CommandRouter,
    ComposeHost,
    Database,
    HereHost,
    Login,
    PlanFile,
    SshHost,
    Store,
)
from safepoint.config.releases import Release
from safepoint.config.scratch import ScratchServer
from safepoint.config.section import Argv, ServerLogin
from safepoint.config.wayback import TwinServer

__all__ = [
    "AnyHost",
    "AnyRouter",
    "Argv",
    "CaddyRouter",
    "CommandRouter",
    "ComposeHost",
    "Database",
    "HereHost",
    "Login",
    "Moment",
    "PlanFile",
    "Release",
    "ScratchServer",
    "ServerLogin",
    "SshHost",
    "Store",
    "TwinServer",
    "format_bytes",
    "format_duration",
    "load",
    "parse_duration",
]
