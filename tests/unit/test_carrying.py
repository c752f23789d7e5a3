"""What may be migrated a day before the launch: a copy, and nothing but the copy."""

from __future__ import annotations

from safepoint.django.pending import OtherDatabase, Pending
from safepoint.launch.verbs.carrying import elsewhere

COPY = "16384@1700000000.5"


def test_an_application_that_is_at_the_copy_and_has_no_other_database_may_be_migrated_there() -> None:
    assert elsewhere(Pending(COPY, (), ()), COPY) is None


def test_an_application_that_answers_from_another_database_is_not_migrated() -> None:
    said = elsewhere(Pending("16384@1600000000.1", (), ()), COPY)
    assert said is not None and "nothing was migrated" in said
    assert elsewhere(Pending(COPY, (), ()), None) is not None


def test_an_application_with_other_databases_is_not_migrated() -> None:
    said = elsewhere(Pending(COPY, (OtherDatabase("archive", "place", "5@1600000000.1"),), ()), COPY)
    assert said is not None and "'archive'" in said
