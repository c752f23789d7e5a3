"""Monitored checks, each with a baseline, a value now and a limit. Measuring and judging are kept apart."""
