"""What tests of the capture share: the books, on both versions or on one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from books import Books, books

from safepoint.postgres.target import Target


@pytest.fixture
def site(any_database: Target) -> Iterator[Books]:
    """The books on PostgreSQL 17, then 18."""
    with books(any_database) as made:
        yield made


@pytest.fixture
def one_site(database: Target) -> Iterator[Books]:
    """The books on PostgreSQL 17."""
    with books(database) as made:
        yield made
