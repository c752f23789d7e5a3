"""How many changed rows each user has, for any number of users: what is held in memory does not grow with them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from typing import Final

_HELD: Final = 20_000
_ADD: Final = "INSERT INTO users VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET n = n + excluded.n"


class UserCounts:
    """Counts by user. The names that are not held lie in a file of SQLite without a name, which ends with this."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._store: sqlite3.Connection | None = None

    def add(self, user: str) -> None:
        """One row more."""
        self._held[user] += 1
        if len(self._held) >= _HELD:
            self._put_away()

    def _put_away(self) -> None:
        if self._store is None:
            self._store = sqlite3.connect("", isolation_level=None)
            self._store.execute("CREATE TABLE users (user TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID")
        self._store.execute("BEGIN")
        self._store.executemany(_ADD, self._held.items())
        self._store.execute("COMMIT")
        self._held.clear()

    def ended(self, most: int) -> tuple[dict[str, int], int]:
        """The first users, those with the most rows first, and how many there are. Nothing is counted afterwards."""
        if self._store is None:
            return dict(self._held.most_common(most)), len(self._held)
        self._put_away()
        with closing(self._store) as store:
            rows = store.execute("SELECT user, n FROM users ORDER BY n DESC, user LIMIT ?", (most,)).fetchall()
            (count,) = store.execute("SELECT count(*) FROM users").fetchone()
        return {str(user): int(n) for user, n in rows}, int(count)
