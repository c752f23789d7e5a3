"""The pages as people see them: on a phone, in the dark, without network; measured in Chromium."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from least_plan import SOMEDAY

from safepoint.config import load
from safepoint.launch.plan import make_plan
from safepoint.launch.report.affected import affected_page
from safepoint.launch.report.page import page
from safepoint.launch.report.timetable import timetable_page
from safepoint.wayback.affected.accounts import Account, Item
from safepoint.wayback.affected.affected import Affected, Totals
from safepoint.wayback.affected.letters import Words

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")


@pytest.fixture
def phone() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_context(viewport={"width": 360, "height": 800}, offline=True).new_page()
        browser.close()


@needs_chromium
def test_on_a_phone_who_is_affected_stands_with_name_numbers_rows_and_reasons(phone: Any, tmp_path: Path) -> None:
    at, why = "2026-03-01T08:00:00.000+00:00", "the row of public.ledger_customer that it refers to was put aside"
    items = tuple(Item(at, "ledger_journalentry", "update", f"id={n}", "not carried", why) for n in range(5))
    one = Account("maximiliane.mustermann@accounting.example.com", at, at, 3, 0, 0, 5, items, "Maximiliane Mustermann")
    found = Affected(Totals(1, 0, 0, 3, 0, 0, 5), "a.csv", "b.csv", (), (one,))
    file = tmp_path / "affected.html"
    file.write_text(affected_page(found, Words("accounting", "1.0", "2.0"), "accounting-2.0-20260301"))
    phone.goto(file.as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    for text in ("Maximiliane Mustermann", "3 kept, 0 in part, 0 put away, 5 lost", why):
        box = phone.get_by_text(text).first.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["height"] < 130, text


@needs_chromium
def test_on_a_phone_no_long_path_makes_a_page_wider_than_the_screen(phone: Any, tmp_path: Path) -> None:
    path = "/srv/accounting/production/state/launches/accounting-2.0-20260301/affected.html"
    step = (
        '<details class="step"><summary><span><span class="chip inconclusive">inconclusive</span></span><span '
        'class="num at">09:00:09</span><span>Go for the canary?</span><span class="num">0.01 s</span><span class="sum">'
        "in doubt: no login is configured</span></summary></details>"
    )
    body = f'<section class="verdict bad"><h1>a</h1><dl><dt>Next</dt><dd>See {path}.</dd></dl></section>{step}'
    file = tmp_path / "report.html"
    file.write_text(page("a", body))
    phone.goto(file.as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth") == 360
    assert phone.get_by_text("in doubt: no login is configured").is_visible()
    chip, title = (phone.get_by_text(text).bounding_box() for text in ("inconclusive", "Go for the canary?"))
    assert chip["x"] + chip["width"] <= title["x"]


@needs_chromium
def test_on_a_phone_a_moment_of_the_timetable_stands_in_one_line(phone: Any, tmp_path: Path) -> None:
    (tmp_path / "launch.toml").write_text(SOMEDAY.format(port=1))
    plan = load(tmp_path / "launch.toml")
    file = tmp_path / "timetable.html"
    file.write_text(timetable_page(make_plan(plan), plan.launch.date))
    phone.goto(file.as_uri())
    box = phone.locator("td b").first.bounding_box()
    assert box["height"] < 30 and phone.evaluate("document.documentElement.scrollWidth") == 360


def test_texts_stand_out_from_their_ground_in_the_light_and_in_the_dark() -> None:
    """WCAG 2.1, 1.4.3: a contrast of 4.5 to 1."""
    style = files("safepoint.launch.report").joinpath("page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    )
    for colours in (light, dark):
        tones = ("good", "bad", "warn", "ask", "busy")
        pairs = [(colours[tone], colours[f"{tone}-ground"]) for tone in tones]
        pairs += [(colours[tone], colours["paper"]) for tone in tones]
        pairs += [
            (colours["soft"], colours[ground])
            for ground in ("ground", "paper", "shade", *(f"{t}-ground" for t in tones))
        ]
        pairs += [("#ffffff", colours["old"]), ("#ffffff", colours["new"]), ("#14210c", colours["canary"])]
        assert [pair for pair in pairs if contrast(*pair) < 4.5] == []


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
