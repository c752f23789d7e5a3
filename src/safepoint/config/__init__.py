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
    "SshHost",
    "Store",
    "format_bytes",
    "format_duration",
    "load",
    "parse_duration",
]
