"""Is another database led away from the live one? Only where that is seen; nothing runs here."""

from __future__ import annotations

from safepoint.django.pending import OtherDatabase, Pending
from safepoint.launch.rehearsal.others import led_elsewhere

LIVE = (OtherDatabase("archive", "a", "5@1"), OtherDatabase("mirror", "m", "5@1"))


def test_another_address_of_the_same_database_is_not_elsewhere() -> None:
    assert led_elsewhere(OtherDatabase("archive", "b", "6@2"), LIVE)
    assert not led_elsewhere(OtherDatabase("archive", "b", "5@1"), LIVE)  # by another name of its server
    assert not led_elsewhere(OtherDatabase("archive", "m", "6@2"), LIVE)


def test_what_does_not_answer_may_be_the_live_one() -> None:
    assert not led_elsewhere(OtherDatabase("archive", "b", None), LIVE)
    assert not led_elsewhere(OtherDatabase("archive", "b", "6@2"), (OtherDatabase("archive", "a", None),))
    assert not led_elsewhere(OtherDatabase("archive", "b", "6@2"), None)


def test_what_can_say_nothing_of_itself_goes_by_its_address() -> None:
    files = (OtherDatabase("files", "f", None, vendor="sqlite"),)
    assert led_elsewhere(OtherDatabase("files", "g", None, vendor="sqlite"), (*files, *LIVE))
    assert not led_elsewhere(OtherDatabase("files", "f", None, vendor="sqlite"), files)


def test_the_copy_by_another_alias_and_what_can_only_be_read_are_not_exposed() -> None:
    others = (OtherDatabase("same", "a", "1@1"), OtherDatabase("standby", "b", "2@2", writable=False))
    assert Pending("1@1", others, ()).exposed == ()
    assert Pending("1@1", (OtherDatabase("dead", "c"),), ()).exposed != ()
