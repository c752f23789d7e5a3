"""Who is affected by a rollback, as a page for the people who tell them. Pure; it holds personal data."""

from __future__ import annotations

from html import escape

from safepoint.launch.report.page import page
from safepoint.wayback.affected.accounts import Account
from safepoint.wayback.affected.affected import Affected
from safepoint.wayback.affected.letters import Words, letter

_CHIPS = {
    "carried in part": ("running", "in part"),
    "stashed": ("running", "put away"),
    "not carried": ("fail", "lost"),
}
_ROWS = 20  # of each user, those that are lost first


def affected_page(found: Affected, words: Words, launch_id: str) -> str:
    """The whole page: numbers, then each affected user with the rows, the reasons and the text to send."""
    sums = found.totals
    tone = "bad" if sums.lost else "warn" if sums.users or sums.unknown or found.notes else "good"
    notes = "".join(f"<dt>Note</dt><dd>{escape(note)}</dd>" for note in found.notes)
    other = "other user" if sums.users else "user"
    others = f"1 {other}" if sums.whole == 1 else f"{sums.whole:,} {other}s"
    whole = f"Everything that {others} wrote was kept." if sums.whole else ""
    unknown = (
        f"<dt>Unknown</dt><dd>Changes that were not carried whole and lead to no user: {sums.unknown:,}, "
        "at the end of this page.</dd>"
        if sums.unknown
        else ""
    )
    head = (
        f'<div class="over"><span>Launch <code>{escape(launch_id)}</code>, taken back from {escape(words.new)} to '
        f"{escape(words.old)}</span><span>times are {escape(str(words.zone))}</span></div>"
        f'<section class="verdict {tone}"><div class="word">who is affected</div><h1>{_headline(found)}</h1><dl>'
        f"<dt>Kept</dt><dd>{sums.carried:,} changes were carried back as they were. {whole}</dd>{unknown}"
        f"{_to_do(found)}{notes}"
        "<dt>Personal</dt><dd>This page holds names, addresses and what people wrote: it is not for everyone.</dd>"
        "</dl></section>"
    )
    numbers = (
        (sums.carried, "changes carried back whole"),
        (sums.part, "carried in part"),
        (sums.stashed, "put away whole for the next launch"),
        (sums.lost, "lost: not carried"),
    )
    tiles = "".join(f"<div><b>{count:,}</b><span>{label}</span></div>" for count, label in numbers)
    parts = [head, f'<section class="numbers">{tiles}</section>']
    if found.accounts:
        parts.append("<h2>By user, those who lost most first</h2>")
        parts.append(f'<div class="frame">{"".join(_account(account, words) for account in found.accounts)}</div>')
    left = sums.users + bool(sums.unknown) - len(found.accounts)
    if left > 0:
        parts.append(f'<p class="quiet">{left:,} more users stand in the file with the letters.</p>')
    parts.append(
        '<p class="quiet">Every changed row with its user and its fate stands in affected.csv (what is put away is '
        "called stashed there, what is lost not carried); a line for each affected user, with name, address and the "
        "text to send, in affected-users.csv.</p>"
    )
    return page(f"{words.application}: who is affected", "\n".join(parts))


def _headline(found: Affected) -> str:
    sums = found.totals
    if sums.users:
        return f"{sums.users:,} {'user is' if sums.users == 1 else 'users are'} affected"
    if sums.unknown:
        return "Somebody is affected, and nobody knows who"
    return "Nobody is known to have lost anything" if found.notes else "Nobody has lost anything"


def _to_do(found: Affected) -> str:
    sums, parts = found.totals, []
    if sums.users:
        parts.append("Send each user the text below: affected-users.csv has a line for each, to merge into mails.")
    if sums.unknown:
        parts.append("Ask those who work with the tables at the end of this page who wrote there.")
    if sums.lost:
        parts.append("What is lost has to be entered again: the old release does not have it.")
    if sums.part:
        parts.append("What was carried in part is there; beside each row stands what of it is missing, and why.")
    if sums.stashed or sums.part:
        parts.append("What is put away, or kept for the next launch, comes back with that: nobody enters it again.")
    return f"<dt>To do</dt><dd>{'<br>'.join(parts)}</dd>" if parts else ""


def _account(account: Account, words: Words) -> str:
    known = bool(account.user)
    who = f"<bdi>{escape(account.name or account.user)}</bdi>" if known else "no user known"
    names = [
        one for one in dict.fromkeys((account.user, account.email)) if one and one != (account.name or account.user)
    ]
    tone, word = ("fail", "lost") if account.lost else ("running", "put away" if account.stashed else "in part")
    counts = f"{account.carried:,} kept, {account.part:,} in part, {account.stashed:,} put away, {account.lost:,} lost"
    # A name that is read from the right must not take the numbers beside it along.
    told = " · ".join([*(f"<bdi>{escape(name)}</bdi>" for name in names), counts])
    text = (
        f'<details><summary>Text to send</summary><pre dir="auto">{escape(letter(account, words))}</pre></details>'
        if known
        else ""
    )
    return (
        f'<details class="step user"{" open" if account.lost else ""}><summary><span>{_chip(tone, word)}</span>'
        f'<span><b>{who}</b></span><span class="sum">{told}</span></summary>'
        f'<div class="proof">{_items(account, words)}{text}</div></details>'
    )


def _items(account: Account, words: Words) -> str:
    head = "<tr><th>When</th><th>Row</th><th>What was done</th><th>Fate</th><th>Why</th></tr>"
    rows = "".join(
        f'<tr><td class="num">{_second(item.at, words)}</td><td class="long">{escape(item.table)} '
        f"<bdi>{escape(item.key)}</bdi></td><td>{escape(item.action)}</td>"
        f"<td>{_chip(*_CHIPS[item.fate])}</td>"
        f'<td class="long">{escape(item.reason)}</td></tr>'
        for item in account.items[:_ROWS]
    )
    left = sum(account.rows.values()) - min(len(account.items), _ROWS)
    more = f'<p class="quiet">and {left:,} more, in affected.csv</p>' if left > 0 else ""
    return f'<table class="grid stacked">{head}{rows}</table>{more}'


def _second(moment: str, words: Words) -> str:
    at = words.on_the_wall(moment)
    return "unknown" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _chip(tone: str, word: str) -> str:
    return f'<span class="chip {tone}">{word}</span>'
