"""Who is affected by a rollback, as a page for the people who tell them. Pure; it holds personal data."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from safepoint.launch.report.page import page
from safepoint.wayback.affected import Account, Affected, Item, Words, letter

_CHIPS = {"carried in part": "running", "stashed": "running", "not carried": "fail"}


def affected_page(found: Affected, words: Words, launch_id: str) -> str:
    """The whole page: numbers, then each affected user with the rows, the reasons and the text to send."""
    sums = found.totals
    tone = "bad" if sums.lost else "warn" if sums.users or found.notes else "good"
    people = "user is" if sums.users == 1 else "users are"
    nobody = "Nobody is known to have lost anything" if found.notes else "Nobody has lost anything"
    headline = f"{sums.users:,} {people} affected" if sums.users else nobody
    notes = "".join(f"<dt>Note</dt><dd>{escape(note)}</dd>" for note in found.notes)
    others = "1 other user" if sums.whole == 1 else f"{sums.whole:,} other users"
    whole = f"Everything that {others} wrote was kept." if sums.whole else ""
    unknown = (
        f"<dt>Unknown</dt><dd>Rows that were not carried whole and lead to no user: {sums.unknown:,}, "
        "at the end of this page.</dd>"
        if sums.unknown
        else ""
    )
    head = (
        f'<div class="over"><span>Launch <code>{escape(launch_id)}</code>, taken back from {escape(words.new)} to '
        f"{escape(words.old)}</span><span>times are UTC</span></div>"
        f'<section class="verdict {tone}"><div class="word">who is affected</div><h1>{headline}</h1><dl>'
        f"<dt>Kept</dt><dd>{sums.carried:,} changed rows were carried back as they were. {whole}</dd>{unknown}{notes}"
        "<dt>Personal</dt><dd>This page holds names, addresses and what people wrote: it is not for everyone.</dd>"
        "</dl></section>"
    )
    numbers = (
        (sums.carried, "rows carried back whole"),
        (sums.part, "carried, with values put away for the next launch"),
        (sums.stashed, "put away whole for the next launch"),
        (sums.lost, "not carried"),
    )
    tiles = "".join(f"<div><b>{count:,}</b><span>{label}</span></div>" for count, label in numbers)
    parts = [head, f'<section class="numbers">{tiles}</section>']
    if found.accounts:
        parts.append("<h2>By user, those who lost most first</h2>")
        parts.append(f'<div class="frame">{"".join(_account(account, words) for account in found.accounts)}</div>')
    left = sums.users + bool(sums.unknown) - len(found.accounts)
    if left > 0:
        parts.append(f'<p class="quiet">{left:,} more stand in the file with the letters.</p>')
    parts.append(
        '<p class="quiet">Every changed row with its user and its fate stands in affected.csv; a line for each '
        "affected user, with name, address and the text to send, in affected-users.csv.</p>"
    )
    return page(f"{words.application}: who is affected", "\n".join(parts))


def _account(account: Account, words: Words) -> str:
    known = bool(account.user)
    who = escape(account.name or account.user) if known else "no user known"
    names = [
        one for one in dict.fromkeys((account.user, account.email)) if one and one != (account.name or account.user)
    ]
    chip = '<span class="chip fail">lost</span>' if account.lost else '<span class="chip running">put away</span>'
    counts = f"{account.carried:,} kept, {account.part + account.stashed:,} put away, {account.lost:,} lost"
    text = (
        f"<details><summary>Text to send</summary><pre>{escape(letter(account, words))}</pre></details>"
        if known
        else ""
    )
    return (
        f'<details class="step"{" open" if account.lost else ""}><summary><span>{chip}</span><span></span>'
        f"<span><b>{who}</b></span><span></span>"
        f'<span class="sum">{escape(" · ".join([*names, counts]))}</span></summary>'
        f'<div class="proof">{_items(account.items)}{_more(account)}{text}</div></details>'
    )


def _items(items: Iterable[Item]) -> str:
    head = "<tr><th>When</th><th>Row</th><th>What was done</th><th>Fate</th><th>Why</th></tr>"
    rows = "".join(
        f'<tr><td class="num">{escape(item.at[:19].replace("T", " "))}</td><td class="long">{escape(item.table)} '
        f"{escape(item.key)}</td><td>{escape(item.action)}</td>"
        f'<td><span class="chip {_CHIPS[item.fate]}">{item.fate}</span></td>'
        f'<td class="long">{escape(item.reason)}</td></tr>'
        for item in items
    )
    return f'<table class="grid">{head}{rows}</table>'


def _more(account: Account) -> str:
    return f'<p class="quiet">and {account.more:,} more, in affected.csv</p>' if account.more else ""
