"""The report of a launch, made from its ledger alone: `model.build` for machines, `html.render` for people."""

from safepoint.launch.report.html import render
from safepoint.launch.report.model import build

__all__ = ["build", "render"]
