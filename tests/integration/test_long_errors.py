"""What a migration raised is told, however much PostgreSQL says below it."""

from __future__ import annotations

import sys
from pathlib import Path

from safepoint.config import Release
from safepoint.django.managepy import Manage
from safepoint.hosts.here import Here
from safepoint.postgres.target import Target
from safepoint.rehearsal.observation import watch

# A trigger's function whose statement does not fit: the error ends with all of it.
MANAGE = r"""
import sys

print("  Applying shop.0002_price...", end="", flush=True)
statement = "\n".join(f"    || to_tsvector(coalesce(column_{n}, ''))" for n in range(30))
sys.stderr.write(
    "Traceback (most recent call last):\n  File \"shop.py\", line 1, in <module>\n    main()\n"
    "django.db.utils.DataError: cannot extract elements from an object\n"
    "CONTEXT:  PL/pgSQL assignment \"NEW.vector := (\n" + statement + "\n"
    "WHERE id = NEW.id\n)\"\nPL/pgSQL function update_vector() line 3 at assignment\n"
)
sys.exit(1)
"""


def test_what_was_raised_far_above_the_end_of_the_output_is_told(database: Target, tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text(MANAGE)
    release = Release(
        version="1",
        directory=str(tmp_path),
        manage=(sys.executable, "manage.py"),
        start=("true",),
        stop=("true",),
        upstream="127.0.0.1:1",
    )
    seen = watch(Manage(Here("here", tmp_path), release, {}, {}, str(tmp_path)), database, labels=["shop.0002_price"])
    assert seen.error is not None
    assert "django.db.utils.DataError: cannot extract elements from an object" in seen.error.message
    assert seen.error.subject == "shop.0002_price" and len(seen.error.message) < 600
