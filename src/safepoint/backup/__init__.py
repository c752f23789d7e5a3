"""Snapshots: taken, fingerprinted, proven, kept, found again."""
