"""Safepoint carries a Django + PostgreSQL application through a launch, and brings it back."""

__version__ = "0.1.0"
