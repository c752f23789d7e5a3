"""Snapshots of a plan file: which there are, which may go, and restoring one."""
