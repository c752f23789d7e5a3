"""Why a way back is not proven, in words that help."""

from __future__ import annotations

from pathlib import Path

import pytest
from least_plan import LEAST

from safepoint.config.load import parse
from safepoint.django.operations import NONE
from safepoint.errors import DatabaseError
from safepoint.launch.wayback import proving
from safepoint.postgres.target import Target
from safepoint.wayback.mapping.schemas import Schemas


def test_what_postgresql_said_is_told_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise DatabaseError("Making the round trip: PostgreSQL refused.", subject="shop", found="division by zero")

    monkeypatch.setattr(Schemas, "of", refused)
    nowhere = Target("127.0.0.1", 1, "shop", "postgres")
    plan = parse(LEAST, Path("/plans/launch.toml"))
    found = proving.prove_way_back(plan, nowhere, nowhere, NONE, keep=lambda *_, **__: None, cancelled=lambda: False)
    assert found.doubts == ("Making the round trip: PostgreSQL refused: division by zero",)
