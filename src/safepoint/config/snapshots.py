"""`[snapshot]` and `[[stores]]` of the plan file: how snapshots are made, where they are kept, and for how long."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from safepoint.config.section import Duration, Section


class KeepRules(Section):
    """What stays beyond `keep`: the newest proven snapshot of each of so many days, weeks and months."""

    daily: int = Field(default=0, ge=0)
    """Days, in UTC."""
    weekly: int = Field(default=0, ge=0)
    """Weeks, which begin on Monday."""
    monthly: int = Field(default=0, ge=0)
    """Months."""


class SnapshotSettings(Section):
    """How snapshots are dumped, how long they stay on this machine, and to whom they are encrypted on leaving it."""

    jobs: int = Field(default_factory=lambda: max(1, min(os.cpu_count() or 1, 8)), ge=1, le=64)
    """Connections that dump and restore at once; a number for this machine otherwise: its processors, 8 at most."""
    compress: str = "zstd:1"
    """`pg_dump --compress`: a method, with a level: `zstd:1`, `gzip:6`, `lz4`, `none`."""
    max_age: Duration = timedelta(hours=2)
    """How old the final snapshot may be when the window opens; with an older one the gate says no."""
    keep: Duration = timedelta(days=30)
    """How long each stays on this machine, until `safepoint prune` lets it go: 30 days at least."""
    keep_rules: KeepRules = KeepRules()
    encrypt_to: tuple[str, ...] = ()
    """Who can open what leaves this machine: age recipients (`age1...`) or SSH public keys; empty: in the clear."""


class Store(Section):
    """One place where snapshots are kept. Have one offsite."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")
    """What it is called in commands and reports."""
    url: str
    """Any fsspec URL: `file:backups`, `s3://bucket/prefix`, `sftp://host/folder`, `gs://`, `az://` ..."""
    options: dict[str, Any] = {}
    """What fsspec needs to know beyond the URL. A key that ends in `_env` names the variable that has its value."""
    keep: Duration = timedelta(days=30)
    """How long each snapshot stays there, until `safepoint prune` lets it go: 30 days at least."""
    keep_rules: KeepRules = KeepRules()
    lock: Literal["auto", "none", "governance", "compliance"] = "auto"
    """How what is written to S3 is locked for the time of `keep`, where the bucket has Object Lock. `auto`: by the
    bucket's default retention, and `governance` where it has none.
    """
    encrypt_to: tuple[str, ...] | None = None
    """As `snapshot.encrypt_to`, which holds unless the store says something else (an empty list: in the clear)."""
