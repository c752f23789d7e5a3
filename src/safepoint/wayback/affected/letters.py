"""The text for a user of whose changes not all was carried back: what was kept, what is gone, what comes back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Final

from safepoint.wayback.affected.accounts import Account, Item

_GONE: Final = "These are not in the system any more; please look at them and enter them again where needed:"
_SHORT: Final = "These were kept, but not all of what you entered; please look at them:"
_AWAY: Final = "These are put away, and come back with the next update:"


@dataclass(frozen=True)
class Words:
    """What a letter says besides the rows. `zone` is the plan's, by whose clocks people live."""

    application: str
    old: str
    new: str
    zone: tzinfo = UTC

    def on_the_wall(self, moment: str) -> datetime | None:
        """A recorded time as the clocks there showed it; None where it is not known."""
        return datetime.fromisoformat(moment).astimezone(self.zone) if moment[:1].isdigit() else None


def letter(account: Account, words: Words) -> str:
    """What to write to one user."""
    count = account.carried + account.affected
    lines = [
        f"Dear {account.name or ' '.join(account.user.split())},",
        "",
        f"we had to take release {words.new} of {words.application} back to {words.old}. {_span(account, words)} "
        f"you made {count} change{'s' if count > 1 else ''}. {_kept(account)}",
        *_part(words, _GONE, account.of("gone"), account.left("gone")),
        *_part(words, _SHORT, account.of("short")),
        *_part(words, _AWAY, account.of("away")),
    ]
    left = account.left("short", "away")
    if left:
        lines.append(f"- and {left} more that are put away or were kept in part")
    return "\n".join(lines)


def _span(account: Account, words: Words) -> str:
    first, last = _minute(account.first, words), _minute(account.last, words)
    return f"At {first}" if first == last else f"Between {first} and {last}"


def _part(words: Words, heading: str, items: Sequence[Item], left: int = 0) -> Iterator[str]:
    if items:
        yield from ("", heading)
        yield from (f"- {_item(item, words)}" for item in items)
    if left:
        yield f"- and {left} more"


def _kept(account: Account) -> str:
    kept = account.carried
    if not kept:
        return "None of them could be kept as it was." if account.affected > 1 else "It could not be kept as it was."
    return f"{kept} of them {'was' if kept == 1 else 'were'} kept as {'it was' if kept == 1 else 'they were'}."


def _item(item: Item, words: Words) -> str:
    return f"{_minute(item.at, words)}: {item.action} of {item.table} {item.key} ({item.reason})"


def _minute(moment: str, words: Words) -> str:
    at = words.on_the_wall(moment)
    return "a time not known" if at is None else f"{at:%Y-%m-%d %H:%M %Z}"
