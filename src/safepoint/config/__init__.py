"""`launch.toml` -> frozen models. Start with `load`."""

from safepoint.config.durations import Moment, format_bytes, format_duration, parse_duration
from safepoint.config.load import load
from safepoint.config.models import (
    AnyHost,
    AnyRouter,
    Argv,
    CaddyRouter,
    CommandRouter,
    ComposeHost,
    Database,
    HereHost,
    Login,
    PlanFile,
    Release,
    SshHost,
    Store,
)
from safepoint.config.scratch import ScratchServer

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
    "SshHost",
    "Store",
    "format_bytes",
    "format_duration",
    "load",
    "parse_duration",
]
