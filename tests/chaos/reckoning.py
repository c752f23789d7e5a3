"""The books of the accounting site after a run: each acknowledged entry is there, whole and once, or told as lost."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from posted import acknowledged, unknown
from stage import Stage

ENTRIES = "ledger_journalentry"
# Per entry: its token, how many lines it has, their balance, and the sum of its debits in cents.
OLD = """
SELECT e.reference::text, count(l.id), coalesce(sum(l.debit - l.credit), 0), coalesce(sum(l.debit) * 100, 0)::bigint
FROM ledger_journalentry e LEFT JOIN ledger_journalline l ON l.entry_id = e.id GROUP BY e.id
"""
NEW = """
SELECT e.reference::text, count(p.id), coalesce(sum(p.amount_cents), 0),
       coalesce(sum(greatest(p.amount_cents, 0)), 0)::bigint
FROM ledger_journalentry e LEFT JOIN ledger_posting p ON p.entry_id = e.id GROUP BY e.id
"""


class Books:
    """What stands in the live database, against what people were told.

    `new`: it has the schema of the new release.
    """

    def __init__(self, stage: Stage, *, new: bool) -> None:
        self._stage = stage
        self._journal = stage.folder / "acknowledged.jsonl"
        self._told = acknowledged(self._journal)
        self._rows = [tuple(row) for row in stage.query(NEW if new else OLD)]

    def faults(self) -> list[str]:
        """What does not add up."""
        found = []
        tokens = [str(row[0]) for row in self._rows]
        if twice := {one for one in tokens if tokens.count(one) > 1} if len(set(tokens)) < len(tokens) else set():
            found.append(f"there twice: {sorted(twice)}")
        if broken := [row for row in self._rows if row[1] < 2 or row[2] != 0]:  # type: ignore[operator]
            found.append(f"entries without their lines, or that do not balance: {broken[:10]}")
        if missing := set(self._told) - set(tokens) - set(self._told_as_lost()):
            found.append(f"acknowledged, and neither there nor told as not carried: {sorted(missing)}")
        return found + self._wrong_sums()

    def _wrong_sums(self) -> list[str]:
        """An entry that was sent twice may have been posted by the first of them, which had another sum."""
        unsure = set(_sent_again(self._journal))
        sums = {str(token): cents for token, _, _, cents in self._rows}
        wrong = [
            f"{token}: {sums[token]} instead of {line['cents']}"
            for token, line in self._told.items()
            if token in sums and token not in unsure and sums[token] != line["cents"]
        ]
        return [f"sums that nobody posted: {wrong[:10]}"] if wrong else []

    def _told_as_lost(self) -> Iterator[str]:
        """The tokens of entries that a launch of this stage listed as not carried, or as left behind."""
        launches = self._stage.plan.state / "launches"
        left = [(path, ("",)) for path in launches.glob("*/left-behind*.csv")]
        for path, fates in (*left, *((path, ("not carried",)) for path in launches.glob("*/affected.csv"))):
            with path.open(newline="", encoding="utf-8") as file:
                for line in csv.DictReader(file):
                    if line["table"] == ENTRIES and line["fate"] in fates:
                        yield from (token for token in self._told if token in line["values"])


def _sent_again(journal: Path) -> Iterator[str]:
    yield from unknown(journal)
    with journal.open(encoding="utf-8") as lines:
        yield from (line.split('"token": "')[1][:36] for line in lines if '"state": "unknown"' in line)
