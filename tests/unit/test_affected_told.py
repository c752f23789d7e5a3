"""Who is affected, as the support people read it: nothing that is lost is called put away, nobody is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from safepoint.launch.report.affected import affected_page
from safepoint.wayback.affected.accounts import Account, Item
from safepoint.wayback.affected.affected import Affected, Gathering, Totals
from safepoint.wayback.affected.letters import Words, letter
from safepoint.wayback.affected.lines import Row

WORDS = Words("shop", "1.0", "2.0")


@pytest.fixture
def gathering(tmp_path: Path) -> Iterator[Gathering]:
    with Gathering(tmp_path) as found:
        yield found


class Nobody:
    """A user table in which nobody stands any more."""

    def people(self, *_asked: Any) -> dict[str, Any]:
        return {}


def row(
    user: str, number: int, fate: str, reason: str = "", table: str = "invoice", action: str = "insert", later: int = 0
) -> Row:
    at = f"2026-03-01T{8 + later:02}:{number // 60 % 60:02}:{number % 60:02}.000+00:00"
    return Row(at, 1, "0/1", table, action, f"id={number}", user, "row", False, "", fate, reason, f"id={number}")


def accounts(gathering: Gathering) -> list[Account]:
    return list(gathering.accounts(Nobody(), None, ()))  # type: ignore[arg-type]


def sections(text: str) -> dict[str, list[str]]:
    """The lines of a letter below each of its headings."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("- "):
            found.setdefault(heading, []).append(line)
        elif line:
            heading = line
    return found


def test_what_is_lost_is_told_also_of_a_user_of_whom_much_else_is_put_away(gathering: Gathering) -> None:
    for number in range(500):
        gathering.add(row("ann", number, "stashed", "the old release has no such table: kept for the next launch"))
    for number in range(500, 530):
        gathering.add(row("ann", number, "not carried", "another row has the same number"))
    (ann,) = accounts(gathering)
    told = sections(letter(ann, WORDS))
    (gone,) = (lines for heading, lines in told.items() if "enter them again" in heading)
    assert gone[0].startswith("- 2026-03-01 08:08 UTC: insert of invoice id=500")
    assert gone[-1] == "- and 10 more" and len(gone) == 21
    (away,) = (lines for heading, lines in told.items() if "come back" in heading)
    assert away[-1] == "- and 480 more that are put away or were kept in part"


def test_times_are_those_of_the_plans_zone_as_in_the_report(gathering: Gathering) -> None:
    """The page said UTC, and its letters too: a user in Berlin looked for what was done an hour later."""
    gathering.add(row("ann", 0, "not carried", "it was discarded"))
    (ann,) = accounts(gathering)
    berlin = replace(WORDS, zone=ZoneInfo("Europe/Berlin"))
    told = letter(ann, berlin)
    assert "At 2026-03-01 09:00 CET you made 1 change." in told
    assert "- 2026-03-01 09:00 CET: insert of invoice id=0" in told
    page = affected_page(Affected(gathering.totals(), "a.csv", "b.csv", (), (ann,)), berlin, "shop-2.0")
    assert "times are Europe/Berlin" in page and ">2026-03-01 09:00:00<" in page and "UTC" not in page
    gathering.add(replace(row("bob", 1, "not carried", "it was discarded"), committed_at="unknown"))
    (bob,) = (one for one in accounts(gathering) if one.user == "bob")
    assert "At a time not known you made 1 change." in letter(bob, berlin)


def test_a_row_that_was_changed_several_times_has_one_line(gathering: Gathering) -> None:
    for number in range(30):
        gathering.add(row("ann", number, "not carried", "its customer is not there"))
        for hour in (1, 2, 3):
            gathering.add(row("ann", number, "not carried", f"reason {hour}", action="update", later=hour))
    gathering.add(row("ann", 1, "not carried", "reason 4", action="delete", later=4))
    for number in range(40, 43):
        gathering.add(row("ann", number, "stashed", "kept", action="update"))
        gathering.add(row("ann", number, "stashed", "kept", action="update", later=1))
    (ann,) = accounts(gathering)
    assert (ann.lost, ann.stashed) == (121, 6)  # these are changes
    told = sections(text := letter(ann, WORDS))
    (gone,) = (lines for heading, lines in told.items() if "enter them again" in heading)
    assert gone[0] == "- 2026-03-01 11:00 UTC: insert of invoice id=0 (reason 3)"
    assert gone[1] == "- 2026-03-01 12:00 UTC: delete of invoice id=1 (reason 4)"
    assert gone[-1] == "- and 10 more" and len(gone) == 21
    (away,) = (lines for heading, lines in told.items() if "come back" in heading)
    assert len(away) == 3 and "more that are put away" not in text
    assert "and 13 more, in affected.csv" in page_of(gathering)


def test_rows_without_a_key_are_told_each_by_itself(gathering: Gathering) -> None:
    for number in range(3):
        gathering.add(replace(row("ann", number, "not carried", "discarded"), named=""))
    (ann,) = accounts(gathering)
    assert ann.rows == {"gone": 3} and len(ann.items) == 3


@pytest.mark.parametrize(
    "reason",
    [
        "the row of public.customer that customer_id names was not carried",
        "not kept, as the table has no key: note",
        "the row of public.customer that customer_id names was not carried; kept for the next launch: note",
        "some of its rows stay: rows of public.line refer to it",
    ],
)
def test_nobody_is_promised_that_something_comes_back_which_does_not(gathering: Gathering, reason: str) -> None:
    gathering.add(row("ann", 1, "carried in part", reason))
    gathering.add(row("ann", 2, "carried in part", "kept for the next launch: note"))
    (ann,) = accounts(gathering)
    told = sections(letter(ann, WORDS))
    (away,) = (lines for heading, lines in told.items() if "come back" in heading)
    assert len(away) == 1 and "id=2" in away[0]
    (short,) = (lines for heading, lines in told.items() if "look at them" in heading)
    assert len(short) == 1 and reason in short[0]


def page_of(gathering: Gathering, shown: int = 10, notes: tuple[str, ...] = ()) -> str:
    found = [account for place, account in enumerate(accounts(gathering)) if place < shown or not account.user]
    return affected_page(Affected(gathering.totals(), "a.csv", "b.csv", notes, tuple(found)), WORDS, "shop-2.0")


def test_a_page_on_which_rows_of_nobody_were_lost_does_not_say_that_nobody_lost_anything(gathering: Gathering) -> None:
    gathering.add(row("", 1, "not carried", "it was discarded"))
    page = page_of(gathering)
    assert "Nobody has lost anything" not in page and "<h1>Somebody is affected" in page
    assert "no user known" in page and "Ask those who work with the tables" in page


def test_numbers_beside_a_name_that_is_read_from_the_right_stay_where_they_are(gathering: Gathering) -> None:
    gathering.add(row("أحمد", 1, "not carried", "it was discarded"))
    (one,) = accounts(gathering)
    named = Account(**{**vars(one), "name": "أحمد‎ علي", "email": "a\u202eb@x.org"})
    page = affected_page(Affected(gathering.totals(), "a.csv", "b.csv", (), (named,)), WORDS, "shop-2.0")
    assert "<bdi>أحمد</bdi> · <bdi>a\u202eb@x.org</bdi> · 0 kept" in page
    assert f"<b><bdi>{named.name}</bdi></b>" in page


def test_a_page_counts_what_was_kept_in_part_apart_from_what_is_put_away() -> None:
    items = (
        Item("2026-03-01T08:00", "t", "update", "id=1", "carried in part", "not kept, as the table has no key: n"),
    )
    one = Account("ann", "2026-03-01T08:00", "2026-03-01T08:00", 3, 1, 0, 0, items)
    found = Affected(Totals(1, 0, 0, 3, 1, 0, 0), "a.csv", "b.csv", (), (one,))
    page = affected_page(found, WORDS, "shop-2.0")
    assert "3 kept, 1 in part, 0 put away, 0 lost" in page and ">in part</span>" in page
