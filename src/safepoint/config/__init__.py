"""`launch.toml` -> frozen models. Start with `load`."""

from safepoint.config.checkpoints import Checkpoints, Login
from safepoint.config.database import Application, Database, Variables
from safepoint.config.durations import Moment, format_bytes, format_duration, parse_duration
from safepoint.config.hosts import AnyHost, ComposeHost, HereHost, SshHost
from safepoint.config.load import load, parse, state_folders
from safepoint.config.plan_file import PlanFile
from safepoint.config.releases import Release
from safepoint.config.routers import AnyRouter, CaddyRouter, CommandRouter
from safepoint.config.scratch import ScratchServer
from safepoint.config.section import Argv, ServerLogin
from safepoint.config.snapshots import KeepRules, Store
from safepoint.config.wayback import TwinServer

__all__ = [
    "AnyHost",
    "AnyRouter",
    "Application",
    "Argv",
    "CaddyRouter",
    "Checkpoints",
    "CommandRouter",
    "ComposeHost",
    "Database",
    "HereHost",
    "KeepRules",
    "Login",
    "Moment",
    "PlanFile",
    "Release",
    "ScratchServer",
    "ServerLogin",
    "SshHost",
    "Store",
    "TwinServer",
    "Variables",
    "format_bytes",
    "format_duration",
    "load",
    "parse",
    "parse_duration",
    "state_folders",
]
