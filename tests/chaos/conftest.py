"""The long runs play on the stages of the acceptance and the integration tests."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
for folder in (TESTS / "acceptance", TESTS / "integration", TESTS.parent / "demo"):
    sys.path.insert(0, str(folder))
