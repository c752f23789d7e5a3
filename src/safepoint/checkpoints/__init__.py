"""Monitored checks: a baseline, a value now, a limit, a verdict."""
